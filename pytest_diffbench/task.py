"""A task: one demand on a diffusion pipeline, and what must become true of it."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    MethodDemands: TypeAlias = Mapping[str, Mapping[str, object]] | Iterable[str]

LEVELS: Final[Mapping[int, str]] = {
    1: "plain pipeline",
    2: "one method",
    3: "combined methods",
    4: "speed-up",
    5: "latency",
}
DIFFICULTIES: Final = ("easy", "medium", "hard")
DEFAULT_MAX_LOSS: Final = 0.05
"""The paper's threshold for absolute and relative quality."""


@dataclass(frozen=True)
class Task:
    """A model, how it is run today, and the methods demanded; what is None comes from the model's own defaults.

    `size` is the real model's, in pixels (the zoo scales it). `batch` is how many requests travel together.
    With `strength` (how much of an image is made anew, up to 1) it is image-to-image. `methods` maps each demanded
    method to its parameters. `baseline`, `prompts` and `scorer` are paths relative to the task's file, needed where
    `model` is a folder of your own; so is `images`, a folder of images to begin with, where it has a `strength`.
    With `fixed_schedule` sampler and steps must stay as they are, so that only a method can help; a task that names its
    methods (levels 1 to 3) says so already.
    """

    model: str
    _: KW_ONLY
    level: int | None = None
    steps: int | None = None
    size: int | None = None
    sampler: str | None = None
    guidance: float | None = None
    batch: int = 1
    strength: float | None = None
    methods: MethodDemands = ()
    baseline: str | None = None
    prompts: str | None = None
    scorer: str | None = None
    images: str | None = None
    fixed_schedule: bool = False
    scenario: str | None = None
    difficulty: str | None = None

    def method_parameters(self) -> dict[str, dict[str, object]]:
        """The demanded methods by name, each with its parameters, in the order of declaration."""
        if isinstance(self.methods, str):
            return {self.methods: {}}
        if hasattr(self.methods, "items"):
            return {str(name): dict(parameters) for name, parameters in self.methods.items()}
        return {str(name): {} for name in self.methods}
