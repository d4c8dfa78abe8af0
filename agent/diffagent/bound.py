"""The most that a plan can gain, by Amdahl's law (1967): what it leaves of each part of an image's time, step by step.

What a method leaves of a part stands in its template (the macro `kept`); no method gains more than all of what it does
not keep. Plans that cannot reach a target so are refused before a device measures them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from diffagent.plan import canonical, steps_of

if TYPE_CHECKING:
    from diffagent.knowledge import Knowledge
    from diffagent.plan import Plan, Subject
    from diffagent.profile import Part, Profile

TOLERANCE: Final = 1.2
"""How far a target may lie above the bound: the profile is one noisy call, and hooks take time too."""
ONCE: Final = ("text_encoder", "vae")
"""Parts that are there once an image, however many steps it takes."""


def most(plan: Plan, profile: Profile, subject: Subject, knowledge: Knowledge) -> float:
    """The speed-up that a plan can have at most; infinity where a method does not say what it leaves."""
    steps = steps_of(plan, subject, knowledge)
    applied = [
        (knowledge[each.method], each.parameters)
        for each in canonical(plan, knowledge, subject.device_kind).methods
        if knowledge[each.method].facts.kind != "sampler"  # which is in the number of steps
    ]
    if any(entry.kept is None for entry, _ in applied):
        return math.inf

    def left_s(part: Part) -> float:
        if part.layer in ONCE:
            faster = [(entry, own) for entry, own in applied if entry.facts.kind == "precision"]
            return part.seconds * math.prod(e.share(own, part.depth, part.layer, 0, steps) for e, own in faster)
        if part.depth == "outside":
            return part.seconds * steps / subject.steps
        shares = (
            math.prod(entry.share(own, part.depth, part.layer, step, steps) for entry, own in applied)
            for step in range(steps)
        )
        return part.seconds / subject.steps * sum(shares)

    left = sum(left_s(part) for part in profile.parts)
    return profile.seconds / left if left > 0 else math.inf


def problem(plan: Plan, profile: Profile, subject: Subject, knowledge: Knowledge, target: float) -> str | None:
    """Why a plan cannot reach a speed-up, or None."""
    if not profile.parts:
        return None
    bound = most(plan, profile, subject, knowledge)
    if bound * TOLERANCE >= target:
        return None
    return f"it cannot be more than {bound:.2f} times faster, by where the time goes (Amdahl); {target:g} is wanted"
