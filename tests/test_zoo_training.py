"""The zoo's training: it runs from drawings to a published pipeline folder, and its seeds mean something."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from pytest_diffbench.judge import ClipScorer
from pytest_diffbench.methods import SAMPLERS
from pytest_diffbench.zoo import drawings, weights
from pytest_diffbench.zoo.train import __main__ as training
from pytest_diffbench.zoo.train import autoencoder, language, sd15

if TYPE_CHECKING:
    from pathlib import Path

LITTLE = training.Budget(steps=2, count=256)
MOST_BYTES = 4_000_000


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zoo from two steps of training a part."""
    work, made = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("zoo")
    for train, _ in training.PARTS.values():
        train(work, LITTLE)
    training.publish(work, made, captions=16)
    return made


def test_what_is_published_verifies(zoo: Path) -> None:
    """Model and scorer have digests, and are small enough to ship."""
    size = sum(file.stat().st_size for file in zoo.rglob("*.safetensors"))

    assert weights.verify(zoo, "sd15") != weights.verify(zoo, "scorer")
    assert size <= MOST_BYTES


def test_what_is_published_is_a_genuine_pipeline(zoo: Path) -> None:
    """The library itself loads it and draws with it; what the zoo records of it is there."""
    pipeline = StableDiffusionPipeline.from_pretrained(zoo / "sd15", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a small red star", num_inference_steps=2).images[0]

    assert image.size == (drawings.SIDE_PX, drawings.SIDE_PX)
    known = json.loads((zoo / "sd15" / "diffbench.json").read_text())
    assert set(known["clip_scores"]) == set(SAMPLERS)
    assert set(known["floor_clip_scores"]) == {"noise", "shuffled_captions"}
    assert all(
        0 <= score <= 100 for scores in (known["clip_scores"], known["floor_clip_scores"]) for score in scores.values()
    )
    assert len(ClipScorer(zoo / "scorer").scores(["a red star"], [drawings.backdrop("plain", "white")])) == 1


def test_the_shipped_pipeline_has_the_architecture_of_the_code(zoo: Path) -> None:
    """What ships was made by this code: the same files with the same settings, but for what training measured."""
    measured = {"scaling_factor", "_diffusers_version", "transformers_version"}
    for file in sorted(path.relative_to(zoo) for path in zoo.rglob("*config.json")):
        ours, shipped = (json.loads((root / file).read_text()) for root in (zoo, weights.TINY))
        assert {k: v for k, v in ours.items() if k not in measured} == {
            k: v for k, v in shipped.items() if k not in measured
        }, file
        assert "_name_or_path" not in shipped, "a path of the machine that trained it"


def test_the_same_seed_trains_the_same() -> None:
    """Seeded: two trainings agree bit for bit, another seed does not."""
    first, again, other = (
        language.train_text_encoder("text encoder", seed=seed, steps=2, count=64).final_layer_norm.weight
        for seed in (7, 7, 8)
    )

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_latents_have_the_wanted_deviation() -> None:
    """The scaling factor is measured on the trained encoder, whatever that turned out to be."""
    model = autoencoder.train_autoencoder(seed=1, steps=2, count=600)
    _, images = drawings.sample(np.random.default_rng(2), 64)
    with torch.no_grad():
        latents = model.encode(language.to_pixels(images)).latent_dist.mode() * model.config.scaling_factor

    assert latents.std().item() == pytest.approx(autoencoder.LATENT_DEVIATION, rel=0.15)


@pytest.mark.parametrize("phase", sd15.PHASES, ids=lambda phase: phase.name)
def test_a_phase_favours_its_timesteps(phase: sd15.Phase) -> None:
    """The favoured timesteps come as often as the phase says, the others come too."""
    torch.manual_seed(0)
    t = sd15.sample_timesteps(phase, 20_000)
    low, high = phase.favoured
    favoured = ((t >= low) & (t < high)).float().mean().item()

    assert favoured == pytest.approx(phase.share + (1 - phase.share) * (high - low) / 1000, abs=0.02)
    assert (int(t.min()), int(t.max())) == (0, 999)


def test_errors_weigh_more_where_noise_hides_the_image() -> None:
    """The weight falls with the signal-to-noise ratio, and is bounded at both ends."""
    weight = sd15.error_weight(torch.tensor([1e-6, 0.1, 1.0, 5.0, 1e6]), most=30.0)

    assert weight.tolist() == sorted(weight.tolist(), reverse=True)
    assert weight[0] / weight[-1] == pytest.approx(300**0.5)
