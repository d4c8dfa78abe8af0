"""What a task's evidence reads like: word by word, for what a user meets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_diffbench.records import (
    Distribution,
    Executability,
    Guard,
    MetricResult,
    Observation,
    Outcome,
    Quality,
    Speed,
    StepControl,
    TaskReport,
    Verdict,
)
from pytest_diffbench.wording import WORD, quality_parts, speed_part, speedup, verdict_line

SPEED = Speed(
    baseline_s=(2.0,) * 10,
    candidate_s=(1.0,) * 10,
    order="BC" * 5,
    speedup=2.03,
    speedup_low=1.97,
    speedup_high=2.09,
    decision=Outcome.ABOVE,
    decided_after=6,
    demanded_speedup=1.8,
    latency_s=1.0,
)
QUALITY = Quality(
    baseline_clip=(31.0,) * 10,
    candidate_clip=(30.8,) * 10,
    clip_score=30.8,
    loss=0.006,
    max_loss=0.05,
    loss_low=-0.003,
    loss_high=0.015,
    decision=Outcome.ABOVE,
    decided_after=10,
    strict_decision=Outcome.OPEN,
    guards=tuple(Guard(f"guard {number}", passed=True, found="fine") for number in range(12)),
)
TASK = TaskReport("suite.py::test", "test", "agent", Verdict.PASS)
CONTROL = StepControl(steps=20, elapsed_s=1.0, clip_score=30.9, gain=-0.1, gain_low=-0.4)
LATENCY = replace(SPEED, demanded_speedup=None, latency_s=0.4812, demanded_latency_s=0.5)


def test_a_passed_task_is_one_line() -> None:
    """Speed-up with bounds, demand, verdict and count; the loss likewise; the strict gate; the guards."""
    assert verdict_line(replace(TASK, speed=SPEED, quality=QUALITY)) == (
        "speed 2.03x [1.97, 2.09] ≥ 1.80 PASS n=6 | CLIP loss 0.6 % [-0.3, 1.5] ≤ 5 % PASS"
        " | strict UNDECIDED | guards 12/12"
    )


def _seen(flops: float, *, dtype: str = "float32") -> Executability:
    plain = Observation("UNet", denoiser_calls=50, denoiser_flops=100.0)
    seen = replace(plain, denoiser_flops=flops)
    return Executability(1.0, 1.0, 1.0, dtype=dtype, observed=seen, baseline_observed=plain)


@pytest.mark.parametrize(
    ("executability", "ceiling"),
    [
        (_seen(80.0), 1.25),  # 1.97 and more claimed, with four fifths of the work
        (_seen(100 / 1.7), 1.7),
        (_seen(100 / 1.9), None),  # within what small models do
        (_seen(40.0), None),
        (_seen(80.0, dtype="bfloat16"), None),
        (_seen(0.0), None),  # could not be counted
        (None, None),
    ],
)
def test_a_claim_above_its_ceiling_is_flagged(executability: Executability | None, ceiling: float | None) -> None:
    """Where even the least speed-up that the pairs allow is more than the work saved explains."""
    task = replace(TASK, speed=SPEED, executability=executability)

    flag = f" | above its ceiling: the work that it saves explains {ceiling:.2f}x" if ceiling is not None else ""
    assert verdict_line(task) == verdict_line(replace(TASK, speed=SPEED)) + flag


SPEEDS: dict[str, tuple[Speed, str]] = {
    "missed": (
        replace(SPEED, speedup=1.5, speedup_low=1.449, speedup_high=1.551, decision=Outcome.BELOW),
        "speed 1.50x [1.45, 1.55] ≥ 1.80 FAIL n=6",
    ),
    "undecided": (
        replace(SPEED, speedup=1.8, speedup_low=1.7, speedup_high=1.9, decision=Outcome.OPEN, decided_after=24),
        "speed 1.80x [1.70, 1.90] ≥ 1.80 UNDECIDED n=24",
    ),
    "borderline": (replace(SPEED, borderline=True), "speed 2.03x [1.97, 2.09] ≥ 1.80 PASS (borderline) n=6"),
    "unbounded": (replace(SPEED, speedup_low=0.0, speedup_high=None), "speed 2.03x [0.00, ∞] ≥ 1.80 PASS n=6"),
    "nothing demanded": (
        replace(SPEED, demanded_speedup=None, decision=None, decided_after=None),
        "speed 2.03x [1.97, 2.09] n=10",
    ),
    "latency": (LATENCY, "speed 2.03x [1.97, 2.09], latency 0.481 s ≤ 0.500 s PASS n=6"),
    "latency missed": (
        replace(LATENCY, latency_s=0.6, decision=Outcome.BELOW),
        "speed 2.03x [1.97, 2.09], latency 0.600 s ≤ 0.500 s FAIL n=6",
    ),
    "several starts": (
        replace(SPEED, by_start=(2.0, 2.096, 2.03), decided_after=14),
        "speed 2.03x [1.97, 2.09] ≥ 1.80 PASS n=14, by start 2.00, 2.10, 2.03",
    ),
    "timed again": (
        replace(SPEED, repeated={"foreign process on the device": 1, "device not idle": 2}),
        "speed 2.03x [1.97, 2.09] ≥ 1.80 PASS n=6, timed again: device not idle 2, foreign process on the device 1",
    ),
}


@pytest.mark.parametrize(("speed", "words"), SPEEDS.values(), ids=SPEEDS)
def test_a_speed_is_told_beside_its_demand(speed: Speed, words: str) -> None:
    """What was found, what was demanded, what that decides, on how many pairs, and what was unusual."""
    assert speed_part(speed) == words


QUALITIES: dict[str, tuple[Quality, list[str]]] = {
    "lost too much": (
        replace(QUALITY, loss=0.123, loss_low=0.08, loss_high=0.166, decision=Outcome.BELOW, strict_decision=None),
        ["CLIP loss 12.3 % [8.0, 16.6] ≤ 5 % FAIL", "guards 12/12"],
    ),
    "undecided": (
        replace(QUALITY, decision=Outcome.OPEN, strict_decision=None, guards=()),
        ["CLIP loss 0.6 % [-0.3, 1.5] ≤ 5 % UNDECIDED"],
    ),
    "without bounds": (
        replace(QUALITY, loss_low=None, loss_high=None, strict_decision=None, guards=()),
        ["CLIP loss 0.6 % ≤ 5 % PASS"],
    ),
    "another limit": (
        replace(QUALITY, max_loss=0.07, strict_decision=None, guards=()),
        ["CLIP loss 0.6 % [-0.3, 1.5] ≤ 7 % PASS"],
    ),
    "a fraction of a percent": (
        replace(QUALITY, max_loss=0.015, strict_decision=None, guards=()),
        ["CLIP loss 0.6 % [-0.3, 1.5] ≤ 1.5 % PASS"],
    ),
    "a baseline that scores nothing": (replace(QUALITY, loss=None, strict_decision=None, guards=()), []),
    "strictly good": (
        replace(QUALITY, strict_decision=Outcome.ABOVE, guards=()),
        ["CLIP loss 0.6 % [-0.3, 1.5] ≤ 5 % PASS", "strict PASS"],
    ),
    "guards turned red": (
        replace(
            QUALITY,
            strict_decision=Outcome.BELOW,
            guards=(*QUALITY.guards[:9], *(replace(guard, passed=False) for guard in QUALITY.guards[9:])),
        ),
        ["CLIP loss 0.6 % [-0.3, 1.5] ≤ 5 % PASS", "strict FAIL", "guards 9/12"],
    ),
    "other metrics": (
        replace(
            QUALITY,
            strict_decision=None,
            guards=(),
            metrics=(
                MetricResult("sharpness", 12.3456, 11.98765),
                MetricResult("faces", 0.5, 0.25, loss=0.5, decision=Outcome.BELOW),
            ),
        ),
        ["CLIP loss 0.6 % [-0.3, 1.5] ≤ 5 % PASS", "sharpness 11.99 (12.35)", "faces 0.25 (0.5) FAIL"],
    ),
    "sets of images": (
        replace(QUALITY, strict_decision=None, distribution=Distribution(1000, 12.345, 0.01234, 20.0, 0.8, "tiny")),
        ["CLIP loss 0.6 % [-0.3, 1.5] ≤ 5 % PASS", "guards 12/12", "FID 12.35, KID 0.0123"],
    ),
    "fewer steps are as good": (
        replace(QUALITY, strict_decision=None, guards=(), step_control=CONTROL),
        ["CLIP loss 0.6 % [-0.3, 1.5] ≤ 5 % PASS", "fewer steps suffice (20)"],
    ),
    "fewer steps are worse": (
        replace(QUALITY, strict_decision=None, guards=(), step_control=replace(CONTROL, gain=0.5, gain_low=0.2)),
        ["CLIP loss 0.6 % [-0.3, 1.5] ≤ 5 % PASS"],
    ),
}


@pytest.mark.parametrize(("quality", "words"), QUALITIES.values(), ids=QUALITIES)
def test_a_quality_is_told_in_parts(quality: Quality, words: list[str]) -> None:
    """The loss with its limit, then only what was looked at; a control only where it takes the candidate's merit."""
    assert quality_parts(quality) == words


@pytest.mark.parametrize(
    ("task", "line"),
    [
        pytest.param(TASK, "", id="never ran"),
        pytest.param(replace(TASK, speed=SPEED), "speed 2.03x [1.97, 2.09] ≥ 1.80 PASS n=6", id="speed only"),
        pytest.param(
            replace(TASK, speed=SPEED, undecided_runs=1),
            "speed 2.03x [1.97, 2.09] ≥ 1.80 PASS n=6 | second try",
            id="second try",
        ),
        pytest.param(
            replace(TASK, quality=replace(QUALITY, strict_decision=None)),
            "CLIP loss 0.6 % [-0.3, 1.5] ≤ 5 % PASS | guards 12/12",
            id="quality only",
        ),
    ],
)
def test_a_line_holds_what_there_is(task: TaskReport, line: str) -> None:
    """Whatever was not measured is left out, with its stroke; that it took a second try is told."""
    assert verdict_line(task) == line


def test_a_speedup_is_told_with_its_bounds() -> None:
    """The same words wherever a speed-up stands."""
    assert speedup(SPEED) == "2.03x [1.97, 2.09]"


def test_every_outcome_has_a_word() -> None:
    """Reached, missed, and neither."""
    assert {outcome: WORD[outcome] for outcome in Outcome} == {
        Outcome.ABOVE: "PASS",
        Outcome.BELOW: "FAIL",
        Outcome.OPEN: "UNDECIDED",
    }
