"""PixArt's tokenizer and text encoder (T5; Raffel et al. 2020), both of the genuine classes."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from pytest_diffbench.zoo import drawings
from pytest_diffbench.zoo.train.language import WIDTH, sample_captions, teach_attributes

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_TOKENS: Final = 20
"""Of any caption; longer padding changes nothing, for it is masked."""


def build_tokenizer() -> T5Tokenizer:
    """A T5 tokenizer that knows the drawings' words whole and any other text letter by letter."""
    words = sorted({word for words in drawings.ATTRIBUTES.values() for value in words for word in value.split()})
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -8.0)]
    pieces += [(f"▁{word}", -1.0) for word in [*words, "a", "an", "background"]]
    pieces += [(letter, -9.0) for letter in string.ascii_letters + string.digits + string.punctuation]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)


def build_encoder(tokenizer: T5Tokenizer) -> T5EncoderModel:
    """An untrained T5 encoder of about 0.1 million parameters."""
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=WIDTH,
            d_kv=WIDTH // 4,
            d_ff=2 * WIDTH,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            is_encoder_decoder=False,
            use_cache=False,
        )
    )


def tokens(captions: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and their attention mask, (count, MOST_TOKENS) each."""
    found = build_tokenizer()(
        list(captions), padding="max_length", max_length=MOST_TOKENS, truncation=True, return_tensors="pt"
    )
    return found["input_ids"], found["attention_mask"]


def train_encoder(*, seed: int, steps: int, count: int) -> T5EncoderModel:
    """A T5 encoder from whose mean state every attribute of a caption can be read off (as of `train_text_encoder`)."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    encoder = build_encoder(build_tokenizer()).train()
    captions = sample_captions(rng, count)
    ids, masks = tokens(captions)

    def mean_state(chosen: torch.Tensor) -> torch.Tensor:
        mask = masks[chosen]
        states = encoder(ids[chosen], attention_mask=mask).last_hidden_state
        mean: torch.Tensor = (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return mean

    teach_attributes("t5", encoder, mean_state, captions, rng=rng, steps=steps)
    return encoder.eval()
