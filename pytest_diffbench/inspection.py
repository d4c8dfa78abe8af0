"""The last look at a solution that would pass: inside one call, at calls that it is not watched in, at another model's.

Nothing here counts as timed. What a solution shows of itself can only lose a pass, for it shares the process that
looks; so it is also asked what it cannot know to be a look, or cannot answer in time if it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytest_diffbench import agreement, static_check
from pytest_diffbench.errors import SolutionFault
from pytest_diffbench.records import Cause
from pytest_diffbench.wire import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from pytest_diffbench.clock import Pair
    from pytest_diffbench.demand import Demand
    from pytest_diffbench.isolation import Sandbox
    from pytest_diffbench.records import Observation
    from pytest_diffbench.records import Record as Recorder
    from pytest_diffbench.requests import Requests
    from pytest_diffbench.workbench import BaselineArm

DESCRIBE_TIMEOUT_S: Final = 30.0
MOST_CALLS: Final = 6
"""With a model in disorder, until one takes no longer than it may: a process that was just started gets faster."""
LEAST_CHANGE: Final = 4.0
"""Levels of 255 that an image changes by on average; `benchmarks/inspection.py` measures them."""
MOST_FACTOR: Final = 2.0
"""Over the slowest call that was timed."""


class Inspection:
    """One solution, looked at through one sandbox after the other; SolutionFault of what contradicts its task."""

    def __init__(
        self,
        demand: Demand,
        source: str,
        *,
        requests: Callable[[str], Requests],
        call_timeout_s: float,
        say: Callable[[str], None],
        record: Recorder,
    ) -> None:
        self._demand = demand
        self._source = source
        self._requests = requests
        self._call_timeout_s = call_timeout_s
        self._say = say
        self._record = record

    def observe(self, candidate: Sandbox, baseline: BaselineArm | None) -> tuple[Record, Record]:
        """What one call of each arm shows, for the same requests; an empty record where nothing can be seen."""
        self._say("looking at one call")
        requests = self._requests("observed").batch()
        timeout_s = max(DESCRIBE_TIMEOUT_S, self._call_timeout_s)
        right = baseline.describe(requests, timeout_s=timeout_s) if baseline is not None else Record()
        candidate.resume()
        try:
            return candidate.describe(requests, timeout_s=timeout_s), right
        except SolutionFault as fault:
            if fault.cause not in (Cause.TIMEOUT, Cause.MEMORY):
                raise
            return Record(), right  # being observed takes more time and memory, which is not its fault

    def look_away(self, candidate: Sandbox, seen: Observation, right: Observation) -> None:
        """Calls that are looked at and calls that are not, in turn: who makes steps for show takes longer for them.

        Only where the task fixes the calls of the denoiser, and some were seen.
        """
        # imported here: scipy
        from pytest_diffbench import pretence

        if not (seen.denoiser_calls and self._demand.fixes_calls):
            return
        if static_check.compiles(self._source):  # looked at, it runs as it was written, which takes longer
            return
        self._say("looking at it and away")
        requests, timeout_s = self._requests("watched"), self._call_timeout_s
        watched_s: list[float] = []
        unwatched_s: list[float] = []
        while pretence.another_round(watched_s, unwatched_s):
            unwatched_s.append(candidate.generate(requests.batch(), timeout_s=timeout_s).elapsed_s)
            record, elapsed_s = candidate.watch(requests.batch(), timeout_s=timeout_s)
            watched_s.append(elapsed_s)
            for problem in self._contradictions(agreement.observation(record), seen, right):
                raise SolutionFault(Cause.KEY_ATTRIBUTE, problem)
        self._record("inspected", {"watched_s": watched_s, "unwatched_s": unwatched_s})
        if pretence.pretends(watched_s, unwatched_s):
            times = pretence.factor(watched_s, unwatched_s)
            raise SolutionFault(
                Cause.KEY_ATTRIBUTE,
                f"a call takes {times:.2f} times as long when its denoiser is looked at: it does more for show",
            )

    def _contradictions(self, short: Observation, seen: Observation, right: Observation) -> Iterator[str]:
        if not short.denoiser_calls:
            yield f"its denoiser was called {seen.denoiser_calls} times in one look, and not at all in another"
        yield from agreement.problems(short, right, self._demand)

    def change_model(self, candidate: Sandbox, timed: Pair, slowest_s: float) -> None:
        """A process with a model in disorder: the images of a timed request must change, in no more time than before.

        Images that stay as they are do not come from the model; who makes them from it only now takes longer.
        """
        self._say("asking it with a model in disorder")
        reply = candidate.generate(timed.requests, timeout_s=self._call_timeout_s)
        change, times_s = mean_difference(timed.candidate.images, reply.images), [reply.elapsed_s]
        while min(times_s) > MOST_FACTOR * slowest_s and len(times_s) < MOST_CALLS:
            times_s.append(candidate.generate(timed.requests, timeout_s=self._call_timeout_s).elapsed_s)
        elapsed_s = min(times_s)
        self._record("inspected", {"mean_difference": change, "disordered_s": elapsed_s})
        if change < LEAST_CHANGE:
            raise SolutionFault(
                Cause.KEY_ATTRIBUTE,
                f"its images change by {change:.1f} of 255 levels: they do not come from it",
            )
        if elapsed_s > MOST_FACTOR * slowest_s:
            raise SolutionFault(
                Cause.KEY_ATTRIBUTE,
                f"a call takes {elapsed_s:.3g} s, {slowest_s:.3g} s at most when timed: it does something else then",
            )


def mean_difference(some: Sequence[NDArray[np.uint8]], others: Sequence[NDArray[np.uint8]]) -> float:
    """Of images of one size, in levels of 255; of several pairs the smallest."""
    # imported here: collecting tasks must not load it
    import numpy as np

    both = zip(some, others, strict=True)
    return min(float(np.abs(one.astype(np.int16) - other).mean()) for one, other in both)
