"""What one process (the only one, the controller, or a worker) knows of the run."""

from __future__ import annotations

import inspect
import json
import os
from dataclasses import fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from _pytest.pathlib import bestrelpath

from pytest_diffbench import calibration, edition, methods, noise, providers
from pytest_diffbench.demand import LEAST_PAIRS, demanded_speedup
from pytest_diffbench.devices import Device, inventory
from pytest_diffbench.errors import SetupError, SolutionFault
from pytest_diffbench.isolation import Standby, choose
from pytest_diffbench.isolation.limits import parse as parse_limits
from pytest_diffbench.plugin import ledger, reports
from pytest_diffbench.plugin.keys import ATTEMPT, DEMAND, EDITION, TRIED, ZOOS
from pytest_diffbench.prompt import render
from pytest_diffbench.providers import baseline_source
from pytest_diffbench.records import RequestSet, Stage
from pytest_diffbench.stages import Run, Settings
from pytest_diffbench.workbench import Workbench
from pytest_diffbench.zoo import models, supply
from pytest_diffbench.zoo.checkpoints import CHECKPOINTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_diffbench.calibration import Best, Calibration
    from pytest_diffbench.demand import Demand
    from pytest_diffbench.isolation import Policy
    from pytest_diffbench.judge.metric import Metric
    from pytest_diffbench.methods import Method
    from pytest_diffbench.noise import Noise
    from pytest_diffbench.providers import Provider
    from pytest_diffbench.zoo.models import Model
    from pytest_diffbench.zoo.supply import Weights

PREFERRED_DEVICE: Final = "DIFFBENCH_PREFERRED_DEVICE"
"""Set for each worker when it is started: the position of the device that it should try first."""
LEAST_IMAGES_AS_SETS: Final = 1000
OWN_PROVIDERS: Final[Mapping[str, Callable[[], Provider]]] = {
    "reference": providers.Reference,
    "baseline": providers.Baseline,
}
_NO_RULES: Final = ("seed", "requests", "images", "metrics", "load_timeout_s", "call_timeout_s")
"""Settings that say what is asked, shown or allowed, not how it is judged; reports and editions hold them elsewhere."""


class Session:
    """Providers, models, methods, devices and processes of one run."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.nodes: dict[tuple[str, str], str] = {}
        """Of each task's id and answer the first node that has it."""
        self.collected = 0
        """How many tasks were, each answer to one of them counted; of a controller of workers none."""
        self._asking: pytest.Item | None = None
        """The task that the provider is being asked for."""

    @cached_property
    def agent(self) -> str:
        """The chosen provider, as it was spelled."""
        return str(self.config.getoption("diffbench_agent") or self.config.getini("diffbench_agent"))

    @cached_property
    def agent_path(self) -> Path | None:
        """The file or folder that the agent is; None where it is a provider's name."""
        from_command_line = self.config.getoption("diffbench_agent") is not None
        base = self.config.invocation_params.dir if from_command_line else self.config.rootpath
        if self._named[0] in self.factories:
            return None
        path = base / self.agent
        looks_like_one = self.agent.endswith(".py") or "/" in self.agent or self.agent.startswith(".")
        return path if looks_like_one or path.is_dir() else None

    @cached_property
    def _named(self) -> tuple[str, str]:
        """The agent as a provider's name and what it is told, behind a colon."""
        name, _, argument = self.agent.partition(":")
        return name, argument

    @cached_property
    def factories(self) -> Mapping[str, Callable[..., Provider]]:
        """Every provider's maker by name; UsageError where two claim one."""
        found: dict[str, Callable[..., Provider]] = dict(OWN_PROVIDERS)
        for answer in self.config.hook.pytest_diffbench_providers(config=self.config):
            for name, factory in answer.items():
                if name in found:
                    raise pytest.UsageError(f"diffbench: two plugins supply a provider named {name!r}")
                found[name] = factory
        return found

    @cached_property
    def provider(self) -> Provider:
        """The chosen provider."""
        if self.agent_path is None:
            name, argument = self._named
            return self.factories[name](argument) if argument else self.factories[name]()
        if self.agent_path.is_dir():
            return providers.Folder(self.agent_path)
        return providers.SingleFile(self.agent_path)

    @cached_property
    def label(self) -> str:
        """The agent as records name it: a provider may say more than its name, such as the model that it asks."""
        if self.agent_path is not None:
            return self.agent
        try:
            provider = self.provider
        except pytest.UsageError:
            raise
        except Exception:  # noqa: BLE001 (whatever a plugin's factory raises, each task will report)
            return self.agent
        return str(getattr(provider, "label", self.agent))

    @cached_property
    def models(self) -> Mapping[str, Model]:
        """Every model by name."""
        added = self.config.hook.pytest_diffbench_models(config=self.config)
        return {model.name: model for model in (*models.FAMILIES, *(m for found in added for m in found))}

    @cached_property
    def methods(self) -> Mapping[str, Method]:
        """Every method by name."""
        added = self.config.hook.pytest_diffbench_methods(config=self.config)
        return {method.name: method for method in (*methods.BUILT_IN, *(m for found in added for m in found))}

    @cached_property
    def devices(self) -> tuple[Device, ...]:
        """The devices to time on; SetupError where a chosen one is not here."""
        chosen = self.config.getoption("diffbench_devices") or ""
        return inventory([name.strip() for name in chosen.split(",") if name.strip()])

    @cached_property
    def bench(self) -> Workbench:
        """The processes that outlive a task."""
        return Workbench(self.devices, Standby(self.policy), preferred=int(os.environ.get(PREFERRED_DEVICE, "0")))

    @cached_property
    def policy(self) -> Policy:
        """How solutions are kept in; UsageError where nothing does, or a limit makes no sense."""
        name, amounts = self._given("diffbench_isolation"), self._given("diffbench_limits")
        try:
            limits = parse_limits(amounts)
        except ValueError as error:
            raise pytest.UsageError(f"--diffbench-limits: {error}") from error
        try:
            found = choose(name, limits, self._readable())
        except SetupError as error:
            raise pytest.UsageError(str(error)) from error
        # forks of one process lie in memory alike: they are no fresh starts
        return replace(found, forks=False) if self.config.getoption("diffbench_certify") else found

    def _given(self, name: str) -> str:
        """An option's value, else its ini value."""
        return str(self.config.getoption(name) or self.config.getini(name))

    def _readable(self) -> tuple[str, ...]:
        from_command_line = [
            self.config.invocation_params.dir / name for name in self.config.getoption("diffbench_readable") or []
        ]
        named = [*from_command_line, *self.config.getini("diffbench_readable")]
        for path in named:
            if not path.exists():
                raise pytest.UsageError(f"--diffbench-readable: {path} does not exist")
        return tuple(str(path.resolve()) for path in named)

    @cached_property
    def ledger(self) -> ledger.Ledger:
        """What this process writes of the run, and what is known of it; nothing is made on disk yet."""
        return ledger.Ledger(self, ledger.place(self.config))

    @cached_property
    def seed(self) -> int:
        """What every request of the run is drawn from: given, or drawn by whoever started the run."""
        return int(self.config.getoption("diffbench_seed"))

    @cached_property
    def requests(self) -> RequestSet:
        """Which set every request of the run is drawn from; UsageError where that contradicts another option."""
        found = RequestSet(self.config.getoption("diffbench_requests"))
        if found is RequestSet.PUBLIC and self.config.getoption("diffbench_certify"):
            raise pytest.UsageError(
                "--diffbench-certify: results to publish need secret requests; drop --diffbench-requests=public"
            )
        return found

    @cached_property
    def zoo(self) -> supply.Zoo:
        """Where weights come from; UsageError of what cannot be meant."""
        name, prompts = self._given("diffbench_zoo"), self.config.getoption("diffbench_prompts")
        if name not in ZOOS:
            raise pytest.UsageError(f"diffbench_zoo: {name!r} is none of {', '.join(ZOOS)}")
        files = [self.config.invocation_params.dir / prompts] if prompts else self.config.getini("diffbench_prompts")
        return supply.Zoo(name, self._checkpoints(), files[0] if files else None)

    def _checkpoints(self) -> dict[str, str]:
        found: dict[str, str] = {}
        here, given = self.config.invocation_params.dir, self.config.getoption("diffbench_checkpoint") or []
        named = [(self.config.rootpath, line) for line in self.config.getini("diffbench_checkpoints")]
        named += [(here, line) for line in given]
        for base, line in named:
            name, _, place = line.partition("=")
            if name not in CHECKPOINTS or not place:
                raise pytest.UsageError(
                    f"--diffbench-checkpoint={line}: give NAME=FOLDER or NAME=hub/id@commit, "
                    f"where NAME is one of {', '.join(CHECKPOINTS)}"
                )
            found[name] = place if "@" in place else str(base / Path(place).expanduser())
        return found

    @cached_property
    def settings(self) -> Settings:
        """How the stages measure; UsageError where a number makes no sense."""
        images = self.config.getoption("diffbench_images")
        if images is not None and images < LEAST_IMAGES_AS_SETS:
            raise pytest.UsageError(
                f"--diffbench-images={images}: FID and KID say nothing of fewer than {LEAST_IMAGES_AS_SETS} images"
            )
        return Settings(
            most_pairs=self._most_pairs(),
            images=images,
            on_undecided=self.config.getoption("diffbench_undecided"),
            certify=self.config.getoption("diffbench_certify"),
            seed=self.seed,
            requests=self.requests,
            quick=self._quick(),
            race=self._race(),
            metrics=self._metrics(),
            load_timeout_s=self.policy.limits.load_s,
            call_timeout_s=self.policy.limits.call_s,
        )

    def _quick(self) -> bool:
        quick: bool = self.config.getoption("diffbench_quick")
        if quick and self.requests is not RequestSet.PUBLIC:
            raise pytest.UsageError("--diffbench-quick: a verdict takes its time: add --diffbench-requests=public")
        return quick

    def _race(self) -> float | None:
        race: float | None = self.config.getoption("diffbench_race")
        no_score = self.requests is RequestSet.PUBLIC or self.config.getoption("diffbench_certify")
        if race is not None and not (no_score and race > 0):
            raise pytest.UsageError(
                f"--diffbench-race={race:g}: give a speed-up above 0, and --diffbench-requests=public or "
                "--diffbench-certify: what is not judged has no verdict to speak of"
            )
        return race

    def _metrics(self) -> tuple[Metric, ...]:
        answers = self.config.hook.pytest_diffbench_metrics(config=self.config)
        found = tuple(metric for answer in answers for metric in answer)
        names = sorted(metric.name for metric in found)
        if len(set(names)) < len(names):
            raise pytest.UsageError(f"diffbench: two metrics have one name; they are {', '.join(names)}")
        return found

    def _most_pairs(self) -> int | None:
        given = self.config.getoption("diffbench_pairs")
        given = given if given is not None else self.config.getini("diffbench_pairs")
        if given == "":
            return None
        try:
            pairs = int(given)
        except ValueError:
            pairs = 0
        if pairs < LEAST_PAIRS:
            raise pytest.UsageError(
                f"diffbench: {given!r} is no number of pairs: give {LEAST_PAIRS} or more, fewer cannot decide anything"
            )
        return pairs

    @cached_property
    def versions(self) -> dict[str, str]:
        """Of the libraries that a measurement rests on."""
        return calibration.versions()

    @cached_property
    def durations(self) -> Mapping[str, float]:
        """How many seconds tasks took, by id, as far as anything says so; UsageError of a file that does not."""
        file = self._durations_file
        if file is None or not file.exists():
            return {}
        try:
            return {str(name): float(seconds) for name, seconds in json.loads(file.read_text()).items()}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise pytest.UsageError(
                f"diffbench_durations: {file} does not hold seconds by task id ({error}): "
                f"write it, diffbench durations RUN --out {bestrelpath(self.config.invocation_params.dir, file)}"
            ) from error

    @property
    def _durations_file(self) -> Path | None:
        named = self.config.getini("diffbench_durations")
        return (self.config.inipath.parent if self.config.inipath else self.config.rootpath) / named if named else None

    def missing_durations(self) -> list[str]:
        """Where a file of durations is named that is not there yet: it is written of a run, so the first has none."""
        file = self._durations_file
        if file is None or file.exists():
            return []
        shown = bestrelpath(self.config.invocation_params.dir, file)
        return [f"diffbench_durations: no {shown} yet; after this run: diffbench durations RUN --out {shown}"]

    @cached_property
    def machine(self) -> dict[str, str]:
        """What a calibration rests on."""
        return calibration.machine(self.devices, zoo=self.zoo.name, isolation=self.policy.stamp)

    @cached_property
    def _own_calibration(self) -> Calibration | None:
        """This machine's; UsageError where there is none, None where what is shipped will do (the paper's scale)."""
        try:
            return calibration.of_machine(self.machine)
        except SetupError as error:
            if self.config.getoption("diffbench_targets") == "paper":
                return None
            raise pytest.UsageError(str(error)) from error

    def with_target(self, demand: Demand) -> Demand:
        """The task as `--diffbench-targets` wants it; unchanged where nothing is known of its scenario.

        That is said when the task is set up: the others run all the same.
        """
        if not self._is_retargeted(demand):
            return demand
        best = self._best(demand)
        return demand if best is None else calibration.retargeted(demand, best, self._targets)

    @property
    def _targets(self) -> calibration.Scale:
        scale: calibration.Scale = self.config.getoption("diffbench_targets")
        return scale

    def _is_retargeted(self, demand: Demand) -> bool:
        return self._targets != "shipped" and demand.task.scenario is not None and demand.task.difficulty is not None

    def _best(self, demand: Demand) -> Best | None:
        """What a scenario's targets follow from; None where nothing is known of it."""
        best = self._own_best(demand)
        return calibration.shipped_with(demand) if best is None and self._targets == "paper" else best

    def _refuse_without_target(self, demand: Demand) -> None:
        if self._is_retargeted(demand) and self._best(demand) is None:
            raise SetupError(
                f"diffbench: nothing is known of its scenario {calibration.key_of(demand)!r}: calibrate it, pytest "
                f"{demand.folder} --diffbench-calibrate, or leave --diffbench-targets={self._targets} out"
            )

    def _own_best(self, demand: Demand) -> Best | None:
        """What this machine was found to do, if the scenario is still what it was."""
        own = self._own_calibration
        best = own.scenarios.get(calibration.key_of(demand)) if own is not None else None
        return best if best is not None and self.scenario_edition(demand) in (None, best.edition) else None

    def scenario_edition(self, demand: Demand) -> str | None:
        """Of a task's scenario with the weights and the baseline of this run; None where they are not here.

        That they are missing is said when the task is set up, with the mend.
        """
        try:
            return edition.of_scenario(demand, self.weights(demand), baseline_source(demand))
        except SetupError:
            return None

    @cached_property
    def noise(self) -> Noise | None:
        """What an A/A run said of the first device; None where none was made on this machine as it is now."""
        try:
            return noise.recall(self.devices[0])
        except SetupError:  # a device that is not here: refused when the session starts
            return None

    def target_lines(self) -> list[str]:
        """Where the targets of levels 4 and 5 are from, if not from what was shipped."""
        told = {
            "own": "of this machine's own calibration",
            "paper": "by the paper's scale, of this machine's own calibration where it has one, else of the shipped",
        }
        return [f"targets: {told[self._targets]}"] if self._targets in told else []

    def noise_lines(self, demands: Sequence[Demand]) -> list[str]:
        """What this machine can tell apart, and the targets that lie below it."""
        if self.noise is None:
            return ["diffbench: noise of this machine unknown: pytest --diffbench-null measures it in a minute"]
        lines = [f"diffbench: {self.noise.describe()}"]
        if self.noise.problem:
            lines.append(f"diffbench: this machine is not fit to time on: {self.noise.problem}")
        hidden = [demand.task_id for demand in demands if self._hides(demand)]
        if hidden:
            shown = ", ".join(hidden[:5]) + (f" and {len(hidden) - 5} more" if len(hidden) > 5 else "")
            lines.append(f"diffbench: too noisy for the targets of {shown}: expect second tries, or UNDECIDED")
        return lines

    def _hides(self, demand: Demand) -> bool:
        """Whether even a candidate that just reaches the target could not be told from the baseline."""
        target = demanded_speedup(demand.markers)
        if target is None or self.noise is None:
            return False
        return self.noise.smallest_speedup is None or target < self.noise.smallest_speedup

    def attempts(self) -> tuple[str, ...]:
        """The names of the answers that any task may have, '' for a single one; none where every task has just that."""
        if self.agent_path is not None and self.agent_path.is_dir():
            names = providers.answer_names(self.agent_path)
            return ("", *names) if names else ()
        count = self.config.getoption("diffbench_attempts")
        return tuple(str(number + 1) for number in range(count)) if count > 1 else ()

    def answers(self, demand: Demand, attempt: str) -> bool:
        """Whether a task has this answer (a task without any keeps its place, and is not solved)."""
        if self.agent_path is None or not self.agent_path.is_dir():
            return True
        several = providers.answer_names(self.agent_path, demand.task_id)
        return attempt in several if several else not attempt

    def validate(self) -> None:
        """UsageError where the command line cannot be carried out."""
        if self.config.getoption("diffbench_attempts") < 1:
            raise pytest.UsageError("--diffbench-attempts: give 1 or more")
        if self.agent_path is None and self._named[0] not in self.factories:
            names = ", ".join(sorted(self.factories))
            raise pytest.UsageError(
                f"--diffbench-agent={self.agent}: no such provider; use one of {names}, a .py file, or a folder"
            )
        if self.agent_path is None and (problem := self._argument_problem()):
            raise pytest.UsageError(f"--diffbench-agent={self.agent}: {problem}")
        _ = self.label  # a provider that lacks an option says so now
        _ = self.durations
        if "PYTEST_XDIST_WORKER" not in os.environ:
            self.ledger.refuse_another_agent()
        if self.config.getoption("diffbench_targets") == "own":
            _ = self._own_calibration
        if self.config.getoption("diffbench_attempts") > 1 and self.agent_path is not None:
            raise pytest.UsageError(
                f"--diffbench-attempts: {self.agent} is asked nothing: several answers to a task are files of a folder "
                "with its id, FOLDER/<task-id>/1.py, 2.py, …"
            )
        if self.agent_path is not None and not self.agent_path.exists():
            raise pytest.UsageError(f"--diffbench-agent={self.agent}: {self.agent_path} does not exist")
        if (
            self.zoo
            and self.settings
            and self.config.getoption("dist", default="no")
            in (
                "loadscope",
                "loadfile",
                "loadgroup",
            )
        ):
            raise pytest.UsageError(
                "--dist: use load or worksteal; the other schedulers lose or repeat tasks when a worker dies"
            )
        try:
            _ = self.devices
        except SetupError as error:
            raise pytest.UsageError(str(error)) from error

    def _argument_problem(self) -> str:
        name, argument = self._named
        given = (argument,) if argument else ()
        try:
            inspect.signature(self.factories[name]).bind(*given)
        except TypeError:
            return f"{name!r} takes nothing behind a colon" if given else f"say what, behind a colon: {name}:…"
        return ""

    def weights(self, demand: Demand) -> Weights:
        """What a task's model is made of here; SetupError where something is missing."""
        if demand.model.folder is None:
            return self.zoo.supply(demand.model, image_to_image=demand.task.strength is not None)
        prompts, scorer = demand.task.prompts, demand.task.scorer
        missing = [n for n in ("baseline", "prompts", "scorer") if getattr(demand.task, n) is None]
        if missing or prompts is None or scorer is None:
            examples = {
                "baseline": "baseline='baseline.py'",
                "prompts": "prompts='prompts.txt'",
                "scorer": "scorer='./my-clip'",
            }
            raise SetupError(
                f"diffbench: model {demand.model.name!r} is your own, so the task must bring its own judge: "
                f"add {', '.join(examples[name] for name in missing)} to Task(...)"
            )
        images = demand.folder / demand.task.images if demand.task.images is not None else None
        return supply.own(demand.model, demand.folder / prompts, demand.folder / scorer, images)

    def model_folder(self, demand: Demand) -> Path | None:
        """Where a task's model lies; None where something is missing, which the task itself will say."""
        try:
            return self.weights(demand).path
        except SetupError:
            return None

    def prompt(self, demand: Demand) -> str:
        """A task as text for a solver."""
        device = self.devices[0]
        return render(demand, device_kind=device.kind, device_model=device.model, side_px=self._side_px(demand))

    def _side_px(self, demand: Demand) -> int | None:
        """Of its images here; None where weights are missing, as for prompts that are taken elsewhere."""
        try:
            return self.weights(demand).side_px(demand.size)
        except SetupError:
            return None

    def prepare(self, item: pytest.Item, demand: Demand, attempt: str) -> Run:
        """Everything that a task needs before a device is leased; SetupError where it cannot be had."""
        self.validate()
        if self._hides(demand):
            reports.say(item, self, Stage.EXECUTABILITY, "this machine is too noisy for the target at once")
        weights = self.weights(demand)
        self._refuse_without_target(demand)
        self.policy.refuse_closed(weights.path)
        baseline_source = providers.baseline_source(demand)
        item.stash[EDITION] = edition.of_task(demand, weights, baseline_source, self._asserted(item))
        solution = self._answer(item, demand, attempt)
        item.stash[TRIED] = tried = self.ledger.begin(
            item,
            demand,
            answer=solution,
            attempt=attempt,
            weights=weights,
            baseline_source=baseline_source,
            isolation=self.policy.stamp,
            task_edition=item.stash[EDITION],
        )
        if tried.known is not None:
            reports.say(item, self, Stage.EXECUTABILITY, "known from the journal, not measured again")
        return Run(
            demand,
            weights,
            solution,
            baseline_source,
            name=item.nodeid,
            bench=self.bench,
            settings=self.settings,
            say=partial(reports.say, item, self),
            record=tried.record,
        )

    def _asserted(self, item: pytest.Item) -> dict[str, object]:
        """What a test demands beside its markers."""
        names = getattr(item, "fixturenames", ())
        return {
            "stages": [stage for stage in Stage if stage in names],
            "test": ledger.test_source(item),
            "metrics": [(m.name, m.max_loss, m.higher_is_better) for m in self.settings.metrics],
            **self._judged_otherwise(),
        }

    def _judged_otherwise(self) -> dict[str, object]:
        """Which rules of the judge are other ones by the command line; nothing where none is."""
        usual, chosen = Settings(), self.settings
        ours = {each.name: getattr(chosen, each.name) for each in fields(Settings) if each.name not in _NO_RULES}
        return {name: value for name, value in ours.items() if value != getattr(usual, name)}

    @cached_property
    def _asks(self) -> bool:
        """Whether answers come from somebody who is asked once in a run; files are read each time."""
        return self.agent_path is None and self._named[0] not in OWN_PROVIDERS

    def _answer(self, item: pytest.Item, demand: Demand, attempt: str) -> providers.Solution | SolutionFault:
        """What the provider says, or has said in this run, however often it was cut off."""
        prompt = self.prompt(demand)
        if self._asks:
            self.ledger.open()  # before anything is paid for: who is killed while asking can be resumed
            self._prefetch(item)
            answered = self.ledger.answered(item, prompt)
            if answered is not None:
                return answered
        self._asking = item
        try:
            answer: providers.Solution | SolutionFault = self.provider.solve(demand, prompt, attempt)
        except SolutionFault as fault:
            answer = fault
        finally:
            self._asking = None
        self.ledger.keep_answer(item, prompt, answer)
        return answer

    def tell(self, line: str) -> None:
        """Show what a provider says of the task that it is asked for, in whatever process that is."""
        if self._asking is not None:
            reports.say(self._asking, self, "solution", line)

    def _prefetch(self, item: pytest.Item) -> None:
        """Tell the provider which tasks are next, so that it need not begin only when a device waits for it."""
        prefetch, ahead = getattr(self.provider, "prefetch", None), self.config.getoption("diffbench_prefetch")
        if prefetch is None or ahead < 1:
            return
        items = item.session.items
        following = [each for each in items[items.index(item) + 1 :] if DEMAND in each.stash][:ahead]
        told = [(each, each.stash[DEMAND], self.prompt(each.stash[DEMAND])) for each in following]
        prefetch(
            [
                (demand, prompt, each.stash[ATTEMPT])
                for each, demand, prompt in told
                if self.ledger.answered(each, prompt) is None
            ]
        )

    def close(self) -> None:
        """End every process that was started."""
        if "bench" in self.__dict__:
            self.bench.close()
        if "ledger" in self.__dict__:
            self.ledger.close()
