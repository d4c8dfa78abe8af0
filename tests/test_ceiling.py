"""What methods can gain on the real architectures: counted without weights, and as the papers say."""

from __future__ import annotations

import re

import pytest
from diffagent.catalogue import METHODS

from pytest_diffbench import methods
from pytest_diffbench.ceiling import Ceiling, Subject
from pytest_diffbench.cli import main
from pytest_diffbench.methods import Method
from pytest_diffbench.zoo.models import DIT, FAMILIES, SD15, SDXL, Model

KNOWN = {method.name: method for method in (*methods.BUILT_IN, *METHODS)}
STEPS = 10
"""Enough to see what is left out, and quickly counted."""


def _ceiling(model: Model, method: Method, **parameters: object) -> Ceiling:
    only = Method(
        method.name,
        method.summary,
        method.parameters,
        method.source_problem,
        method.running_problem,
        sampler=method.sampler,
        model_problem=method.model_problem,
        applied=method.applied,
        examples=(parameters,),
    )
    (found,) = Subject(model, STEPS, model.size).ceilings([only])
    return found


@pytest.mark.parametrize(
    ("model", "size_px", "million_parameters", "gmacs"),
    [
        ("sd15", 512, 859.5, 401.6),
        ("sd21", 768, 865.9, 1074.6),
        ("sdxl", 1024, 2567.5, 3380.6),
        ("dit", 256, 749.8, 118.7),
        ("dit", 512, 749.8, 524.6),
        ("pixart_alpha", 1024, 610.9, 3254.8),
    ],
)
def test_real_denoisers_are_as_large_as_published(
    model: str, size_px: int, million_parameters: float, gmacs: float
) -> None:
    """DiT-XL/2: 118.6 and 524.6 GMAC (Peebles & Xie 2023, table 4); Stable Diffusion 1.5: 859.5 M parameters."""
    known = {each.name: each for each in FAMILIES}
    found = Subject(known[model], STEPS, size_px).denoiser()

    assert found.parameters / 1e6 == pytest.approx(million_parameters, abs=0.05)
    assert found.macs / 1e9 == pytest.approx(gmacs, abs=0.05)


def test_what_a_method_leaves_out_is_left_out_of_the_count() -> None:
    """Shares that are known without counting: no guidance in two fifths of the steps, and every step but a few."""
    assert _ceiling(DIT, KNOWN["guidance_window"], start=0.2, stop=0.8).work_share == pytest.approx(0.8)
    assert _ceiling(DIT, KNOWN["dpm_solver"], steps=4).work_share == 0.4
    assert _ceiling(DIT, KNOWN["dpm_solver"], steps=4).speedup == 2.5
    reused = _ceiling(DIT, KNOWN["block_reuse"], interval=2).work_share
    assert reused is not None
    assert 0.5 < reused < 0.7  # the first steps are whole, and a step that reuses is not free


def test_a_method_that_changes_nothing_has_no_gain() -> None:
    """Token Merging at the defaults of its package finds no tokens on the largest grid of SDXL."""
    half = _ceiling(SD15, KNOWN["token_merging"], ratio=0.5).work_share

    assert half is not None
    assert half == pytest.approx(0.902, abs=0.002)
    assert _ceiling(SD15, KNOWN["token_merging"], ratio=0.0).work_share == pytest.approx(1)


@pytest.mark.parametrize(
    ("model", "method", "parameters", "why"),
    [
        (DIT, "deepcache", {"interval": 3}, "U-Net"),
        (DIT, "tgate", {"gate_step": 4}, "cross-attention"),
    ],
)
def test_what_cannot_work_has_no_ceiling(model: Model, method: str, parameters: dict[str, object], why: str) -> None:
    """It says why instead, and the methods after it are counted all the same."""
    found = _ceiling(model, KNOWN[method], **parameters)

    assert (found.work_share, found.speedup) == (None, None)
    assert why in found.problem


def test_every_method_that_saves_work_has_an_example() -> None:
    """So that `diffbench ceiling` has a line for it; half precision saves none."""
    assert {name for name, method in KNOWN.items() if not method.examples} == {"half_precision"}
    for method in KNOWN.values():
        for example in method.examples:
            assert all(method.parameters[name](value) for name, value in example.items()), method.name


def test_deepcache_saves_on_the_real_sdxl_what_its_paper_says() -> None:
    """One step in five whole, of the others the outermost blocks only (Ma et al. 2024)."""
    share = _ceiling(SDXL, KNOWN["deepcache"], interval=5).work_share

    assert share is not None
    assert share == pytest.approx(0.212, abs=0.01)


def test_the_command_names_every_ceiling_or_why_there_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    """Methods come by the hook: those of diffagent are there without being imported by name."""
    assert main(["ceiling", "dit", "--method", "guidance_window", "--method", "deepcache", "--steps", "5"]) == 0

    told = capsys.readouterr().out
    assert "dit: 256 px, 5 guided steps; denoiser 749.8 M parameters, 118.7 GMAC" in told
    assert "guidance_window(start=0.2, stop=0.8)" in told
    assert "0.800 of the work, at most 1.25x" in told
    assert "deepcache(interval=2)" in told
    assert "cannot work: it keeps the features below a U-Net's skips" in told


@pytest.mark.parametrize("arguments", [["vit"], ["dit", "--method", "magic"]])
def test_the_command_says_what_it_knows(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is none is told with those that are."""
    assert main(["ceiling", *arguments]) == 1

    assert re.search(r"'(vit|magic)' is unknown: use one of .*(sd15|tgate)", capsys.readouterr().err)
