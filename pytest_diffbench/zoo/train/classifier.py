"""Who says whether a model that draws by class draws the class asked for: a ResNet (He et al. 2016), trained apart."""

from __future__ import annotations

import numpy as np
import torch
from transformers import ResNetConfig, ResNetForImageClassification

from pytest_diffbench.zoo import drawings
from pytest_diffbench.zoo.train.language import to_pixels
from pytest_diffbench.zoo.train.loop import fit


def build_classifier() -> ResNetForImageClassification:
    """An untrained classifier of about 0.1 million parameters, its labels those of `drawings.LABELS`."""
    return ResNetForImageClassification(
        ResNetConfig(
            embedding_size=16,
            hidden_sizes=[16, 24, 32, 48],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            id2label=dict(enumerate(drawings.LABELS)),
            label2id={label: number for number, label in enumerate(drawings.LABELS)},
        )
    )


def train_classifier(*, seed: int, steps: int, count: int, batch: int = 64) -> ResNetForImageClassification:
    """A classifier of drawings that saw `count` of them, a little noisy."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = build_classifier().train()
    captions, images = drawings.sample(rng, count, caption=lambda scene, _: scene.label)
    labels = torch.tensor([drawings.LABELS.index(caption) for caption in captions])

    def loss_at(_: int) -> torch.Tensor:
        chosen = rng.integers(count, size=batch)
        pixels = to_pixels(images[chosen])
        pixels = pixels + 0.1 * torch.rand(batch, 1, 1, 1) * torch.randn_like(pixels)
        loss: torch.Tensor = torch.nn.functional.cross_entropy(model(pixels).logits, labels[chosen])
        return loss

    fit("classifier", model.parameters(), loss_at, steps=steps, learning_rate=3e-3)
    return model.eval()
