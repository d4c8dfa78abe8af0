"""The zoo's training: it runs from drawings to a published pipeline folder, and its seeds mean something."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from transformers import ResNetForImageClassification

from pytest_diffbench.judge import ClipScorer
from pytest_diffbench.zoo import drawings, weights
from pytest_diffbench.zoo.models import FAMILIES, Model
from pytest_diffbench.zoo.train import autoencoder, denoiser, language, parts, publish

if TYPE_CHECKING:
    from pathlib import Path

LITTLE = parts.Budget(steps=2, count=256)
MOST_BYTES = 4_000_000
MOST_BYTES_TOGETHER = 24_000_000
TRAINED = pytest.mark.slow
"""Half a minute for whoever changes how the zoo is trained; what ships is looked at by other tests."""
EVERY_MODEL = pytest.mark.parametrize("model", FAMILIES, ids=lambda model: model.name)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zoo from two steps of training a part, with few drawings."""
    work, made = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("zoo")
    for part in parts.PARTS.values():
        part.train(work, LITTLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "BATCH", 2)
        for name in publish.PUBLISHED:
            publish.publish(name, work, made, captions=2, steps=4)  # PNDM begins with four
    return made


def test_every_part_comes_after_what_it_is_made_from() -> None:
    """So that all of them can be trained one after the other."""
    names = list(parts.PARTS)

    assert all(names.index(other) < names.index(name) for name, part in parts.PARTS.items() for other in part.made_from)
    assert {name for published in publish.PUBLISHED.values() for name in published.parts} <= set(names)


@TRAINED
def test_the_zoo_is_small_enough_to_ship(zoo: Path) -> None:
    """Each model, and all of them together."""
    sizes = {
        folder.name: sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        for folder in zoo.iterdir()
        if folder.is_dir()
    }

    assert set(sizes) == set(publish.PUBLISHED)
    assert {name: size for name, size in sizes.items() if size > MOST_BYTES} == {}
    assert sum(sizes.values()) <= MOST_BYTES_TOGETHER


@TRAINED
def test_what_is_published_verifies(zoo: Path) -> None:
    """Each folder has digests of its own."""
    assert len({weights.verify(zoo, name) for name in publish.PUBLISHED}) == len(publish.PUBLISHED)


@TRAINED
@EVERY_MODEL
def test_what_is_published_is_a_genuine_pipeline(zoo: Path, model: Model) -> None:
    """The library itself loads it and draws with it; what the zoo records of it is there."""
    pipeline = DiffusionPipeline.from_pretrained(zoo / model.name, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    scenes = [drawings.sample_scene(np.random.default_rng(0)) for _ in range(2)]
    captions, images = publish.draw(pipeline, model, scenes, seeds=[1, 2], steps=2)

    assert type(pipeline).__name__ == model.pipeline_classes[0]
    assert len(captions) == 2
    assert images.shape == (2, drawings.SIDE_PX, drawings.SIDE_PX, 3)
    known = json.loads((zoo / model.name / "diffbench.json").read_text())
    assert known["scale"] == drawings.SIDE_PX / model.size
    assert set(known["clip_scores"]) == set(model.samplers)
    assert set(known["floor_clip_scores"]) == {"noise", "shuffled_captions"}
    assert all(
        0 <= score <= 100 for scores in (known["clip_scores"], known["floor_clip_scores"]) for score in scores.values()
    )


@TRAINED
def test_what_judges_can_be_loaded(zoo: Path) -> None:
    """The scorer scores, and the classifier knows every class by its name."""
    assert len(ClipScorer(zoo / "scorer").scores(["a red star"], [drawings.backdrop("plain", "white")])) == 1
    classifier = ResNetForImageClassification.from_pretrained(zoo / "classifier")
    assert classifier.config.id2label == dict(enumerate(drawings.LABELS))


@TRAINED
def test_the_shipped_pipelines_have_the_architecture_of_the_code(zoo: Path) -> None:
    """What ships was made by this code: the same files with the same settings, but for what training measured."""
    measured = {"scaling_factor", "_diffusers_version", "transformers_version"}
    indices = [path.relative_to(zoo) for path in zoo.rglob("model_index.json")]
    for file in sorted([*indices, *(path.relative_to(zoo) for path in zoo.rglob("*config.json"))]):
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


@pytest.mark.parametrize("phase", [denoiser.layout(10), denoiser.details(10)], ids=lambda phase: phase.name)
def test_a_phase_favours_its_timesteps(phase: denoiser.Phase) -> None:
    """The favoured timesteps come as often as the phase says, the others come too."""
    torch.manual_seed(0)
    t = denoiser.sample_timesteps(phase, 20_000)
    low, high = phase.favoured
    favoured = ((t >= low) & (t < high)).float().mean().item()

    assert favoured == pytest.approx(phase.share + (1 - phase.share) * (high - low) / 1000, abs=0.02)
    assert (int(t.min()), int(t.max())) == (0, 999)


def test_errors_weigh_more_where_noise_hides_the_image() -> None:
    """The weight falls with the signal-to-noise ratio, and is bounded at both ends."""
    weight = denoiser.error_weight(torch.tensor([1e-6, 0.1, 1.0, 5.0, 1e6]), most=30.0)

    assert weight.tolist() == sorted(weight.tolist(), reverse=True)
    assert weight[0] / weight[-1] == pytest.approx(300**0.5)
