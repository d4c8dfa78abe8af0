"""Two runs compared task by task: of one edition, isolation and device, by first answers, secret requests only."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_diffbench import resampling
from pytest_diffbench.errors import SetupError
from pytest_diffbench.records import RequestSet, Verdict
from pytest_diffbench.scoring import achievement, firsts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_diffbench.records import TaskReport


@dataclass(frozen=True)
class Pairing:
    """What two runs did on the tasks that both measured."""

    both: int
    """Tasks that both passed."""
    first_only: int
    second_only: int
    neither: int
    difference: float
    """S_p of the second less that of the first."""
    interval: tuple[float, float] | None
    """95 %, by `resampling.interval`; None of one scenario only, and where no task tells the runs apart."""
    p_value: float
    """Of no difference, by the exact sign test over scenarios: in how many did either pass more tasks than the other?

    Where each task is a scenario of its own that is McNemar's exact test.
    """
    achievement_difference: float | None
    """S_a of the second less that of the first; None where no hard task is among them."""
    left_out: int
    """Tasks that only one of them has, or that our own fault kept from a verdict in one."""
    other_editions: int
    """Tasks whose demand, target, baseline, weights or judge is not the same in both."""
    other_isolation: int
    """Tasks of the same edition whose solutions were kept in by other means, which costs time."""

    other_devices: int
    """Tasks of the same edition and isolation that were timed on another model of device."""

    @property
    def tasks(self) -> int:
        """Those compared."""
        return self.both + self.first_only + self.second_only + self.neither


def paired(first: Sequence[TaskReport], second: Sequence[TaskReport]) -> Pairing:
    """The second run against the first; SetupError where nothing may be compared, with why."""
    # imported here: half a second
    from scipy.stats import binomtest

    one, other = _by_name(firsts(first)), _by_name(firsts(second))
    common = [(one[name], other[name]) for name in one if name in other]
    if any(report.requests is RequestSet.PUBLIC for pair in common for report in pair):
        raise SetupError("diffbench: a run on public requests has no score to compare: run it on secret ones")
    both = [pair for pair in common if Verdict.INFRA not in (pair[0].verdict, pair[1].verdict)]
    same = [pair for pair in both if pair[0].task_edition and pair[0].task_edition == pair[1].task_edition]
    alike = [pair for pair in same if pair[0].isolation == pair[1].isolation]
    if same and not alike:
        raise SetupError(
            f"diffbench: nothing can be compared: isolation was {same[0][0].isolation} in the one run and "
            f"{same[0][1].isolation} in the other: run both under the same, --diffbench-isolation=…"
        )
    measured = [pair for pair in alike if _on_one_device(*pair)]
    if alike and not measured:
        raise SetupError(
            f"diffbench: nothing can be compared: one run was timed on {_model(alike[0][0])}, the other on "
            f"{_model(alike[0][1])}: run both on the same model of device"
        )
    if not measured:
        raise SetupError(
            f"diffbench: nothing can be compared: the runs have {len(common)} tasks in common, {len(both)} of them "
            "measured in both, and none of those in the same edition (older files name none: run it again)"
        )
    passes = [(a.verdict is Verdict.PASS, b.verdict is Verdict.PASS) for a, b in measured]
    first_only, second_only = passes.count((True, False)), passes.count((False, True))
    shares = [
        resampling.Value(report.model, report.scenario or report.task_id, float(theirs) - float(ours))
        for (report, _), (ours, theirs) in zip(measured, passes, strict=True)
    ]
    better, worse = _signs(shares)
    hard = [achievement(b) - achievement(a) for a, b in measured if a.difficulty == "hard"]
    return Pairing(
        both=passes.count((True, True)),
        first_only=first_only,
        second_only=second_only,
        neither=passes.count((False, False)),
        difference=sum(each.value for each in shares) / len(shares),
        interval=resampling.interval(shares, differences=True) if first_only or second_only else None,
        p_value=float(binomtest(better, better + worse).pvalue) if better + worse else 1.0,
        achievement_difference=sum(hard) / len(hard) if hard else None,
        left_out=len(one) + len(other) - len(common) - len(both),
        other_editions=len(both) - len(same),
        other_isolation=len(same) - len(alike),
        other_devices=len(alike) - len(measured),
    )


def _on_one_device(one: TaskReport, other: TaskReport) -> bool:
    """Also what was refused before it was timed anywhere."""
    return "" in (one.device, other.device) or _model(one) == _model(other)


def _model(report: TaskReport) -> str:
    """Of 'cpu:0 (AMD EPYC 9655)' what stands in brackets: any core of that is as good."""
    return report.device.partition(" ")[2].removeprefix("(").removesuffix(")")


def _signs(shares: Sequence[resampling.Value]) -> tuple[int, int]:
    """In how many scenarios the second run passed more tasks than the first, and in how many fewer."""
    nets: defaultdict[object, float] = defaultdict(float)
    for each in shares:
        nets[each.family, each.scenario] += each.value
    return sum(net > 0 for net in nets.values()), sum(net < 0 for net in nets.values())


def _by_name(reports: Sequence[TaskReport]) -> dict[str, TaskReport]:
    """By task; where one has several answers that have names, by those too."""
    several = Counter(report.task_id for report in reports)
    return {
        report.task_id
        if several[report.task_id] == 1
        else f"{report.task_id} {report.nodeid.rpartition('::')[2]}": report
        for report in reports
    }
