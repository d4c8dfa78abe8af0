"""`python -m pytest_diffbench.zoo.train sd15`: train a family's tiny models and put them where the zoo looks."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPModel, CLIPTextModel

from pytest_diffbench.methods import SAMPLERS
from pytest_diffbench.zoo import drawings, weights
from pytest_diffbench.zoo.train import autoencoder, language, sd15

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Budget:
    """What a part is trained with."""

    steps: int
    """At most, in each phase."""
    count: int
    """Drawings (captions, for the text encoder)."""


def _scorer(work: Path, budget: Budget) -> None:
    model = language.train_clip(
        "scorer", seed=1, steps=budget.steps, count=budget.count, text_layers=2, vision_layers=4
    )
    model.save_pretrained(work / "scorer")


def _text_encoder(work: Path, budget: Budget) -> None:
    encoder = language.train_text_encoder("text encoder", seed=2, steps=budget.steps, count=budget.count)
    encoder.save_pretrained(work / "text_encoder")


def _autoencoder(work: Path, budget: Budget) -> None:
    model = autoencoder.train_autoencoder(seed=3, steps=budget.steps, count=budget.count)
    model.save_pretrained(work / "autoencoder")


def _unet(work: Path, budget: Budget) -> None:
    torch.manual_seed(4)
    unet, text_encoder = sd15.train_unet(
        sd15.build_unet(),
        CLIPTextModel.from_pretrained(work / "text_encoder"),
        AutoencoderKL.from_pretrained(work / "autoencoder"),
        seed=4,
        phases=[replace(phase, steps=min(phase.steps, budget.steps)) for phase in sd15.PHASES],
        count=budget.count,
        learning_rate=1.5e-3,
    )
    unet.save_pretrained(work / "unet")
    text_encoder.save_pretrained(work / "unet_text_encoder")


PARTS: Final[Mapping[str, tuple[Callable[[Path, Budget], None], Budget]]] = {
    "scorer": (_scorer, Budget(steps=2200, count=40_000)),
    "text_encoder": (_text_encoder, Budget(steps=600, count=20_000)),
    "autoencoder": (_autoencoder, Budget(steps=3000, count=30_000)),
    "unet": (_unet, Budget(steps=max(phase.steps for phase in sd15.PHASES), count=40_000)),
}
"""In the order in which they must be made; each leaves a folder of its own name."""


def publish(work: Path, zoo: Path, *, captions: int = 64) -> None:
    """Write the trained parts as float16 into the zoo's folders, and their digests beside them.

    The CLIP-Scores on record, one a sampler, are means over `captions` unseen captions, a multiple of 16.
    """
    pipeline = sd15.assemble(
        CLIPTextModel.from_pretrained(work / "unet_text_encoder"),
        AutoencoderKL.from_pretrained(work / "autoencoder"),
        UNet2DConditionModel.from_pretrained(work / "unet"),
    )
    pipeline.to(torch.float16).save_pretrained(zoo / "sd15")
    scorer = zoo / "scorer"
    CLIPModel.from_pretrained(work / "scorer").to(torch.float16).save_pretrained(scorer)
    language.build_tokenizer().save_pretrained(scorer)
    language.build_image_processor().save_pretrained(scorer)
    scorer_model = CLIPModel.from_pretrained(work / "scorer")
    clip_scores = {
        sampler: round(sd15.clip_score(pipeline.to(torch.float32), scorer_model, sampler, seed=5, count=captions), 2)
        for sampler in SAMPLERS
    }
    floors = language.floor_clip_scores(scorer_model, seed=5, count=16 * captions)
    known = {
        "scale": drawings.SIDE_PX / 512,
        "clip_scores": clip_scores,
        "floor_clip_scores": {name: round(score, 2) for name, score in floors.items()},
    }
    (zoo / "sd15" / "diffbench.json").write_text(json.dumps(known) + "\n")
    for file in zoo.rglob("*config.json"):  # where a part lay while it was trained is nobody's business
        settings = json.loads(file.read_text())
        settings.pop("_name_or_path", None)
        file.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    for file in zoo.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    weights.write_digests(zoo)


def main() -> None:
    """Train what is not trained yet, then publish."""
    parser = argparse.ArgumentParser(prog="python -m pytest_diffbench.zoo.train", description=__doc__)
    parser.add_argument("family", choices=["sd15"])
    parser.add_argument("--work", type=Path, default=Path("zoo-training"), help="where finished parts are kept")
    parser.add_argument("--part", choices=PARTS, help="train this part only, and publish nothing")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name, (train, budget) in PARTS.items():
        if arguments.part in (None, name) and not (arguments.work / name).exists():
            train(arguments.work, budget)
    if arguments.part is None:
        publish(arguments.work, weights.TINY)


if __name__ == "__main__":
    main()
