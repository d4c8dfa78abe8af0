"""What works on what: every method beside every model, with why where it cannot; the same facts that refuse tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pytest_diffbench.methods import SAMPLERS, family_problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_diffbench.methods import Method
    from pytest_diffbench.zoo.models import Model

WORKS: Final = "works"


@dataclass(frozen=True)
class Use:
    """A model, and what its images are begun with."""

    model: Model
    from_image: bool = False

    @property
    def name(self) -> str:
        """As a column is headed."""
        return f"{self.model.name}, image" if self.from_image else self.model.name


def uses(models: Iterable[Model]) -> tuple[Use, ...]:
    """Every model from noise, and those that can from an image."""
    return tuple(
        Use(model, from_image)
        for model in models
        for from_image in (False, True)
        if not from_image or model.image_to_image_classes
    )


def sampler_problem(name: str, use: Use) -> str | None:
    """Why a sampler cannot work there, or None."""
    return family_problem(SAMPLERS[name][0], use.model.families)


def method_problem(method: Method, use: Use) -> str | None:
    """Why a method cannot work there, or None."""
    if method.sampler is not None:
        return sampler_problem(method.sampler, use)
    return method.model_problem(use.model)


def table(models: Sequence[Model], methods: Iterable[Method]) -> str:
    """All of it as a Markdown table, each reason once below it."""
    columns, reasons = uses(models), dict[str, int]()

    def cell(problem: str | None) -> str:
        if problem is None:
            return WORKS
        return f"no ({reasons.setdefault(problem, len(reasons) + 1)})"

    rows = {name: [cell(sampler_problem(name, use)) for use in columns] for name in SAMPLERS}
    for method in methods:
        if method.sampler is None:
            rows[method.name] = [cell(method_problem(method, use)) for use in columns]
    lines = [["", *(use.name for use in columns)], ["---"] * (len(columns) + 1)]
    lines += [[f"`{name}`", *cells] for name, cells in rows.items()]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "\n".join(f"{number}. {reason}" for reason, number in reasons.items())
    return f"{text}\n\n{notes}\n"
