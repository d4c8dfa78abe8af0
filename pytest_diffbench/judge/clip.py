"""CLIP-Score (Hessel et al. 2021) of images with their prompts, on `transformers.CLIPModel`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPModel
from transformers.utils import logging as transformers_logging

from pytest_diffbench.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


class ClipScorer:
    """A loaded CLIP model; scores are 100 * max(cosine, 0)."""

    def __init__(self, folder: Path) -> None:
        """Load a `CLIPModel` folder with its tokenizer; SetupError where it is none."""
        transformers_logging.disable_progress_bar()  # a bar for a file that takes no time, in the middle of a report
        try:
            self._model = CLIPModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise SetupError(f"diffbench: cannot load the scorer in {folder} as a CLIPModel: {error}") from error
        self._side = int(self._model.config.vision_config.image_size)
        self._mean, self._std = _normalisation(folder)

    def scores(self, prompts: Sequence[str], images: Sequence[NDArray[np.uint8]]) -> tuple[float, ...]:
        """Each image's score with its own prompt; images are (height, width, 3)."""
        image_embeds, text_embeds = self.embed(prompts, images)
        cosines = (image_embeds * text_embeds).sum(dim=-1)
        return tuple((100 * cosines.clamp(min=0)).tolist())

    def similarities(self, prompts: Sequence[str], images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Cosines of every image (row) with every prompt (column)."""
        image_embeds, text_embeds = self.embed(prompts, images)
        matrix: NDArray[np.float32] = (image_embeds @ text_embeds.T).numpy()
        return matrix

    @torch.no_grad()
    def embed(self, prompts: Sequence[str], images: Sequence[NDArray[np.uint8]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit-length embeddings: (images, dimensions) and (prompts, dimensions)."""
        tokens = self._tokenizer(list(prompts), padding=True, truncation=True, return_tensors="pt")
        result = self._model(
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            pixel_values=torch.stack([self._pixels(image) for image in images]),
        )
        return result.image_embeds, result.text_embeds

    def _pixels(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """Shortest side resized (bicubic, PIL), centre cropped, normalised: (3, side, side)."""
        picture = Image.fromarray(image)
        shrink = self._side / min(picture.size)
        width, height = (max(self._side, round(length * shrink)) for length in picture.size)
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - self._side) // 2, (height - self._side) // 2
        picture = picture.crop((left, top, left + self._side, top + self._side))
        values = np.asarray(picture, np.float32) / 255
        return torch.from_numpy((values - self._mean) / self._std).permute(2, 0, 1)


def _normalisation(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The mean and deviation that the model was trained with; OpenAI's where its folder names none."""
    # read as data: the processor's class would want torchvision
    from transformers.image_processing_base import ImageProcessingMixin
    from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

    try:
        config, _ = ImageProcessingMixin.get_image_processor_dict(folder, local_files_only=True)
    except OSError:
        config = {}
    mean, std = config.get("image_mean", OPENAI_CLIP_MEAN), config.get("image_std", OPENAI_CLIP_STD)
    return np.array(mean, np.float32), np.array(std, np.float32)
