"""The harness attacks itself: every exploit runs as a solution, and must get its verdict and nothing else."""

from __future__ import annotations

import ast
import contextlib
import datetime as dt
import importlib.metadata
import os
import platform
import re
import secrets
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from pytest_diffbench import __version__, methods, providers, throwaway
from pytest_diffbench.demand import ExecutabilityDemand, Markers, QualityDemand, SpeedDemand, resolve
from pytest_diffbench.devices import inventory, lease
from pytest_diffbench.errors import SetupError, SolutionFault
from pytest_diffbench.isolation import Limits, Policy, Standby, Tier, choose
from pytest_diffbench.isolation.tier import trial
from pytest_diffbench.providers.reference import root as reference_root
from pytest_diffbench.records import Verdict
from pytest_diffbench.requests import Requests
from pytest_diffbench.stages import ORDER, Run, Settings
from pytest_diffbench.targets import Aftermath, Grounds, Targets
from pytest_diffbench.task import Task
from pytest_diffbench.workbench import Workbench
from pytest_diffbench.zoo import supply
from pytest_diffbench.zoo.weights import TINY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.devices import Device
    from pytest_diffbench.isolation import Reply, Sandbox
    from pytest_diffbench.wire import Request
    from pytest_diffbench.zoo.supply import Weights

GROUPS: Final = ("isolation", "harness", "diffusion", "honest")
HARMLESS: Final = ("diffusion", "honest")
"""Groups that only answer wrongly, or rightly: they may run without isolation anywhere."""
TASKS: Final = ("drawing", "denoising")
DEMANDED_SPEEDUP: Final = 1.5
DENOISING_STEPS: Final = 20
"""Of DDIM; PNDM, the model's own sampler, is lost with so few."""
DENOISING_GUIDANCE: Final = 2.5
"""With less guidance than today's 7.5, ten steps already score within 0.1 % of twenty: ten images decide."""
TIMEOUT_S: Final = 60.0
"""For loading and for a call, where an exploit names none; one that hangs names a short one."""
CAPTIONS: Final = 600
LIMITS: Final = Limits(
    memory_bytes=2 << 30, processes=256, disk_bytes=256 << 20, files=10_000, output_bytes=16 << 20, open_files=1024
)
"""Less than a run allows, so that what goes beyond can be tried on any machine, and quickly."""
PREPARED: Final = ("numpy", "PIL.Image")
"""All that most exploits need; the others pay for torch when they load."""
BROKE: Final = "BROKE:"
"""How an exploit says in an error's text that it got what it wanted."""
_TARGETS: Final = re.compile(r"^TARGETS\b.*$", re.MULTILINE)
_LIBRARIES: Final = ("torch", "diffusers", "numpy")

ARTIST: Final = '''"""Draws what the caption says after a nap that stands for a denoiser: the task's baseline."""

import time

import numpy as np
from pytest_diffbench.zoo import drawings


def load(model, device):
    return None


def generate(pipeline, requests):
    time.sleep(0.02)
    return [draw(request) for request in requests]


def draw(request):
    words = drawings.stated(request.prompt)
    if len(words) < 6:
        return np.zeros((request.height, request.width, 3), np.uint8)
    return drawings.draw(drawings.Scene(**words), np.random.default_rng(request.seed))
'''


@dataclass(frozen=True)
class Exploit:
    """A solution that tries something, or that is honest, and what must become of it."""

    name: str
    """Its group and the trick: 'isolation/reads_the_parents_environment'."""
    summary: str
    source: str
    verdict: Verdict
    causes: tuple[str, ...]
    """Values of `records.Cause` that its failure may have; empty for a pass."""
    task: str
    control: bool
    """Whether it must be seen to break something where nothing isolates it."""
    timeout_s: float = TIMEOUT_S
    open: bool = False
    """Whether it is known to get through: it must not, and nothing stops it yet."""
    demand: Mapping[str, object] = field(default_factory=dict)
    """What its task demands beside the usual: arguments of `Task`, and `speed`, None where none is demanded."""

    @property
    def group(self) -> str:
        """The folder it lies in."""
        return self.name.partition("/")[0]

    @property
    def expected(self) -> str:
        """What it must get."""
        return " ".join([self.verdict, *([" or ".join(self.causes)] if self.causes else [])])


@dataclass(frozen=True)
class Finding:
    """What became of an exploit."""

    name: str
    expected: str
    found: str
    as_expected: bool
    """Whether verdict and cause are those that it must get."""
    broke: tuple[str, ...]
    """What it got or changed that no solution may."""
    left_behind: tuple[str, ...]
    elapsed_s: float
    line: str = ""
    """The verdict's own line."""
    open: bool = False
    """Whether it is known to get through."""

    @property
    def held(self) -> bool:
        """Whether it got its verdict and nothing else."""
        return self.as_expected and not self.broke and not self.left_behind

    @property
    def known(self) -> bool:
        """Whether all that is wrong is that it got through, as was known."""
        return self.open and not self.as_expected and not self.broke and not self.left_behind


@dataclass(frozen=True)
class Certificate:
    """What a self-attack says of this machine, as it is now."""

    isolation: str
    limits: str
    device: str
    kernel: str
    date: str
    versions: Mapping[str, str]
    findings: tuple[Finding, ...]

    @property
    def held(self) -> bool:
        """Whether every exploit got its verdict and nothing else but those that are known to get through.

        And no honest solution was failed.
        """
        return all(finding.held or finding.known for finding in self.findings)

    def lines(self) -> list[str]:
        """The certificate as text; its last line is the sum."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        honest = [finding for finding in self.findings if finding.name.startswith("honest/")]
        hostile = [finding for finding in self.findings if finding not in honest and not finding.known]
        known = [finding.name for finding in self.findings if finding.known]
        held = sum(finding.held for finding in hostile)
        alarms = sum(not finding.held for finding in honest)
        return [
            f"diffbench self-attack, {self.date}: isolation {self.isolation}; {self.device}",
            f"{self.kernel}; {versions}",
            f"limits: {self.limits}",
            *(line for finding in self.findings for line in describe(finding)),
            *([f"known to get through, and not counted: {', '.join(known)}"] if known else []),
            f"held {held} of {len(hostile)}; false alarms {alarms} of {len(honest)}",
        ]


def describe(finding: Finding) -> list[str]:
    """One line of a finding, and one for each thing that is wrong with it."""
    sign = (
        "held "
        if finding.held
        else "open "
        if finding.known
        else "BROKE"
        if finding.broke or finding.left_behind
        else "OTHER"
    )
    lines = [f"{sign} {finding.name}: {finding.found} ({finding.elapsed_s:.1f} s)"]
    if not finding.as_expected:
        lines.append(f"      expected {finding.expected}; {finding.line}")
    lines += [f"      broke: {what}" for what in finding.broke]
    return lines + [f"      left behind: {what}" for what in finding.left_behind]


# -- the corpus ------------------------------------------------------------------------------------------------------


def root() -> Path:
    """The folder of exploits: inside an installed package, among the tests in a checkout; SetupError without any."""
    package = Path(__file__).parent
    for folder in (package / "exploits", package.parent / "tests" / "exploits"):
        if folder.is_dir():
            return folder
    raise SetupError(f"diffbench: the exploits are missing beside {package}: install the package again")


def corpus(folder: Path | None = None) -> tuple[Exploit, ...]:
    """Every exploit, in the order of groups and names; SetupError where one says nothing or something wrong of itself.

    None of them is imported: what they say of themselves is read from their syntax.
    """
    folder = folder or root()
    return tuple(read(file, group) for group in GROUPS for file in sorted((folder / group).glob("*.py")))


def read(file: Path, group: str) -> Exploit:
    """One exploit; SetupError that names what is wrong."""
    source = file.read_text(encoding="utf-8")
    tree = ast.parse(source)
    said: dict[str, object] = {
        "OPEN": False,
        "TASK": "drawing",
        "CONTROL": False,
        "TIMEOUT_S": TIMEOUT_S,
        "CAUSE": None,
        "DEMAND": {},
    }
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper():
            with contextlib.suppress(ValueError):  # a constant of its own, computed
                said[node.targets[0].id] = ast.literal_eval(node.value)
    summary = (ast.get_docstring(tree) or "").partition("\n")[0]
    cause, timeout_s, demand = said["CAUSE"], said["TIMEOUT_S"], said["DEMAND"]
    causes = cause if isinstance(cause, tuple) else () if cause is None else (cause,)
    problems = [
        *([] if summary and not summary.startswith("Seen:") else ["a docstring that says its trick"]),
        *([] if said.get("VERDICT") in list(Verdict) else [f"VERDICT, one of {', '.join(Verdict)}"]),
        *([] if bool(causes) != (said.get("VERDICT") == Verdict.PASS) else ["CAUSE, None for PASS alone"]),
        *([] if said["TASK"] in TASKS else [f"TASK, one of {', '.join(TASKS)}"]),
        *([] if isinstance(timeout_s, (int, float)) and timeout_s > 0 else ["TIMEOUT_S, seconds above 0"]),
        *([] if isinstance(demand, dict) else ["DEMAND, a dictionary of what its task demands"]),
    ]
    if problems:
        raise SetupError(f"diffbench: the exploit {file} needs {'; '.join(problems)}")
    assert isinstance(timeout_s, (int, float))
    assert isinstance(demand, dict)
    return Exploit(
        name=f"{group}/{file.stem}",
        summary=summary,
        source=source,
        verdict=Verdict(str(said["VERDICT"])),
        causes=tuple(str(entry) for entry in causes),
        task=str(said["TASK"]),
        control=said["CONTROL"] is True,
        open=said["OPEN"] is True,
        timeout_s=float(timeout_s),
        demand=demand,
    )


def chosen(exploits: Sequence[Exploit], names: Sequence[str]) -> tuple[Exploit, ...]:
    """Those whose names hold one of the given ones; SetupError where one of them fits none."""
    for name in names:
        if not any(name in exploit.name for exploit in exploits):
            raise SetupError(f"diffbench: no exploit is named {name!r}: diffbench self-attack --list names them")
    return tuple(exploit for exploit in exploits if not names or any(name in exploit.name for name in names))


# -- the attack ------------------------------------------------------------------------------------------------------


class SelfAttack:
    """One workbench and the grounds around it, for as many exploits as come."""

    def __init__(self, *, isolation: str | None = None, devices: Sequence[Device] | None = None) -> None:
        self._devices = devices or inventory()
        self._asked = isolation
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.grounds = self._open.enter_context(Grounds())
        with lease(self._devices) as device:  # one for all: on another the baseline would start anew, as a stranger
            self._bench = _workbench(self._asked, [device])
        self._open.callback(self._bench.close)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def policy(self) -> Policy:
        """What is attacked."""
        return self._bench.standby.policy

    def attack(self, exploit: Exploit) -> Finding:
        """Run an exploit through every stage, then look at the targets from outside.

        SetupError where it could damage this machine: without isolation, outside a throw-away shell.
        """
        unsafe = self.policy.tier in (Tier.NONE, Tier.EXTERNAL) and (exploit.control or exploit.group not in HARMLESS)
        if unsafe and not throwaway.inside():
            raise SetupError(
                f"diffbench: {exploit.name} would run without isolation, and can damage this machine: run it in a "
                "throw-away shell, python -m pytest_diffbench.throwaway diffbench self-attack --isolation=none"
            )
        demand, weights = _task(exploit, self.grounds.folder)
        began = time.monotonic()
        self._settle(demand, weights)
        targets = Targets(
            self.grounds,
            weights_file=weights.path / "unet" / "diffusion_pytorch_model.safetensors",
            scorer_file=TINY / "scorer" / "model.safetensors",
            reference_file=reference_root() / "sd15" / "ddim.py",
            package_file=Path(__file__).with_name("wording.py"),
        )
        sent: list[bytes] = []
        with targets:
            verdict, cause, line = self._verdict(exploit, demand, weights, targets, sent)
            aftermath = targets.look(sent)
        if not line.isprintable():
            aftermath = replace(aftermath, broke=(*aftermath.broke, "its line holds control characters"))
        as_expected = verdict is exploit.verdict and (cause in exploit.causes if exploit.causes else not cause)
        aftermath = _with_own_word(aftermath, sent)
        return Finding(
            name=exploit.name,
            expected=exploit.expected,
            found=f"{verdict} {cause}".strip(),
            as_expected=as_expected,
            broke=aftermath.broke,
            left_behind=aftermath.left_behind,
            elapsed_s=time.monotonic() - began,
            line=line,
            open=exploit.open,
        )

    def _settle(self, demand: Demand, weights: Weights) -> None:
        """Start what stays from exploit to exploit, so that whatever is new afterwards is the exploit's."""
        with self._bench.device(next_model=weights.path) as device:
            self._bench.baseline(
                providers.baseline_source(demand),
                weights,
                device,
                Requests(demand, weights).batch(),
                load_timeout_s=TIMEOUT_S,
                call_timeout_s=TIMEOUT_S,
            ).pause()

    def _verdict(
        self, exploit: Exploit, demand: Demand, weights: Weights, targets: Targets, sent: list[bytes]
    ) -> tuple[Verdict, str, str]:
        """Verdict, cause and line; all that the solution said is added to `sent`."""
        run = Run(
            demand,
            weights,
            providers.Solution(_TARGETS.sub(f"TARGETS = {targets.names!r}", exploit.source, count=1), exploit.name),
            providers.baseline_source(demand),
            name=exploit.name,
            bench=self._bench,
            settings=Settings(seed=secrets.randbits(48)),
            say=lambda _stage, _line: None,
        )
        with _overheard(self._bench, sent):
            try:
                run.through(ORDER, next_model=None)
            except SolutionFault as fault:
                sent.append(f"{fault.line}\n{fault.detail}".encode())
                return fault.cause.verdict, str(fault.cause), fault.line
            except SetupError as error:
                sent.append(str(error).encode())
                return Verdict.INFRA, "", str(error).replace("\n", "; ")
            finally:
                sent += [f"{report.line}\n{report.detail}\n{run.executability}".encode() for report in run.reports]
        return Verdict.PASS, "", ""


def certify(
    exploits: Sequence[Exploit], *, isolation: str | None = None, say: Callable[[Finding], None] = lambda _: None
) -> Certificate:
    """Attack with each of these, one after the other; SetupError where isolation or device cannot be had."""
    with SelfAttack(isolation=isolation) as attacks:
        findings = []
        for exploit in exploits:
            findings.append(attacks.attack(exploit))
            say(findings[-1])
        return Certificate(
            isolation=attacks.policy.stamp,
            limits=attacks.policy.limits.describe(),
            device=inventory()[0].model,
            kernel=f"{platform.system()} {platform.release()}, user id {os.getuid()}",
            date=dt.datetime.now(dt.UTC).date().isoformat(),
            versions={
                "pytest-diffbench": __version__,
                "Python": platform.python_version(),
                **{name: importlib.metadata.version(name) for name in _LIBRARIES},
            },
            findings=tuple(findings),
        )


def problem(isolation: str) -> str | None:
    """What is wrong with a tier on this machine; None where it holds."""
    return trial(Policy(Tier(isolation), LIMITS))


def _workbench(isolation: str | None, devices: Sequence[Device]) -> Workbench:
    """The one place that chooses a tier: a workbench whose sandboxes are isolated so."""
    try:
        policy = choose(isolation or "auto", LIMITS)
    except ValueError:
        raise SetupError(f"diffbench: --isolation={isolation}: the tiers are {', '.join(Tier)}") from None
    return Workbench(devices, Standby(policy, prepared=PREPARED))


def _with_own_word(aftermath: Aftermath, sent: Sequence[bytes]) -> Aftermath:
    """With what the exploit itself says to have broken."""
    said = b"\n".join(sent).decode("utf-8", "replace")
    words = dict.fromkeys(
        line.partition(BROKE)[2].strip()[:300]
        for line in said.splitlines()
        if BROKE in line and "raise " not in line  # its source, in a traceback
    )
    return Aftermath((*aftermath.broke, *(word for word in list(words)[:1])), aftermath.left_behind)


@contextlib.contextmanager
def _overheard(bench: Workbench, sent: list[bytes]) -> Iterator[None]:
    """Keep what a candidate answers and prints, though the judge sees only its images."""
    take = bench.standby.take
    taken: list[Sandbox] = []

    def overhearing(device: Device, model: str) -> Sandbox:
        sandbox = take(device, model)
        taken.append(sandbox)
        generate = sandbox.generate

        def recording(requests: Sequence[Request], *, timeout_s: float) -> Reply:
            reply = generate(requests, timeout_s=timeout_s)
            sent.extend(image.tobytes() for image in reply.images)
            return reply

        sandbox.generate = recording  # type: ignore[method-assign]
        return sandbox

    bench.standby.take = overhearing  # type: ignore[method-assign]
    try:
        yield
    finally:
        del bench.standby.take
        sent += [sandbox.output_tail().encode() for sandbox in taken]


# -- its two tasks ---------------------------------------------------------------------------------------------------


def _task(exploit: Exploit, folder: Path) -> tuple[Demand, Weights]:
    """The task that an exploit answers, its files written to a folder."""
    # imported here: collecting tests of exploits must not load it
    import numpy as np

    from pytest_diffbench.zoo import drawings

    prompts = folder / "prompts.txt"
    if not prompts.exists():
        rng = np.random.default_rng(secrets.randbits(32))
        prompts.write_text("\n".join(drawings.sample_scene(rng).caption for _ in range(CAPTIONS)))
        (folder / "drawing.py").write_text(ARTIST)
    arguments: dict[str, Any] = {
        "size": 64,
        "sampler": "ddim",
        "steps": DENOISING_STEPS,
        "guidance": DENOISING_GUIDANCE,
        **exploit.demand,
    }
    at_least = arguments.pop("speed", DEMANDED_SPEEDUP)
    baseline = "drawing.py"
    if exploit.task == "denoising":
        baseline = f"denoising_by_{arguments['sampler']}.py"
        text = (reference_root() / "baselines" / "sd15.py").read_text()
        (folder / baseline).write_text(text.replace("PNDMScheduler", methods.SAMPLERS[arguments["sampler"]][0]))
    task = Task(str(TINY / "sd15"), baseline=baseline, prompts=prompts.name, scorer=str(TINY / "scorer"), **arguments)
    demand = resolve(
        task,
        Markers(
            speed=SpeedDemand(at_least) if at_least is not None else None,
            quality=QualityDemand(),
            executability=ExecutabilityDemand(exploit.timeout_s),
        ),
        task_id=exploit.name.replace("/", "-"),
        summary=exploit.summary,
        folder=folder,
        known_models={},
        known_methods={method.name: method for method in methods.BUILT_IN},
    )
    return demand, supply.own(demand.model, prompts, TINY / "scorer")
