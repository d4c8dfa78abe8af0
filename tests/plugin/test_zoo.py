"""Where weights come from, as a user says it: real folders, real architectures, and what is not there."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from rich.console import Console
from transformers import CLIPConfig, CLIPImageProcessor

from pytest_diffbench import presence
from pytest_diffbench.errors import SetupError
from pytest_diffbench.zoo import architectures, checkpoints, random_weights
from pytest_diffbench.zoo.architectures import ARCHITECTURES
from pytest_diffbench.zoo.models import DIT
from pytest_diffbench.zoo.supply import Zoo
from tests.plugin.conftest import HEAD, SCORER, read_strictly

STAGES = "executability, speed, quality"
LITTLE_DIT = replace(
    ARCHITECTURES["dit"],
    denoiser={**ARCHITECTURES["dit"].denoiser, "num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8},
    autoencoder={**ARCHITECTURES["dit"].autoencoder, "block_out_channels": (32,) * 4, "layers_per_block": 1},
)
"""The published one but for its depth and widths: what writes, loads, counts and times it is the same code."""


def _task(declared: str, stages: str = STAGES) -> str:
    return f"{HEAD}\n@pytest.mark.diffbench({declared})\ndef test_it({stages}):\n    pass\n"


@pytest.fixture
def little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An architecture that fits, and a cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(architectures, "ARCHITECTURES", {**ARCHITECTURES, "dit": LITTLE_DIT})


def _publish_with_checker(folder: Path) -> None:
    """A folder as Stable Diffusion 1.5 was published: in several files each, with a safety checker."""
    pipeline = StableDiffusionPipeline.from_pretrained(
        os.path.dirname(SCORER) + "/sd15",  # noqa: PTH120 (a string beside another)
        dtype=torch.float32,
    )
    torch.manual_seed(0)
    little = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    vision = {**little, "image_size": 32, "patch_size": 16}
    checker = StableDiffusionSafetyChecker(CLIPConfig(text_config=little, vision_config=vision, projection_dim=8))
    torch.nn.init.constant_(checker.concept_embeds_weights, 2.0)  # nothing is as alike as that: it lets all pass
    torch.nn.init.constant_(checker.special_care_embeds_weights, 2.0)
    size = {"height": 32, "width": 32}
    pipeline.register_modules(
        safety_checker=checker, feature_extractor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size)
    )
    pipeline.save_pretrained(folder, max_shard_size="300KB")
    subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)  # the library writes for the owner only


def test_a_model_runs_from_a_folder_as_it_was_published(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The zoo's own baseline, on sharded weights with a safety checker, judged by the scorer that is named.

    The model beside it, whose weights are nowhere, is an error of its own tasks only.
    """
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(project.path / "hub"))
    _publish_with_checker(project.path / "published")
    project.makepyfile(
        test_mine=_task("Task('sd15', level=1, sampler='ddim', steps=12, size=64)"),
        test_missing=_task("Task('sdxl', level=1)"),
    )

    options = ["--diffbench-zoo=full", "--diffbench-checkpoint=sd15=published", "--diffbench-prompts=prompts.txt"]
    options += [f"--diffbench-checkpoint=scorer={SCORER}", "--diffbench-agent=baseline", "--benchmark-json=out.json"]
    ran = project.runpytest_inprocess(*options)
    ran.assert_outcomes(passed=1, errors=1)
    ran.stdout.fnmatch_lines(["*model 'sdxl' needs weights*diffbench models --fetch sdxl*"])
    task = next(task for task in read_strictly(project.path / "out.json")["diffbench"] if "sd15" in str(task["model"]))
    assert task["model_revision"].startswith("own-")
    assert task["quality"]["reference_clip_score"] is None  # recorded of the tiny model, not of this one


@pytest.mark.skipif(os.geteuid() != 0, reason="others are another user only to root")
def test_weights_that_solutions_could_not_read_are_refused(project: pytest.Pytester) -> None:
    """As the library itself writes them, for their owner only: the message holds the line that mends it."""
    _publish_with_checker(project.path / "published")
    closed = next((project.path / "published" / "unet").glob("*.safetensors"))
    closed.chmod(0o600)
    project.makepyfile(test_mine=_task("Task('sd15', level=1, size=64)"))

    options = ["--diffbench-zoo=full", "--diffbench-checkpoint=sd15=published", "--diffbench-agent=baseline"]
    ran = project.runpytest_inprocess(*options, f"--diffbench-checkpoint=scorer={SCORER}")
    ran.assert_outcomes(errors=1)
    ran.stdout.fnmatch_lines([f"*{closed.name} is closed to other users*: chmod -R a+rX *published"])


def test_weights_that_are_not_here_are_an_error_that_says_what_to_do(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is run, and without a look at the network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(project.path / "hub"))
    project.makepyfile(test_mine=_task("Task('sdxl', level=1)"))

    ran = project.runpytest_inprocess("--diffbench-zoo=full", "--diffbench-agent=baseline")
    ran.assert_outcomes(errors=1)
    ran.stdout.fnmatch_lines(["*model 'sdxl' needs weights*diffbench models --fetch sdxl*--diffbench-zoo=tiny*"])


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize("stages", [STAGES, pytest.param("executability, speed", marks=pytest.mark.slow)])
def test_an_architecture_is_timed_and_never_passes(project: pytest.Pytester, stages: str) -> None:
    """Its item is skipped once its speed is known, whether or not it asks for quality."""
    project.makepyfile(test_mine=_task("Task('dit', level=1, steps=5)", stages))

    options = ["--diffbench-zoo=architecture", "--diffbench-agent=baseline", "--benchmark-json=out.json", "-rs"]
    ran = project.runpytest_inprocess(*options)
    ran.assert_outcomes(skipped=1)
    ran.stdout.fnmatch_lines(["*quality not judged: random weights: its images say nothing*"])
    file = read_strictly(project.path / "out.json")
    (task,) = file["diffbench"]
    assert (task["verdict"], task["cause"]) == ("UNDECIDED", "quality not judged")
    assert len(task["speed"]["candidate_s"]) >= 10
    assert task["quality"] is None
    assert task["model_revision"] == f"random-{random_weights.digest(DIT)[:12]}"
    assert len(file["benchmarks"]) == 2


@pytest.mark.usefixtures("little")
def test_random_weights_are_written_once_and_filled() -> None:
    """The second time the folder is there; no weight is left empty, and no norm switched off."""
    folder = random_weights.folder(DIT)
    written = folder.stat().st_mtime_ns
    from diffusers import DiTPipeline

    weights = DiTPipeline.from_pretrained(folder).transformer.state_dict()
    assert random_weights.folder(DIT) == folder
    assert folder.stat().st_mtime_ns == written
    assert [name for name, weight in weights.items() if weight.dim() > 1 and weight.std() == 0] == []
    assert all(torch.isfinite(weight).all() for weight in weights.values())


@pytest.mark.slow
@pytest.mark.usefixtures("little")
def test_a_model_that_was_seen_to_run_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verified as any task is measured; the table says so, for this revision only."""
    monkeypatch.setattr(checkpoints, "find", _found)
    assert not presence.verify(Zoo("architecture"), replace(DIT, name="nobody"))
    assert presence.NEVER in _shown()
    assert presence.verify(Zoo("architecture"), DIT)
    assert presence.NEVER in _shown()  # that was not the real one
    presence._remember(presence._key("full", "dit", "abc"))

    assert "present, ran on 20" in _shown()


def _found(name: str, given: object) -> Any:
    del given
    if name != "dit":
        raise SetupError(f"{name} needs weights")
    return checkpoints.Found(Path("dit"), "abc")


def _shown() -> str:
    console = Console(width=160, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123 (nobody reads it)
    console.print(presence.table(Zoo()))
    return console.export_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--diffbench-checkpoint=sd15"], "give NAME=FOLDER or NAME=hub/id@commit"),
        (["--diffbench-checkpoint=sd16=/x"], "where NAME is one of sd15, sd21"),
        (["-o", "diffbench_zoo=large"], "'large' is none of tiny, full, architecture"),
    ],
)
def test_a_place_that_cannot_be_meant_is_refused(project: pytest.Pytester, options: list[str], said: str) -> None:
    """Before anything is collected."""
    ran = project.runpytest_inprocess("--diffbench-agent=baseline", *options)

    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    assert said in ran.stderr.str() + ran.stdout.str()
