"""Tokenizer, text encoder and contrastive image-text model (CLIP; Radford et al. 2021), all of the genuine classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from pytest_diffbench.zoo import drawings
from pytest_diffbench.zoo.train.loop import fit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

WIDTH: Final = 64
CONTEXT_TOKENS: Final = 32
"""Not CLIP's 77: a latent of 16 x 16 would spend most of its attention on padding."""
TEMPERATURE_SCALE: Final = 20.0
"""Fixed, so that cosines spread over the whole range and the score falls visibly."""
_TRANSFORMER: Final = {
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_attention_heads": 4,
    "projection_dim": WIDTH,
    "hidden_act": "gelu",
}
LOUDNESS: Final = 4.0
"""How far the text encoder's last states are scaled up: an untrained cross-attention hardly hears them otherwise.

Where a shape goes is a product of text and position, which starts out as small as both; measured on predicting a
drawing from pure noise, places are learned after 150 steps instead of 300.
"""
GROUP: Final = 4
"""Scenes that differ from the first of their group in one attribute: the negatives that teach detail."""


def build_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer that knows the drawings' words whole and any other text byte by byte."""
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = dict.fromkeys([*alphabet, *(letter + "</w>" for letter in alphabet)])
    words = {word for values in drawings.ATTRIBUTES.values() for value in values for word in value.split()}
    merges: dict[tuple[str, str], None] = {}
    for word in sorted(words | {"a", "an", "background"}):
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            merges[pieces[0], pieces[1]] = None
            pieces[:2] = [pieces[0] + pieces[1]]
            vocabulary[pieces[0]] = None
    tokens = [*vocabulary, "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=list(merges),
        model_max_length=CONTEXT_TOKENS,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )


def build_image_processor() -> CLIPImageProcessor:
    """The pre-processing that the scorer was trained with."""
    side = {"height": drawings.SIDE_PX, "width": drawings.SIDE_PX}
    return CLIPImageProcessor(
        size={"shortest_edge": drawings.SIDE_PX}, crop_size=side, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )


def build_clip(tokenizer: CLIPTokenizer, *, text_layers: int, vision_layers: int) -> CLIPModel:
    """An untrained CLIP of about 0.3 million parameters."""
    text = _text_settings(tokenizer, layers=text_layers)
    vision = {**_TRANSFORMER, "num_hidden_layers": vision_layers, "image_size": drawings.SIDE_PX, "patch_size": 8}
    return CLIPModel(
        CLIPConfig(
            text_config=text,
            vision_config=vision,
            projection_dim=WIDTH,
            logit_scale_init_value=float(np.log(TEMPERATURE_SCALE)),
        )
    )


def build_text_encoder(tokenizer: CLIPTokenizer, *, layers: int, width: int = WIDTH) -> CLIPTextModel:
    """An untrained text encoder of about 0.1 million parameters."""
    return CLIPTextModel(CLIPTextConfig(**_text_settings(tokenizer, layers=layers, width=width)))


def build_projecting_encoder(tokenizer: CLIPTokenizer, *, layers: int) -> CLIPTextModelWithProjection:
    """The second text encoder of Stable Diffusion XL, untrained: it also gives one vector for the whole caption."""
    return CLIPTextModelWithProjection(CLIPTextConfig(**_text_settings(tokenizer, layers=layers)))


def _text_settings(tokenizer: CLIPTokenizer, *, layers: int, width: int = WIDTH) -> dict[str, Any]:
    return {
        **_TRANSFORMER,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "projection_dim": width,
        "num_hidden_layers": layers,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": CONTEXT_TOKENS,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def to_pixels(images: NDArray[np.uint8]) -> torch.Tensor:
    """(count, height, width, 3) of bytes to (count, 3, height, width), float32 in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def train_clip(
    name: str, *, seed: int, steps: int, text_layers: int, vision_layers: int, batch: int = 128, count: int = 40_000
) -> CLIPModel:
    """A CLIP trained on `count` drawings of its own, seeded by `seed`."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    tokenizer = build_tokenizer()
    model = build_clip(tokenizer, text_layers=text_layers, vision_layers=vision_layers).train()
    model.logit_scale.requires_grad_(False)
    captions, images = _grouped(rng, count)
    tokens = tokenizer(captions, padding=True, return_tensors="pt")

    def loss_at(_: int) -> torch.Tensor:
        groups = torch.from_numpy(rng.choice(count // GROUP, batch // GROUP, replace=False))
        chosen = (groups[:, None] * GROUP + torch.arange(GROUP)).flatten()
        pixels = to_pixels(images[chosen.numpy()])
        pixels = pixels + 0.05 * torch.rand(batch, 1, 1, 1) * torch.randn_like(pixels)
        result = model(
            input_ids=tokens["input_ids"][chosen],
            attention_mask=tokens["attention_mask"][chosen],
            pixel_values=pixels,
            return_loss=True,
        )
        loss: torch.Tensor = result.loss
        return loss

    fit(name, (p for p in model.parameters() if p.requires_grad), loss_at, steps=steps, learning_rate=2e-3)
    return model.eval()


def floor_clip_scores(scorer: CLIPModel, *, seed: int, count: int) -> dict[str, float]:
    """What the scorer gives to images that have nothing to do with the caption: noise, and other captions' drawings."""
    rng = np.random.default_rng(seed)
    scenes = [drawings.sample_scene(rng, held_out=True) for _ in range(count)]
    tokens = build_tokenizer()([scene.caption for scene in scenes], padding=True, return_tensors="pt")
    drawn = np.stack([drawings.draw(scene, rng) for scene in scenes])
    images = {"noise": rng.integers(0, 256, drawn.shape, np.uint8), "shuffled_captions": np.roll(drawn, 1, axis=0)}
    found = {}
    for name, pixels in images.items():
        with torch.no_grad():
            embedded = scorer.eval()(**tokens, pixel_values=to_pixels(pixels))
        cosines = (embedded.image_embeds * embedded.text_embeds).sum(dim=-1)
        found[name] = 100 * float(cosines.clamp(min=0).mean())
    return found


def train_text_encoder(
    name: str, *, seed: int, steps: int, count: int, layers: int = 2, width: int = WIDTH
) -> CLIPTextModel:
    """A text encoder from whose mean last state every attribute of a caption can be read off."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    tokenizer = build_tokenizer()
    encoder = build_text_encoder(tokenizer, layers=layers, width=width).train()
    captions = sample_captions(rng, count)
    tokens = tokenizer(captions, padding="max_length", return_tensors="pt")["input_ids"]

    def mean_state(chosen: torch.Tensor) -> torch.Tensor:
        mean: torch.Tensor = encoder(tokens[chosen]).last_hidden_state.mean(dim=1)
        return mean

    teach_attributes(name, encoder, mean_state, captions, rng=rng, steps=steps)
    norm = encoder.final_layer_norm
    with torch.no_grad():
        norm.weight.mul_(LOUDNESS)
        norm.bias.mul_(LOUDNESS)
    return encoder.eval()


def sample_captions(rng: np.random.Generator, count: int) -> list[str]:
    """Captions as a model is trained on them, none of a held-out scene."""
    return [drawings.training_caption(drawings.sample_scene(rng, held_out=False), rng) for _ in range(count)]


def teach_attributes(
    name: str,
    encoder: torch.nn.Module,
    mean_state: Callable[[torch.Tensor], torch.Tensor],
    captions: Sequence[str],
    *,
    rng: np.random.Generator,
    steps: int,
    batch: int = 256,
) -> None:
    """Train a text encoder so that every attribute can be read off `mean_state(chosen)`, (count, width), by a line.

    A denoiser's cross-attention begins by averaging over all tokens. An attribute that this mean hardly holds is not
    learned: after contrastive training the words for a place weighed a hundredth of those for a colour.
    """
    unstated = 1
    width = mean_state(torch.zeros(1, dtype=torch.long)).shape[-1]
    heads = torch.nn.ModuleDict(
        {name: torch.nn.Linear(width, len(words) + unstated) for name, words in drawings.ATTRIBUTES.items()}
    )
    labels = _labels(captions)

    def loss_at(_: int) -> torch.Tensor:
        chosen = torch.from_numpy(rng.integers(len(captions), size=batch))
        state = mean_state(chosen)
        losses = [torch.nn.functional.cross_entropy(head(state), labels[name][chosen]) for name, head in heads.items()]
        return torch.stack(losses).sum()

    used = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    fit(name, [*used, *heads.parameters()], loss_at, steps=steps, learning_rate=2e-3)


def _labels(captions: Sequence[str]) -> dict[str, torch.Tensor]:
    """For each attribute the index of its word in each caption; one past the last where a caption leaves it out."""
    stated = [drawings.stated(caption) for caption in captions]
    return {
        name: torch.tensor([words.index(s[name]) if name in s else len(words) for s in stated])
        for name, words in drawings.ATTRIBUTES.items()
    }


def _grouped(rng: np.random.Generator, count: int) -> tuple[list[str], NDArray[np.uint8]]:
    scenes: list[drawings.Scene] = []
    while len(scenes) < count:
        first = drawings.sample_scene(rng, held_out=False)
        scenes += [first, *(drawings.vary(first, rng) for _ in range(GROUP - 1))]
    captions = [drawings.training_caption(scene, rng) for scene in scenes]
    return captions, np.stack([drawings.draw(scene, rng) for scene in scenes])
