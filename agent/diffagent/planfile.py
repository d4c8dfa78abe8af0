"""A plan as a small file: what is done, to which model it was found for, and the evidence that earned it."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from diffagent.plan import Applied, Plan

if TYPE_CHECKING:
    from pathlib import Path


class PlanFileError(ValueError):
    """A file that holds no plan; the message says what is wrong with it."""


class MadeFor(BaseModel):
    """What a plan was found for; another denoiser may not be treated so without measuring again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    denoiser_class: str
    denoiser_parameters: int
    num_inference_steps: int
    """Of an image before the plan."""


class Evidence(BaseModel):
    """What was measured when it was found."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    speedup: float
    speedup_low: float | None = None
    speedup_high: float | None = None
    """The ends of what the pairs allow."""
    clip_loss: float
    """Share of the baseline's CLIP-Score."""
    clip_loss_high: float | None = None
    target: float | None = None
    """The speed-up that was asked for."""
    date: str = ""
    device: str = ""
    solution_sha256: str = ""


class PlanFile(BaseModel):
    """The content of a `plan.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    made_for: MadeFor
    evidence: Evidence | None = None
    methods: tuple[Applied, ...] = Field(default=())

    @property
    def plan(self) -> Plan:
        """What is done."""
        return Plan(methods=self.methods)


def save(file: Path, content: PlanFile) -> None:
    """Write a plan as TOML."""
    file.write_text(tomli_w.dumps(content.model_dump(exclude_none=True)), encoding="utf-8")


def load(file: Path) -> PlanFile:
    """Read a plan; PlanFileError where the file holds none."""
    try:
        return PlanFile.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise PlanFileError(f"{file} holds no plan: {error}") from error
