"""Candidate and baseline side by side: pairs until the speed is decided, then their images until the quality is."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from scipy import stats

from pytest_diffbench import clock, cost
from pytest_diffbench.demand import LEAST_PAIRS, demanded_speedup
from pytest_diffbench.judge import guards, quality
from pytest_diffbench.judge.album import Canaries, Odd, Recall
from pytest_diffbench.records import Outcome, StepControl
from pytest_diffbench.sequential import BROKEN_ONE_IN, CERTIFIED_QUALITY, QUALITY, SHARE, SPEED, STRICT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytest_diffbench.clock import Pair, Trial
    from pytest_diffbench.demand import Demand
    from pytest_diffbench.isolation import Reply
    from pytest_diffbench.judge import ClipScorer
    from pytest_diffbench.judge.album import Image
    from pytest_diffbench.judge.metric import Metric
    from pytest_diffbench.records import Cost, Speed
    from pytest_diffbench.requests import Requests
    from pytest_diffbench.sequential import Plan
    from pytest_diffbench.wire import Request
    from pytest_diffbench.workbench import Start
    from pytest_diffbench.zoo.supply import Weights

LEAST_IMAGES: Final = 10
"""The paper's count."""
CANARY_IMAGES: Final = 2
"""Timed requests that are asked for once more with something changed."""
CONTROL_TOLERANCE: Final = 1.25
"""A control that takes more than so many times the candidate's time controls nothing."""
CONFIDENCE: Final = 0.95


@dataclass(frozen=True)
class Plans:
    """When each of the sequential tests looks."""

    speed: Plan = SPEED
    share: Plan = SHARE
    quality: Plan = QUALITY
    strict: Plan = STRICT
    broken_one_in: int | None = BROKEN_ONE_IN
    """One image in so many may be broken; None: no image may."""

    def second_try(self, factor: float) -> Plans:
        """What follows an undecided first try, each at a level so many times smaller; cut short before, if at all."""
        return replace(
            self,
            speed=self.speed.second_try(factor),
            share=self.share.second_try(factor),
            quality=self.quality.second_try(factor),
            strict=self.strict.second_try(factor),
        )

    def at_most(self, pairs: int) -> Plans:
        """Those of speed cut short, but for their first look."""
        return replace(
            self,
            speed=self.speed.at_most(max(pairs, self.speed.looks[0])),
            share=self.share.at_most(max(pairs, self.share.looks[0])),
        )


CERTIFIED: Final = Plans(quality=CERTIFIED_QUALITY, broken_one_in=None)
QUICK: Final = Plans(
    speed=replace(SPEED.at_most(8), tight=0.1),
    share=SHARE.at_most(8),
    quality=QUALITY.at_most(16),
    strict=STRICT.at_most(12),
    broken_one_in=LEAST_IMAGES,
)
"""For feedback: what is not sure by then goes by its estimate, or stays open; one broken image may be luck."""


@dataclass(frozen=True)
class Arms:
    """One start of both processes, ready to be timed."""

    trial: Trial
    baseline: Start
    candidate: Start
    memory_bytes: Callable[[], tuple[int, int]]
    """Peaks of baseline and candidate so far."""


class Comparison:
    """One round of pairs and the judgement of their images; an undecided task gets a second one."""

    def __init__(
        self,
        demand: Demand,
        weights: Weights,
        requests: Requests,
        warm_up_requests: Requests,
        *,
        plans: Plans,
        starts: int = 1,
    ) -> None:
        self._demand = demand
        self._weights = weights
        self._requests = requests
        self._warm_up_requests = warm_up_requests
        self._plans = plans
        self._starts: list[Arms] = []
        self._memory_bytes: list[tuple[int, int]] = []
        """Peaks of baseline and candidate, a start each; its processes may have ended since."""
        self._least_pairs = max(LEAST_PAIRS, math.ceil(LEAST_IMAGES / demand.task.batch))
        self._several_starts = starts > 1
        share = math.ceil(self._plans.quality.looks[0] / starts / demand.task.batch)
        self._pairs_a_start = max(self._least_pairs, share)

    @property
    def plans(self) -> Plans:
        """When its tests look."""
        return self._plans

    # -- speed -----------------------------------------------------------------------------------------------------

    def time(self, arms: Arms) -> None:
        """Warm both processes up and time pairs until this start has decided, or may not look again."""
        self._starts.append(arms)
        trial = arms.trial
        try:
            trial.warm_up(self._warm_up_requests.batch)
            wanted = self._next_look(trial)
            while wanted is not None:
                self._make(trial, wanted)
                wanted = self._next_look(trial)
            if self._several_starts and not self.too_slow:
                # each brings its share of the images: its processes will have ended by then
                self._make(trial, self._pairs_a_start)
        finally:
            self._memory_bytes.append(arms.memory_bytes())

    @property
    def too_slow(self) -> bool:
        """Whether the last start has missed the demand, so that the claim cannot hold whatever others say."""
        pairs = self._starts[-1].trial.pairs
        decision = clock.decide(pairs, self._demand.markers, self._plans.speed, self._plans.share) if pairs else None
        return decision is not None and decision.outcome is Outcome.BELOW

    def _make(self, trial: Trial, count: int) -> None:
        trial.extend(count, self._requests.batch, self._warm_up_requests.batch)

    def _next_look(self, trial: Trial) -> int | None:
        """The number of pairs to go on to; None where no more are needed."""
        count, markers = len(trial.pairs), self._demand.markers
        by_ratio = demanded_speedup(markers) is not None
        if not by_ratio and markers.latency is None:
            return self._least_pairs if count < self._least_pairs else None
        plan = self._plans.speed if by_ratio else self._plans.share
        decision = clock.decide(trial.pairs, markers, self._plans.speed, self._plans.share) if count else None
        if decision is not None and decision.outcome is not Outcome.OPEN:
            return None
        return plan.next_look(count)

    @property
    def started(self) -> bool:
        """Whether there is a pair at all."""
        return bool(self._pairs())

    def speed(self) -> Speed:
        """What the pairs of all starts say."""
        repeated: Counter[str] = sum((start.trial.repeated for start in self._starts), Counter())
        return clock.evidence(
            [start.trial.pairs for start in self._starts],
            self._demand.markers,
            plan=self._plans.speed,
            share_plan=self._plans.share,
            warm_up_calls=max(len(start.trial.warm_up_s[0]) for start in self._starts),
            repeated=repeated,
            peak_memory_ratio=statistics.median(peak / max(1, base) for base, peak in self._memory_bytes),
        )

    def cost(self) -> Cost:
        """What the first start cost, with everything that was timed."""
        first = self._starts[0]
        return cost.evidence(
            first.baseline,
            first.candidate,
            self._pairs(),
            memory_bytes=self._memory_bytes[0],
            batch=self._demand.task.batch,
        )

    def first_answer(self) -> tuple[Pair, float]:
        """The first timed pair, and the seconds of the candidate's slowest timed call."""
        pairs = self._pairs()
        return pairs[0], max(pair.candidate.elapsed_s for pair in pairs)

    def deciding_baseline_s(self) -> list[float]:
        """The baseline's times in the last start, up to the pair that decided its speed."""
        pairs = self._starts[-1].trial.pairs
        decision = clock.decide(pairs, self._demand.markers, self._plans.speed, self._plans.share)
        count = decision.decided_after if decision is not None else len(pairs)
        return [pair.baseline.elapsed_s for pair in pairs[: max(count, LEAST_PAIRS)]]

    def baseline_alone_s(self, count: int) -> list[float]:
        """Its times for so many fresh requests, with nobody beside it: the candidate's process has ended by then."""
        trial = self._starts[-1].trial
        return [trial.ask_baseline(self._requests.batch()).elapsed_s for _ in range(count)]

    def baseline_beside_s(self, trial: Trial, count: int) -> list[float]:
        """Its times in so many more pairs, with another process of the candidate's; none of them counts."""
        trial.extend(count, self._requests.batch, self._warm_up_requests.batch)
        return [pair.baseline.elapsed_s for pair in trial.pairs]

    # -- quality ---------------------------------------------------------------------------------------------------

    def judgement(
        self, scorer: ClipScorer, say: Callable[[str], None], metrics: Sequence[Metric] = ()
    ) -> quality.Judgement:
        """The timed images, judged; more are made as long as the looks leave it open."""
        marker = self._demand.markers.quality
        rule = quality.Rule(
            max_loss=marker.max_loss,
            strict=marker.strict,
            reference_clip_score=self._recorded_clip_score(),
            floor_clip_score=self._weights.floor_clip_score,
            plan=self._plans.quality,
            strict_plan=self._plans.strict,
            broken_one_in=self._plans.broken_one_in,
        )
        found = quality.Judgement(scorer, rule, metrics)
        judged = 0
        wanted: int | None = max(LEAST_IMAGES, self._plans.quality.looks[0])
        while wanted is not None:
            say(f"judging {wanted} images")
            self._extend(wanted)
            pairs = self._pairs()
            for pair in pairs[judged:]:
                found.add(self._captions(pair), pair.baseline.images, pair.candidate.images, pair.inputs)
            judged = len(pairs)
            wanted = found.wanted()
        return found

    def _recorded_clip_score(self) -> float | None:
        """What the zoo records for exactly this configuration; None where it records nothing of it."""
        demand, model = self._demand, self._demand.model
        recorded = (demand.steps, demand.guidance) == (model.steps, model.guidance)
        return self._weights.clip_scores.get(demand.sampler) if recorded else None

    def _extend(self, images: int) -> None:
        """Time more pairs, in the last start: the processes of earlier ones have ended."""
        trial = self._starts[-1].trial
        missing = math.ceil(images / self._demand.task.batch) - len(self._pairs())
        self._make(trial, len(trial.pairs) + max(0, missing))
        self._memory_bytes[-1] = self._starts[-1].memory_bytes()

    def canaries(self, probed: Sequence[tuple[Sequence[Request], Reply]] = ()) -> Canaries:
        """The last and the first timed requests asked for again: as they were, with another seed, with another prompt.

        And the baseline, what the candidate was asked first (`probed`, with its answers).

        The last first: a memory of a single answer holds that one.
        """
        trial = self._starts[-1].trial
        asked = (trial.pairs[-1], trial.pairs[0])
        pairs = asked[: math.ceil(CANARY_IMAGES / self._demand.task.batch)]
        seeds = [self._requests.reseeded(pair.requests) for pair in asked]
        # each right before its own other seed, which shares with it whatever may be kept of a prompt
        answers = [
            (trial.ask_candidate(pair.requests), trial.ask_candidate(reseeded))
            for pair, reseeded in zip(asked, seeds, strict=True)
        ]
        prompts = [self._requests.reprompted(pair.requests) for pair in pairs]
        base, timed = [pair.baseline for pair in pairs], [pair.candidate for pair in pairs]
        timed_s = [pair.candidate.elapsed_s for pair in trial.pairs]
        return Canaries(
            repeated=_both((pair.candidate, again) for pair, (again, _) in zip(asked, answers, strict=True)),
            reseeded=_both(zip(timed, (reseeded for _, reseeded in answers), strict=False)),
            reprompted=_beside(timed, trial.ask_candidate, prompts),
            baseline_reseeded=_beside(base, trial.ask_baseline, seeds[: len(pairs)]),
            baseline_reprompted=_beside(base, trial.ask_baseline, prompts),
            recalls=tuple(
                Recall(again.elapsed_s, other.elapsed_s, min(*timed_s, other.elapsed_s), max(timed_s))
                for again, other in answers
            ),
            probed=sum(len(reply.images) for _, reply in probed),
            odd=tuple(odd for requests, reply in probed for odd in self._odd(requests, reply)),
        )

    def _odd(self, requests: Sequence[Request], reply: Reply) -> Iterator[Odd]:
        """The baseline beside what the candidate left flat; where that is not flat, both with other seeds too."""
        flat = [place for place, image in enumerate(reply.images) if guards.is_flat(image)]
        if not flat:  # as nearly always: the baseline need not be asked
            return
        trial = self._starts[-1].trial
        images = _both([(trial.ask_baseline(requests), reply)])
        again: list[tuple[tuple[Image, Image], ...]] = []
        if guards.any_flat(images):
            seeds = [self._requests.reseeded(requests) for _ in range(guards.ODD_AGAIN)]
            again = [_both([(trial.ask_baseline(each), trial.ask_candidate(each))]) for each in seeds]
        for place in flat:
            yield Odd(images[place], tuple(each[place] for each in again))

    def step_control(self, judgement: quality.Judgement, candidate_clip: Sequence[float]) -> StepControl | None:
        """The baseline with as few steps as take the candidate's time, on the same requests.

        None where the task fixes the steps, where nothing was gained to be explained by them, or where the baseline
        takes as long with fewer steps (its code ignores `num_inference_steps`).
        """
        pairs, trial = self._pairs(), self._starts[-1].trial
        aim_s = statistics.median(pair.candidate.elapsed_s for pair in pairs)
        full_s = statistics.median(pair.baseline.elapsed_s for pair in pairs)
        if self._demand.demanded_steps is not None or self._demand.steps < 2 or full_s <= aim_s:
            return None
        guess = min(self._demand.steps - 1, max(1, round(self._demand.steps * aim_s / full_s)))
        once_s = trial.ask_baseline(_with_steps(pairs[0].requests, guess)).elapsed_s
        steps = _steps_for(aim_s, (self._demand.steps, full_s), (guess, once_s))
        replies = [trial.ask_baseline(_with_steps(pair.requests, steps)) for pair in pairs]
        elapsed_s = statistics.median(reply.elapsed_s for reply in replies)
        if elapsed_s > min(CONTROL_TOLERANCE * aim_s, (aim_s + full_s) / 2):
            return None
        prompts = [caption for pair in pairs for caption in self._captions(pair)]
        control = judgement.clip_scores(prompts, [image for reply in replies for image in reply.images])
        gains = [mine - its for mine, its in zip(candidate_clip, control, strict=True)]
        return StepControl(
            steps=steps,
            elapsed_s=elapsed_s,
            clip_score=statistics.fmean(control),
            gain=statistics.fmean(gains),
            gain_low=_lower_bound(gains),
        )

    def more_images(self, count: int) -> tuple[list[Image], list[Image]]:
        """The timed images of both arms, and untimed ones until there are `count` of each."""
        baseline = [image for pair in self._pairs() for image in pair.baseline.images]
        candidate = [image for pair in self._pairs() for image in pair.candidate.images]
        trial = self._starts[-1].trial
        while len(baseline) < count:
            requests = self._requests.batch()
            baseline += trial.ask_baseline(requests).images
            candidate += trial.ask_candidate(requests).images
        return baseline, candidate

    def _captions(self, pair: Pair) -> list[str]:
        return [self._weights.caption(request) for request in pair.requests]

    def _pairs(self) -> tuple[Pair, ...]:
        return tuple(pair for start in self._starts for pair in start.trial.pairs)


def _beside(
    timed: Sequence[Reply], ask: Callable[[Sequence[Request]], Reply], changed: Sequence[Sequence[Request]]
) -> tuple[tuple[Image, Image], ...]:
    """Each timed image with what the same arm makes of the changed request."""
    return _both((reply, ask(requests)) for reply, requests in zip(timed, changed, strict=True))


def _both(replies: Iterable[tuple[Reply, Reply]]) -> tuple[tuple[Image, Image], ...]:
    """The images of two answers side by side."""
    return tuple(both for reply, new in replies for both in zip(reply.images, new.images, strict=True))


def _with_steps(requests: Sequence[Request], steps: int) -> tuple[Request, ...]:
    return tuple(replace(request, num_inference_steps=steps) for request in requests)


def _steps_for(aim_s: float, one: tuple[int, float], other: tuple[int, float]) -> int:
    """The steps that take `aim_s`, on the line through two measurements; at least 1, at most those of the baseline."""
    (many, many_s), (few, few_s) = one, other
    slope = (many_s - few_s) / (many - few) if many != few else 0.0
    steps = few + (aim_s - few_s) / slope if slope > 0 else few
    return min(max(1, round(steps)), many)


def _lower_bound(values: Sequence[float]) -> float:
    """Student's lower 95 % bound of the mean; the mean where nothing varies."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    half = float(stats.t.isf(1 - CONFIDENCE, len(values) - 1)) * spread / math.sqrt(len(values)) if spread else 0.0
    return statistics.fmean(values) - half
