"""A task without a test file: what the `diffagent` command was told, as a demand, a machine and a place for results."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from diffagent import profile
from diffagent.arms import LANGUAGE, Setting, without
from diffagent.budget import FOLDER, Budget, Purse
from diffagent.calls import ANSWERS, Calls, Price, prices, unpriced
from diffagent.catalogue import METHODS
from diffagent.generation import Run, standing
from diffagent.knowledge import Knowledge, KnowledgeError, known, read
from diffagent.llm import LanguageModel, by_role
from pytest_diffbench import Task, calibration, methods
from pytest_diffbench.demand import Demand, Markers, QualityDemand, SpeedDemand, resolve
from pytest_diffbench.devices import inventory
from pytest_diffbench.errors import SetupError
from pytest_diffbench.isolation import choose
from pytest_diffbench.prompt import render
from pytest_diffbench.providers import baseline_source
from pytest_diffbench.zoo import supply
from pytest_diffbench.zoo.models import FAMILIES

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from diffagent.arms import Name
    from diffagent.profile import Profile
    from pytest_diffbench.devices import Device
    from pytest_diffbench.zoo.supply import Weights

ZOOS: Final = ("tiny", "full")
OWN: Final = ("baseline", "prompts", "scorer", "images")
_STORE: Final = ".diffbench"


def add_arguments(parser: ArgumentParser) -> None:
    """What every command needs to know of the task."""
    parser.add_argument("--model", required=True, metavar="ZOO:NAME|FOLDER", help="tiny:sd15, full:sdxl, ./my-model")
    parser.add_argument("--min-speedup", type=float, required=True, metavar="X", help="so many times faster")
    parser.add_argument("--max-loss", type=float, default=0.05, help="share of the CLIP-Score (default 0.05)")
    parser.add_argument("--steps", type=int, help="denoising steps today (default: the model's own)")
    parser.add_argument("--size", type=int, help="pixels today (default: the model's own)")
    parser.add_argument("--sampler", help="today's: pndm, ddim, dpm_solver, unipc, euler, heun")
    parser.add_argument("--guidance", type=float, help="guidance scale today")
    parser.add_argument("--strength", type=float, help="image-to-image: how much of an image is made anew")
    for name in OWN:
        parser.add_argument(f"--{name}", metavar="PATH", help=f"the task's {name}, for a model of your own")
    parser.add_argument("--out", type=Path, help="folder for everything that is found (default: NAME-fast)")
    parser.add_argument("--devices", metavar="LIST", help="what to time on, such as cpu:0,cpu:1 (default: all)")
    parser.add_argument("--llm", metavar="MODEL", help="the language model that is asked, for searches that ask one")
    parser.add_argument("--llm-role", action="append", default=[], metavar="ROLE=MODEL", help="another one for a role")
    parser.add_argument("--llm-temperature", type=float, metavar="X", help="passed on to the server")
    parser.add_argument("--llm-max-tokens", type=int, metavar="N", help="the most tokens of one reply")
    parser.add_argument(
        "--llm-price",
        action="append",
        default=[],
        metavar="IN,OUT",
        help="dollars a million tokens, MODEL=IN,OUT of one of several",
    )
    parser.add_argument("--selection", choices=("pareto", "paper"), default="pareto", help="who is built upon")
    parser.add_argument("--without", default="", metavar="LIST", help="parts, or methods, that a search does without")
    parser.add_argument("--knowledge", type=Path, metavar="FOLDER", help="methods of your own, a folder each")
    parser.add_argument("--readable", action="append", default=[], metavar="PATH", help="what solutions may read")
    parser.add_argument("--budget-device-s", type=float, metavar="X", help="the most device seconds to measure")
    parser.add_argument("--budget-usd", type=float, metavar="X", help="the most dollars to spend on a language model")


@dataclass(frozen=True)
class Workplace:
    """What was asked for, and where it is done."""

    asked: Namespace
    out: Path

    @classmethod
    def of(cls, asked: Namespace) -> Workplace:
        """The folder is made; the task is looked at when it is first needed."""
        model = asked.model.rpartition(":")[2] if ":" in asked.model else asked.model
        out = (asked.out or Path(f"{Path(model).name}-fast")).resolve()
        out.mkdir(parents=True, exist_ok=True)
        return cls(asked, out)

    @property
    def zoo(self) -> str:
        """Where the model's weights come from."""
        zoo = self.asked.model.rpartition(":")[0]
        return zoo if zoo in ZOOS else "tiny"

    @cached_property
    def demand(self) -> Demand:
        """The task; TaskError with every problem of it."""
        asked, folder = self.asked, self.out
        zoo, _, name = asked.model.rpartition(":")
        model = name if zoo in ZOOS else asked.model
        own = {each: str(Path(path).resolve()) for each in OWN if (path := getattr(asked, each)) is not None}
        return resolve(
            Task(
                str(Path(model).resolve()) if Path(model).is_dir() else model,
                steps=asked.steps,
                size=asked.size,
                sampler=asked.sampler,
                guidance=asked.guidance,
                strength=asked.strength,
                baseline=own.get("baseline"),
                prompts=own.get("prompts"),
                scorer=own.get("scorer"),
                images=own.get("images"),
            ),
            Markers(speed=SpeedDemand(asked.min_speedup), quality=QualityDemand(asked.max_loss)),
            task_id=f"{folder.name}-optimise",
            summary=f"At least {asked.min_speedup:g} times faster, losing at most {asked.max_loss:.0%} of CLIP-Score.",
            folder=folder,
            known_models={each.name: each for each in FAMILIES},
            known_methods={each.name: each for each in (*methods.BUILT_IN, *METHODS)},
        )

    @cached_property
    def devices(self) -> tuple[Device, ...]:
        """What is timed on."""
        return inventory([each for each in (self.asked.devices or "").split(",") if each])

    @cached_property
    def machine(self) -> dict[str, str]:
        """What measurements rest on here; SetupError where nothing keeps solutions in."""
        return calibration.machine(self.devices, zoo=self.zoo, isolation=choose().stamp)

    @cached_property
    def options(self) -> tuple[str, ...]:
        """Of every pytest run: its own rootdir and settings, so that no other project's are taken for its."""
        settings = self.out / "pytest.ini"
        if not settings.exists():
            settings.write_text("[pytest]\naddopts = -p no:cacheprovider\n")
        chosen = [f"--diffbench-devices={self.asked.devices}"] if self.asked.devices else []
        chosen += [f"--diffbench-readable={Path(path).resolve()}" for path in self.asked.readable]
        return (f"--rootdir={self.out}", "-c", str(settings), f"--diffbench-zoo={self.zoo}", *chosen)

    @cached_property
    def knowledge(self) -> Knowledge:
        """What is known of methods, the user's own among them."""
        if self.asked.knowledge is None:
            return known()
        try:
            return read(self.asked.knowledge, known())
        except KnowledgeError as error:
            raise SetupError(f"diffagent: --knowledge={self.asked.knowledge}: {error}") from error

    @cached_property
    def prices(self) -> dict[str, Price]:
        """Of language models, where they are given."""
        try:
            return prices(self.asked.llm_price)
        except ValueError as error:
            raise SetupError(f"diffagent: --llm-price={error}") from error

    @cached_property
    def budget(self) -> Budget:
        """Device seconds and dollars, where they are limited."""
        given = {Purse.DEVICE_S: self.asked.budget_device_s, Purse.USD: self.asked.budget_usd}
        limits = {purse: amount for purse, amount in given.items() if amount is not None}
        if any(amount <= 0 for amount in limits.values()):
            raise SetupError("diffagent: --budget-device-s, --budget-usd: give more than 0")
        if Purse.USD in limits and not self.prices:
            raise SetupError("diffagent: --budget-usd: what does a token cost? add --llm-price=IN,OUT")
        return Budget(self.out / _STORE / FOLDER, limits)

    def run(self) -> Run:
        """How generations are measured."""
        workers = len(self.devices) if len(self.devices) > 1 else 0
        return Run(
            self.options,
            Path.cwd(),
            workers,
            budget=self.budget,
            facts=lambda demand: standing(demand, self.weights, self.machine),
        )

    def setting(self, arm: Name, **more: Any) -> Setting:
        """What all searches of an arm share; SetupError of a language model that nobody named."""
        asked = self.asked
        try:
            left_out = without(asked.without, arm, self.knowledge)
        except ValueError as error:
            raise SetupError(f"diffagent: --without: {error}") from error
        return Setting(
            self.run(),
            self.devices[0].kind,
            knowledge=self.knowledge,
            selection=asked.selection,
            without=left_out,
            calls=self._calls(arm) if arm in LANGUAGE else None,
            model=asked.llm or "",
            profile=lambda _: self.profile,
            **more,
        )

    def _calls(self, arm: Name) -> Calls:
        asked = self.asked
        if not asked.llm:
            raise SetupError(f"diffagent: {arm} asks a language model: add --llm=MODEL, as its server names it")
        try:
            settings = by_role(asked.llm, asked.llm_role, asked.llm_temperature, asked.llm_max_tokens)
        except ValueError as error:
            raise SetupError(f"diffagent: --llm-role={error}") from error
        without_price = unpriced((each.model for each in settings.values()), self.prices)
        if without_price and self.budget.limit(Purse.USD) is not None:
            raise SetupError(f"diffagent: --budget-usd: what does a token of {without_price[0]} cost? add --llm-price")
        folder, models = self.out / _STORE, {role: LanguageModel(each) for role, each in settings.items()}
        return Calls(models, folder / ANSWERS, folder / FOLDER, budget=self.budget, prices=self.prices)

    @cached_property
    def weights(self) -> Weights:
        """What the model is made of; SetupError where something is missing."""
        demand = self.demand
        if demand.model.folder is None:
            return supply.Zoo(self.zoo).supply(demand.model, image_to_image=demand.task.strength is not None)
        task = demand.task
        if task.prompts is None or task.scorer is None or task.baseline is None:
            missing = [f"--{name}" for name in OWN[:3] if getattr(task, name) is None]
            raise SetupError(
                f"diffagent: {self.asked.model!r} is your own, so you must say how it is run and judged: add "
                f"{', '.join(missing)}"
            )
        images = Path(task.images) if task.images is not None else None
        return supply.own(demand.model, Path(task.prompts), Path(task.scorer), images)

    @cached_property
    def profile(self) -> Profile:
        """Where the time goes today."""
        demand = self.demand
        return profile.kept(self.out / _STORE, demand, self.weights, baseline_source(demand), self.devices)

    @cached_property
    def prompt(self) -> str:
        """The task as text, for searches that ask a language model."""
        device, side_px = self.devices[0], self.weights.side_px(self.demand.size)
        return render(self.demand, device_kind=device.kind, device_model=device.model, side_px=side_px)
