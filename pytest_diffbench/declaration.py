"""A task and its markers as the text that declares them in a test file."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_diffbench.demand import Markers
    from pytest_diffbench.task import Task

PATHS: Final = ("baseline", "prompts", "scorer", "images")
"""What of a task names a file beside it."""


def of_task(task: Task) -> str:
    """The call that makes it, what it leaves open left out."""
    first, *others = fields(task)
    said = [repr(getattr(task, first.name))]
    for field in others:
        value = task.method_parameters() if field.name == "methods" else getattr(task, field.name)
        if value != ({} if field.name == "methods" else field.default):
            said.append(f"{field.name}={value!r}")
    return f"Task({', '.join(said)})"


def docstring(text: str) -> str:
    """A text as the literal that says just that, whatever stands in it."""
    return f'"""{text}"""' if not ("\\" in text or '"""' in text or text.endswith('"')) else repr(text)


def of_loading(markers: Markers) -> Iterator[str]:
    """What it demands of the first stage alone."""
    if markers.executability.timeout_s is not None:
        yield f"@pytest.mark.executability(timeout_s={markers.executability.timeout_s!r})"


def of_markers(markers: Markers) -> Iterator[str]:
    """What it demands, a decorator each."""
    yield from of_loading(markers)
    if markers.speed is not None:
        yield f"@pytest.mark.speed(at_least={markers.speed.at_least!r})"
    if markers.latency is not None:
        latency = markers.latency
        told = {"at_most_s": latency.at_most_s, "at_most_of_baseline": latency.at_most_of_baseline}
        limits = ", ".join(f"{name}={value!r}" for name, value in told.items() if value is not None)
        yield f"@pytest.mark.latency({limits}, percentile={latency.percentile!r})"
    strict = ", strict=True" if markers.quality.strict else ""
    yield f"@pytest.mark.quality(max_loss={markers.quality.max_loss!r}{strict})"
