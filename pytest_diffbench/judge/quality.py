"""How much quality a candidate lost: relative to the baseline's images, and to the score recorded for the model."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy import stats

from pytest_diffbench import sequential
from pytest_diffbench.errors import SetupError, SolutionFault
from pytest_diffbench.judge import guards
from pytest_diffbench.judge.album import Album
from pytest_diffbench.judge.fidelity import fidelity
from pytest_diffbench.judge.metric import judge as judge_metric
from pytest_diffbench.records import Cause, MetricResult, Outcome, Quality
from pytest_diffbench.sequential import BROKEN_ONE_IN, QUALITY, STRICT
from pytest_diffbench.task import DEFAULT_MAX_LOSS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pytest_diffbench.judge.album import Canaries, Image
    from pytest_diffbench.judge.clip import ClipScorer
    from pytest_diffbench.judge.metric import Metric
    from pytest_diffbench.records import Distribution
    from pytest_diffbench.sequential import Decision, Plan

STRICT_MAX_LOSS: Final = 0.015
"""Of sixteen published accelerations it refuses the five with 15 % and more ImageReward lost; 5 % refuses none."""
CONFIDENCE: Final = 0.99
NOISE_IMAGES: Final = 8


@dataclass(frozen=True)
class Rule:
    """What a task allows to be lost, and when enough images have been seen to say."""

    max_loss: float = DEFAULT_MAX_LOSS
    strict: bool = False
    reference_clip_score: float | None = None
    floor_clip_score: float | None = None
    """As the zoo records it; None: measured on the baseline's images and on noise."""
    plan: Plan = QUALITY
    strict_plan: Plan = STRICT
    broken_one_in: int | None = BROKEN_ONE_IN
    """One image in so many may be broken; None: no image may."""


class Judgement:
    """What is known of a candidate's images so far; grows pair by pair, and says how many it still wants."""

    def __init__(self, scorer: ClipScorer, rule: Rule, metrics: Sequence[Metric] = ()) -> None:
        self.elapsed_s = 0.0
        """Seconds that judging took so far."""
        self._scorer = scorer
        self._rule = rule
        self._metrics = metrics
        self._judged_by_metrics: tuple[int, tuple[MetricResult, ...]] = (0, ())
        """The images that the results are of, and the results."""
        self._prompts: list[str] = []
        self._baseline: list[Image] = []
        self._candidate: list[Image] = []
        self._inputs: list[Image] = []
        self._embeddings: list[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]] = []

    def add(
        self,
        prompts: Sequence[str],
        baseline: Sequence[Image],
        candidate: Sequence[Image],
        inputs: Sequence[Image] = (),
    ) -> None:
        """Look at more images of both arms, and at what they began with; SetupError where a score is no number."""
        if not prompts:
            return
        began = time.perf_counter()
        self._prompts += prompts
        self._baseline += baseline
        self._candidate += candidate
        self._inputs += inputs
        images, texts = self._scorer.embed([*prompts], [*baseline, *candidate])
        seen = images.numpy()
        if not (np.isfinite(seen).all() and np.isfinite(texts.numpy()).all()):
            raise SetupError("diffbench: the scorer gave a score that is no number: are its weights damaged?")
        self._embeddings.append((seen[: len(prompts)], seen[len(prompts) :], texts.numpy()))
        self.elapsed_s += time.perf_counter() - began

    @property
    def count(self) -> int:
        """Images of each arm so far."""
        return len(self._prompts)

    @property
    def holds(self) -> bool:
        """Whether the score is not shown to have lost more than allowed."""
        return self._decision(self._rule.max_loss, self._rule.plan).outcome is not Outcome.BELOW

    def wanted(self) -> int | None:
        """How many images the next look needs; None where all that gates is decided, or no look is left.

        One broken image among fewer than may have one is looked into further: is it the only one? Also where the score
        stays open, for that is tried once more, and a broken image would end it.
        """
        rule = self._rule
        gates = [(self._decision(rule.max_loss, rule.plan).outcome, rule.plan)]
        if rule.strict:
            gates.append((self._decision(STRICT_MAX_LOSS, rule.strict_plan).outcome, rule.strict_plan))
        if all(outcome is not Outcome.BELOW for outcome, _ in gates):  # else nothing more is worth knowing
            gates += [(metric.decision, rule.plan) for metric in self.metrics() if metric.decision is not None]
        if any(outcome is Outcome.BELOW for outcome, _ in gates):
            return None
        looks = [plan.next_look(self.count) for outcome, plan in gates if outcome is Outcome.OPEN]
        needed = [count for count in looks if count is not None]
        return min(needed) if needed else self._wanted_of_a_broken_one()

    def _wanted_of_a_broken_one(self) -> int | None:
        one_in = self._rule.broken_one_in
        if one_in is None or self.count >= one_in:
            return None
        began = time.perf_counter()
        spoilt = guards.spoilt(self.album())
        self.elapsed_s += time.perf_counter() - began
        return one_in if spoilt == 1 else None

    def album(self) -> Album:
        """All images, with the cosines of every image with every prompt."""
        baseline, candidate, texts = (np.concatenate(parts) for parts in zip(*self._embeddings, strict=True))
        return Album(
            tuple(self._prompts),
            tuple(self._baseline),
            tuple(self._candidate),
            baseline @ texts.T,
            candidate @ texts.T,
            tuple(self._inputs),
        )

    def evidence(self, canaries: Canaries | None = None) -> Quality:
        """Everything that these images say; SetupError where the baseline's own are no measure."""
        began = time.perf_counter()
        album, rule = self.album(), self._rule
        baseline_clip, candidate_clip = scores(album.baseline_similarity), scores(album.candidate_similarity)
        base, accelerated = float(np.mean(baseline_clip)), float(np.mean(candidate_clip))
        if base <= 0:
            raise SetupError("diffbench: the baseline's images score nothing: is the scorer made for such images?")
        if (problem := guards.baseline_problem(album, canaries)) is not None:
            raise SetupError(f"diffbench: the baseline is nothing to compare with: {problem}")
        decision, strict = self._decision(rule.max_loss, rule.plan), self._decision(STRICT_MAX_LOSS, rule.strict_plan)
        floor = rule.floor_clip_score if rule.floor_clip_score is not None else self._floor(album)
        lost = base - accelerated
        loss_low, loss_high = loss_interval(decision, rule.max_loss, base)
        broken = len(guards.broken(album))
        found = Quality(
            baseline_clip=baseline_clip,
            candidate_clip=candidate_clip,
            clip_score=accelerated,
            loss=lost / base,
            max_loss=rule.max_loss,
            reference_clip_score=rule.reference_clip_score,
            loss_low=loss_low,
            loss_high=loss_high,
            decision=decision.outcome,
            decided_after=decision.decided_after,
            strict=rule.strict,
            strict_decision=strict.outcome,
            floor_clip_score=floor,
            range_loss=lost / (base - floor) if base > floor else None,
            worst_decile_drop=guards.worst_decile_drop(baseline_clip, candidate_clip),
            broken_images=broken,
            broken_share_bound=guards.broken_share_bound(broken, self.count),
            guards=guards.check(album, canaries, rule.broken_one_in),
            fidelity=fidelity(album, canaries) if canaries is not None else None,
        )
        self.elapsed_s += time.perf_counter() - began
        return replace(found, judge_s=self.elapsed_s)

    def metrics(self) -> tuple[MetricResult, ...]:
        """What other metrics say of the same images, by the same test."""
        if self._judged_by_metrics[0] != self.count:
            began = time.perf_counter()
            results = tuple(judge_metric(metric, self.album(), self._rule.plan) for metric in self._metrics)
            self._judged_by_metrics = (self.count, results)
            self.elapsed_s += time.perf_counter() - began
        return self._judged_by_metrics[1]

    def distribution(self, baseline: Sequence[Image], candidate: Sequence[Image], *, inception: bool) -> Distribution:
        """How far two sets of images lie apart, seen by Inception or by the scorer.

        SetupError where Inception cannot be had.
        """
        # imported here: Inception may need clean-fid and torchvision
        from pytest_diffbench.judge import distribution

        began = time.perf_counter()
        features = distribution.inception_features("cpu") if inception else distribution.scorer_features(self._scorer)
        found = distribution.compare(baseline, candidate, features)
        self.elapsed_s += time.perf_counter() - began
        return found

    def clip_scores(self, prompts: Sequence[str], images: Sequence[Image]) -> tuple[float, ...]:
        """Scores of images that do not count as the candidate's."""
        began = time.perf_counter()
        found = self._scorer.scores(prompts, images)
        self.elapsed_s += time.perf_counter() - began
        return found

    def _decision(self, max_loss: float, plan: Plan) -> Decision:
        pairs = [(seen_base, seen, texts) for seen_base, seen, texts in self._embeddings]
        base = [score for seen, _, texts in pairs for score in _own(seen, texts)]
        accelerated = [score for _, seen, texts in pairs for score in _own(seen, texts)]
        return decide(base, accelerated, max_loss, plan)

    def _floor(self, album: Album) -> float:
        """What the scorer gives to images that have nothing to do with the prompt: noise, or another prompt's image."""
        rng = np.random.default_rng(0)
        shape = album.baseline[0].shape
        noise = [rng.integers(0, 256, shape, np.uint8) for _ in range(min(NOISE_IMAGES, self.count))]
        on_noise = float(np.mean(self._scorer.scores(album.prompts[: len(noise)], noise)))
        return max(on_noise, shuffled_score(album))


def decide(baseline: Sequence[float], candidate: Sequence[float], max_loss: float, plan: Plan) -> Decision:
    """What scores say of L <= m, made linear: x = s_acc - (1 - m) s_base has a mean above 0 exactly where it holds."""
    return sequential.decide([a - (1 - max_loss) * b for a, b in zip(candidate, baseline, strict=True)], plan)


def loss_interval(decision: Decision, max_loss: float, base: float) -> tuple[float | None, float | None]:
    """The losses that the decision's test would not reject, given the baseline's mean score; None: no end."""
    return _finite(max_loss - decision.interval.high / base), _finite(max_loss - decision.interval.low / base)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _own(images: NDArray[np.float32], texts: NDArray[np.float32]) -> list[float]:
    cosines: list[float] = np.clip((images * texts).sum(axis=1), 0, None).tolist()
    return [100 * cosine for cosine in cosines]


def scores(similarity: NDArray[np.float32]) -> tuple[float, ...]:
    """Each image's CLIP-Score with its own prompt (Hessel et al. 2021, with their w = 1): 100 * max(cosine, 0)."""
    return tuple((100 * np.clip(np.diagonal(similarity), 0, None)).tolist())


def shuffled_score(album: Album) -> float:
    """The mean score of the baseline's images with prompts that are not theirs; 0 where there is only one prompt."""
    prompts = np.array(album.prompts)
    others = prompts[:, None] != prompts[None, :]
    return float(100 * np.clip(album.baseline_similarity[others], 0, None).mean()) if others.any() else 0.0


def fault(quality: Quality) -> SolutionFault | None:
    """Why this quality does not pass, or None: what is shown first, what is left open last."""
    found = (_absolute(quality), _relative(quality), _guard(quality), _metric(quality), _control(quality))
    return next((each for each in found if each is not None), None) or _open(quality)


def _absolute(quality: Quality) -> SolutionFault | None:
    """The paper's first threshold, on the score that the zoo records for this model."""
    if quality.reference_clip_score is None:
        return None
    floor = (1 - DEFAULT_MAX_LOSS) * quality.reference_clip_score
    # these prompts are not the prompts of the record: fail only what cannot be the draw of the prompts
    if upper_bound(quality.candidate_clip) >= floor:
        return None
    return SolutionFault(
        Cause.ABSOLUTE_QUALITY,
        f"CLIP-Score {quality.clip_score:.1f} < {floor:.1f} over {len(quality.candidate_clip)} images "
        f"({DEFAULT_MAX_LOSS:.0%} below the {quality.reference_clip_score:.1f} recorded for the model)",
    )


def _relative(quality: Quality) -> SolutionFault | None:
    limit = quality.max_loss
    if quality.decision is not Outcome.BELOW:
        if not quality.strict or quality.strict_decision is not Outcome.BELOW:
            return None
        limit = STRICT_MAX_LOSS
    return SolutionFault(Cause.RELATIVE_QUALITY, f"{describe_loss(quality)} > {limit:.1%}")


def _guard(quality: Quality) -> SolutionFault | None:
    failed = [guard for guard in quality.guards if not guard.passed]
    if not failed:
        return None
    line = "; ".join(f"{guard.name}: {guard.found}" for guard in failed)
    return SolutionFault(Cause.GUARD, f"guards {len(quality.guards) - len(failed)}/{len(quality.guards)}: {line}")


def _metric(quality: Quality) -> SolutionFault | None:
    failed = [metric for metric in quality.metrics if metric.decision is Outcome.BELOW]
    if not failed:
        return None
    lines = (f"{m.name} {m.candidate:.4g} against the baseline's {m.baseline:.4g}" for m in failed)
    return SolutionFault(Cause.METRIC, "; ".join(lines))


def _control(quality: Quality) -> SolutionFault | None:
    control = quality.step_control
    if control is None or not control.suffices or not quality.strict:
        return None
    return SolutionFault(
        Cause.STEP_CONTROL,
        f"the baseline with {control.steps} steps takes as long and scores "
        f"{control.clip_score:.1f} (candidate {quality.clip_score:.1f})",
    )


def _open(quality: Quality) -> SolutionFault | None:
    """Nothing speaks against the candidate, and something that gates is not shown."""
    undecided = [f"{metric.name} not decided" for metric in quality.metrics if metric.decision is Outcome.OPEN]
    if quality.decision is Outcome.OPEN:
        undecided.append(f"{describe_loss(quality)}, not told from {quality.max_loss:.1%}")
    elif quality.strict and quality.strict_decision is Outcome.OPEN:
        undecided.append(f"{describe_loss(quality)}, not told from {STRICT_MAX_LOSS:.1%}")
    return SolutionFault(Cause.UNDECIDED, "; ".join(undecided)) if undecided else None


def describe_loss(quality: Quality) -> str:
    """The loss with its interval and what it rests on, as a sentence holds it."""
    base = math.fsum(quality.baseline_clip) / len(quality.baseline_clip)
    loss = quality.loss if quality.loss is not None else math.nan
    spread = ""
    if quality.loss_low is not None and quality.loss_high is not None:
        spread = f" [{quality.loss_low:.1%}, {quality.loss_high:.1%}]"
    return (
        f"CLIP-Score {quality.clip_score:.1f} against the baseline's {base:.1f} over {len(quality.candidate_clip)} "
        f"images: loss {loss:.1%}{spread}"
    )


def upper_bound(scores: Sequence[float]) -> float:
    """Student's upper confidence bound of a mean; the mean itself where there is one score only."""
    mean = math.fsum(scores) / len(scores)
    if len(scores) < 2:
        return mean
    spread = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / (len(scores) - 1))
    return mean + float(stats.t.ppf(CONFIDENCE, len(scores) - 1)) * spread / math.sqrt(len(scores))
