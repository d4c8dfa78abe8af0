"""What a task's evidence reads like in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytest_diffbench.records import Outcome

if TYPE_CHECKING:
    from pytest_diffbench.records import Quality, Speed, TaskReport

WORD: Final = {Outcome.ABOVE: "PASS", Outcome.BELOW: "FAIL", Outcome.OPEN: "UNDECIDED"}


def verdict_line(task: TaskReport) -> str:
    """`speed 2.03x [1.97, 2.09] ≥ 1.80 PASS n=6 | CLIP loss 0.6 % [-0.3, 1.5] ≤ 5 % PASS | strict … | guards 12/12`."""
    parts = []
    if task.speed is not None:
        parts.append(speed_part(task.speed))
    if task.claim_above_ceiling is not None:
        parts.append(f"above its ceiling: the work that it saves explains {task.claim_above_ceiling:.2f}x")
    if task.quality is not None:
        parts += quality_parts(task.quality)
    if task.undecided_runs:
        parts.append("second try")
    if task.resumed:
        parts.append("resumed")
    return " | ".join(parts)


def speed_part(speed: Speed) -> str:
    """The speed-up, or the latency, beside what was demanded."""
    found = f"speed {speedup(speed)}"
    if speed.demanded_speedup is not None:
        found += f" ≥ {speed.demanded_speedup:.2f}"
    elif speed.demanded_latency_s is not None and speed.latency_s is not None:
        found += f", latency {speed.latency_s:.3f} s ≤ {speed.demanded_latency_s:.3f} s"
    if speed.decision is not None:
        found += f" {WORD[speed.decision]}{' (borderline)' if speed.borderline else ''}"
    count = speed.decided_after if speed.decided_after is not None else len(speed.baseline_s)
    found += f" n={count}"
    if speed.by_start:
        found += f", by start {', '.join(f'{value:.2f}' for value in speed.by_start)}"
    if speed.repeated:
        found += f", timed again: {', '.join(f'{cause} {n}' for cause, n in sorted(speed.repeated.items()))}"
    return found


def speedup(speed: Speed) -> str:
    """`2.03x [1.97, 2.09]`."""
    high = f"{speed.speedup_high:.2f}" if speed.speedup_high is not None else "∞"
    return f"{speed.speedup:.2f}x [{speed.speedup_low:.2f}, {high}]"


def quality_parts(quality: Quality) -> list[str]:
    """The loss with its interval, the strict gate, the guards, and what else was found."""
    parts = []
    if quality.loss is not None and quality.decision is not None:
        loss = f"CLIP loss {round(100 * quality.loss, 1) + 0.0:.1f} %"  # no "-0.0"
        if quality.loss_low is not None and quality.loss_high is not None:
            loss += f" [{100 * quality.loss_low:.1f}, {100 * quality.loss_high:.1f}]"
        parts.append(f"{loss} ≤ {100 * quality.max_loss:g} % {WORD[quality.decision]}")
    if quality.strict_decision is not None:
        parts.append(f"strict {WORD[quality.strict_decision]}")
    if quality.guards:
        parts.append(f"guards {sum(guard.passed for guard in quality.guards)}/{len(quality.guards)}")
    parts += [
        f"{metric.name} {metric.candidate:.4g} ({metric.baseline:.4g})"
        + (f" {WORD[metric.decision]}" if metric.decision is not None else "")
        for metric in quality.metrics
    ]
    if quality.distribution is not None:
        parts.append(f"FID {quality.distribution.fid:.2f}, KID {quality.distribution.kid:.4f}")
    if quality.step_control is not None and quality.step_control.suffices:
        parts.append(f"fewer steps suffice ({quality.step_control.steps})")
    return parts
