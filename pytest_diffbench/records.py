"""The frozen values that travel from a stage to the report: verdicts, causes, evidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Final, TypeAlias

from pytest_diffbench.evidence import harness_check

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Plain: TypeAlias = "bool | int | float | str | list[Plain] | dict[str, Plain] | None"
"""What strict JSON and execnet can both carry."""
Record: TypeAlias = Callable[[str, Mapping[str, object]], None]
"""Keeps a piece of evidence the moment it exists: `record(kind, body)`. SetupError where it cannot be kept."""


def unrecorded(kind: str, body: Mapping[str, object]) -> None:
    """For whoever keeps nothing."""


class Verdict(StrEnum):
    """How a task ended."""

    PASS = "PASS"  # noqa: S105 (no password)
    FAIL = "FAIL"
    UNDECIDED = "UNDECIDED"
    """The machine was too noisy to say."""
    CHEAT = "CHEAT"
    """Tampering was caught."""
    INFRA = "INFRA"
    """Our fault or the machine's; not in the denominator."""


class Cause(StrEnum):
    """Why a task did not pass: the paper's five failure classes, and what a process can die of."""

    COMPILATION = "compilation error"
    KEY_ATTRIBUTE = "key-attribute error"
    ABSOLUTE_QUALITY = "absolute-quality error"
    RELATIVE_QUALITY = "relative-quality error"
    RELATIVE_SPEED = "relative-speed error"
    TIMEOUT = "timeout"
    CRASH = "crash"
    PROTOCOL = "protocol violation"
    SETUP_LIMIT = "set-up limit"
    """`load` took longer than it may: what is done there is not timed, and so not unlimited."""
    MEMORY = "memory limit"
    PROCESS_LIMIT = "process limit"
    DISK_LIMIT = "disk limit"
    OUTPUT_LIMIT = "output limit"
    UNDECIDED = "undecided"
    """The noise left it open whether the demand is met."""
    GUARD = "guard"
    """The images are not what an honest acceleration makes."""
    BASELINE_SLOWED = "slowed the baseline"
    """The baseline is slower while the candidate is there, and only then."""
    METRIC = "metric"
    """A metric of the user's own lost too much."""
    STEP_CONTROL = "fewer steps suffice"
    ASSERTION = "assertion of the test"
    """The stages passed, the test's own body did not."""
    NOT_JUDGED = "quality not judged"
    """Its speed was measured on weights whose images say nothing."""
    QUARANTINED = "quarantined"
    """Every try so far ended with the death of the process that measured it."""

    @property
    def verdict(self) -> Verdict:
        """How a task ends that does not pass for this cause."""
        return {
            Cause.PROTOCOL: Verdict.CHEAT,
            Cause.BASELINE_SLOWED: Verdict.CHEAT,
            Cause.UNDECIDED: Verdict.UNDECIDED,
            Cause.NOT_JUDGED: Verdict.UNDECIDED,
            Cause.QUARANTINED: Verdict.INFRA,
        }.get(self, Verdict.FAIL)

    @property
    def failure_class(self) -> Cause:
        """The paper's class: what keeps it from running is a compilation error, bad images are relative quality."""
        if self in _KEEPS_IT_FROM_RUNNING:
            return Cause.COMPILATION
        if self in (Cause.GUARD, Cause.METRIC, Cause.STEP_CONTROL):
            return Cause.RELATIVE_QUALITY
        if self is Cause.BASELINE_SLOWED:
            return Cause.RELATIVE_SPEED
        return self


_KEEPS_IT_FROM_RUNNING = frozenset(
    {
        Cause.TIMEOUT,
        Cause.CRASH,
        Cause.PROTOCOL,
        Cause.SETUP_LIMIT,
        Cause.MEMORY,
        Cause.PROCESS_LIMIT,
        Cause.DISK_LIMIT,
        Cause.OUTPUT_LIMIT,
    }
)


class Outcome(StrEnum):
    """What a sample says of a claim: that it lies above it, below it, or nothing yet."""

    ABOVE = "above"
    BELOW = "below"
    OPEN = "open"


class Stage(StrEnum):
    """The three stages, in their order."""

    EXECUTABILITY = "executability"
    SPEED = "speed"
    QUALITY = "quality"


HALVES: Final = ("float16", "bfloat16")
"""Types of numbers that are faster for the same count of them."""
CEILING_TOLERANCE: Final = 1.1
"""How far a claim may lie above what saved work explains: small models wait for Python as long as for numbers."""


class RequestSet(StrEnum):
    """Where a run's requests are drawn from: two sets of prompts and seeds that share nothing."""

    SECRET = "secret"  # noqa: S105 (no password)
    """For verdicts and scores."""
    PUBLIC = "public"
    """For feedback; whoever is measured may know them."""


@dataclass(frozen=True)
class StageReport:
    """How one stage ended."""

    stage: Stage
    verdict: Verdict
    elapsed_s: float
    cause: Cause | None = None
    line: str = ""
    """One line that a person or an LLM can act on."""
    detail: str = ""
    """The traceback or measurement behind it."""


@dataclass(frozen=True)
class Observation:
    """What was seen inside a process of one call after timing; empty or 0 where it could not be observed."""

    denoiser_class: str = ""
    denoiser_calls: int = 0
    denoiser_evaluations: int = 0
    """Latents in all calls together: guidance and batches count."""
    denoiser_timesteps: int = 0
    """Different ones."""
    denoiser_batch: int = 0
    """Latents in the largest call."""
    latent_height: int = 0
    latent_width: int = 0
    """Of the largest latents; packed tokens are a column."""
    denoiser_parameters: int = 0
    flops: float = 0.0
    """Floating-point operations of the whole call, as torch counts them."""
    denoiser_flops: float = 0.0
    """The denoiser's share of them."""
    attention_tokens: int = 0
    """The most of the denoiser's that attend to each other at once."""


@dataclass(frozen=True)
class Executability:
    """What the first stage found out."""

    load_s: float
    """Building the pipeline, once; not part of the speed-up."""
    first_call_s: float
    ready_s: float
    """From solution text in hand to a process ready to load it."""
    pipeline_class: str = ""
    scheduler_class: str = ""
    dtype: str = ""
    num_inference_steps: int = 0
    """The pipeline's own word on itself (empty or 0 where it cannot be observed); may only lose a pass."""
    observed: Observation | None = None
    """One call of a solution that met every other demand; None where there was none. It too may only lose a pass."""
    baseline_observed: Observation | None = None
    """The same of the baseline, for the same request."""

    @property
    def flops(self) -> float | None:
        """FLOPs of a call of the solution; None where they could not be counted."""
        return self.observed.flops or None if self.observed is not None else None

    @property
    def baseline_flops(self) -> float | None:
        """FLOPs of the same call of the baseline; None where they could not be counted."""
        return self.baseline_observed.flops or None if self.baseline_observed is not None else None

    @property
    def ceiling(self) -> float | None:
        """The most that the work it saves explains: the FLOPs of the baseline's denoiser over those of its own.

        None where they could not be counted, or where it may be faster by other means: another dtype.
        """
        seen, plain = self.observed, self.baseline_observed
        if seen is None or plain is None or not (seen.denoiser_flops and plain.denoiser_flops) or self.dtype in HALVES:
            return None
        return plain.denoiser_flops / seen.denoiser_flops


@dataclass(frozen=True)
class Speed:
    """What the clock found out; times in seconds per call of `batch` requests."""

    baseline_s: tuple[float, ...]
    candidate_s: tuple[float, ...]
    order: str
    """Which arm went first in each pair: 'B' or 'C'."""
    speedup: float
    """Baseline over candidate: the Hodges-Lehmann estimate of the pairs' ratios, taken in logarithms."""
    speedup_low: float
    speedup_high: float | None
    """What one look of the sequential test would not reject, 97.3 % confidence for these pairs alone; None: no end."""
    decision: Outcome | None = None
    """Whether the demand was shown to be reached (above), shown to be missed (below), or neither; None without one."""
    decided_after: int | None = None
    """Pairs seen when that was decided; later ones were timed for their images."""
    borderline: bool = False
    """Not decided, but known so well that the estimate was taken."""
    warm_up_calls: int = 0
    """Untimed calls of each arm, before the first pair."""
    repeated: Mapping[str, int] = field(default_factory=dict)
    """Pairs that were timed again for a cause that is not slowness, counted by cause."""
    by_start: tuple[float, ...] = ()
    """The speed-up in each start of the processes, where there was more than one."""
    demanded_speedup: float | None = None
    latency_s: float | None = None
    """The candidate's time at the demanded percentile (the median where none is demanded)."""
    demanded_latency_s: float | None = None
    peak_memory_ratio: float | None = None
    """Peak memory, candidate over baseline."""
    baseline_alone_s: tuple[float, ...] = ()
    """The baseline's calls once the candidate had ended; empty where nothing would have passed anyway."""
    baseline_slowdown: float | None = None
    """How many times slower its calls in the deciding pairs were (medians)."""

    @property
    def achievement(self) -> float:
        """How much of the demanded speed was reached, capped at 1."""
        if self.demanded_speedup is not None:
            return min(self.speedup / self.demanded_speedup, 1.0)
        if self.demanded_latency_s is not None and self.latency_s:
            return min(self.demanded_latency_s / self.latency_s, 1.0)
        return 1.0


@dataclass(frozen=True)
class Cost:
    """What speed costs beside itself, for both arms; nothing here is ever demanded."""

    load_s: float
    baseline_load_s: float
    first_image_s: float
    """The first call after loading, of a batch."""
    baseline_first_image_s: float
    compile_s: float
    """How much longer the first call took than a later one: compilation and everything else done once."""
    steady_s: float
    """The median call once warm."""
    baseline_steady_s: float
    images_per_s: float
    """Of the warm pipeline, all images of a batch counted."""
    break_even_images: float | None
    """Images after which a longer start is paid back: 0 where it is not longer, None where it never is."""
    peak_memory_bytes: int
    """By process, seen from outside: resident memory, or the GPU's."""
    baseline_peak_memory_bytes: int
    energy_j_per_image: float | None = None
    """By the GPU's own counter, over the timed calls; None where it has none."""
    baseline_energy_j_per_image: float | None = None


@dataclass(frozen=True)
class Guard:
    """One thing that must hold of a candidate's images, whatever their score."""

    name: str
    passed: bool
    found: str
    """What was found, and where the limit is."""


@dataclass(frozen=True)
class StepControl:
    """The baseline with so few steps that it takes the candidate's time: what doing nothing clever reaches."""

    steps: int
    elapsed_s: float
    """The median call."""
    clip_score: float
    gain: float
    """Mean of (candidate - control) over the images, in points of CLIP-Score."""
    gain_low: float
    """Student's lower 95 % bound of it."""

    @property
    def suffices(self) -> bool:
        """Whether fewer steps are as good as the candidate, as far as these images tell."""
        return self.gain_low <= 0


@dataclass(frozen=True)
class MetricResult:
    """Another metric's word on the same images."""

    name: str
    baseline: float
    """Mean over the baseline's images."""
    candidate: float
    loss: float | None = None
    """Share of the baseline's mean that was lost; None where that has no meaning."""
    decision: Outcome | None = None
    """Whether the loss was shown to be within the metric's limit; None for a metric that gates nothing."""


@dataclass(frozen=True)
class Distribution:
    """How far the candidate's images as a set lie from the baseline's; only over a thousand images or more."""

    images: int
    fid: float
    """Frechet Inception Distance (Heusel et al. 2017), on the features that `features` names."""
    kid: float
    """Kernel Inception Distance (Binkowski et al. 2018), unbiased."""
    psnr_db: float
    """Peak signal-to-noise ratio against the same request's baseline image, mean; 100 for identical images."""
    ssim: float
    """Structural similarity (Wang et al. 2004), mean."""
    features: str


@dataclass(frozen=True)
class Quality:
    """What the judge found out, on exactly the images that were timed."""

    baseline_clip: tuple[float, ...]
    candidate_clip: tuple[float, ...]
    """CLIP-Score of each image with its own prompt: 100 * max(cosine, 0)."""
    clip_score: float
    """Mean of the candidate's."""
    loss: float | None
    """(mean baseline - mean candidate) / mean baseline; None where the baseline scores nothing."""
    max_loss: float
    reference_clip_score: float | None = None
    """What the zoo records for this model; None where nothing is recorded."""
    loss_low: float | None = None
    loss_high: float | None = None
    """What one look of the sequential test would not reject."""
    decision: Outcome | None = None
    """Whether the loss was shown to be within `max_loss` (above), shown to exceed it (below), or neither."""
    decided_after: int | None = None
    """Images seen when that was decided."""
    strict: bool = False
    """Whether `strict_decision` gates."""
    strict_decision: Outcome | None = None
    """The same for a loss of 1.5 %."""
    floor_clip_score: float | None = None
    """What noise, or an image of something else, scores: the lower end of the scorer's range."""
    range_loss: float | None = None
    """The loss as a share of the range between the baseline's score and the floor."""
    worst_decile_drop: float | None = None
    """Mean drop against the baseline's image over the tenth of the images that dropped most, in points."""
    broken_images: int = 0
    """Images that a guard calls broken by themselves."""
    broken_share_bound: float | None = None
    """With 95 % confidence, a smaller share than this is broken (Clopper & Pearson 1934)."""
    guards: tuple[Guard, ...] = ()
    fidelity: float | None = None
    """1: the baseline's images themselves; 0: as far from them as the baseline with another seed."""
    step_control: StepControl | None = None
    metrics: tuple[MetricResult, ...] = ()
    distribution: Distribution | None = None
    judge_s: float = 0.0
    """Seconds that judging took, generation not counted."""


@dataclass(frozen=True)
class TaskReport:
    """Everything that is known of one finished task."""

    nodeid: str
    task_id: str
    agent: str
    verdict: Verdict
    level: int | None = None
    difficulty: str | None = None
    cause: Cause | None = None
    line: str = ""
    detail: str = ""
    stages: tuple[StageReport, ...] = ()
    executability: Executability | None = None
    speed: Speed | None = None
    quality: Quality | None = None
    cost: Cost | None = None
    batch: int = 1
    """How many requests travelled together: above 1 the speed-up is one of throughput."""
    undecided_runs: int = 0
    """Runs before this one that ended undecided, and were made again with fresh requests."""
    seed: int | None = None
    """`--diffbench-seed` that draws the same requests again."""
    requests: RequestSet = RequestSet.SECRET
    """Public ones make no score, and are the only ones that feedback to a solver may come from."""
    solution_sha256: str = ""
    device: str = ""
    isolation: str = ""
    """By what means the solution was kept in; reports with different ones are never compared."""
    limits: str = ""
    """What it might use."""
    model_revision: str = ""
    versions: Mapping[str, str] | None = None
    """Of the libraries that the measurement rests on."""
    model: str = ""
    """As the task names it."""
    scenario: str | None = None
    task_edition: str = ""
    """The edition of the task: see `edition.of_task`; '' where it could not even be looked at."""
    resumed: bool = False
    """Not measured now: an earlier part of the same run had ended it."""

    @property
    def harness_check(self) -> bool:
        """Whether it says that the harness works, and nothing of real models."""
        return harness_check(self.model_revision)

    @property
    def claim_above_ceiling(self) -> float | None:
        """Its ceiling, where even the least speed-up that the pairs allow lies above that; None where all is well."""
        ceiling = self.executability.ceiling if self.executability is not None else None
        if ceiling is None or self.speed is None:
            return None
        return ceiling if self.speed.speedup_low > CEILING_TOLERANCE * ceiling else None


def plain(value: object) -> Plain:
    """A value as strict JSON can hold it: records to dicts, numpy scalars to Python, NaN and infinity to None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(entry) for entry in value]
    if value is None or type(value) in (bool, int, str):
        return value  # type: ignore[return-value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, int):
        return int(value)
    listed = getattr(value, "tolist", None)  # numpy's and torch's scalars and arrays
    made = listed() if callable(listed) else value
    return plain(made) if type(made) is not type(value) else str(value)


def task_report(data: object) -> TaskReport:
    """The report that `plain` made `data` from; ValueError (pydantic's) that names what is wrong with it."""
    return _reports().validate_python(data)


@cache
def _reports() -> TypeAdapter[TaskReport]:
    """Made once: that takes as long as reading a hundred reports."""
    # imported here: a worker only writes reports, and never reads one
    from pydantic import TypeAdapter

    return TypeAdapter(TaskReport)
