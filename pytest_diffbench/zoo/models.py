"""Model names and what is known of each: what builds it, and how it is run by default."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pytest_diffbench.errors import TaskError
from pytest_diffbench.methods import SAMPLERS, SCHEDULER_FAMILIES, family_problem

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

IMAGE_TO_IMAGE: Final[Mapping[str, str]] = {
    "StableDiffusionPipeline": "StableDiffusionImg2ImgPipeline",
    "StableDiffusionXLPipeline": "StableDiffusionXLImg2ImgPipeline",
}
"""The class that begins with an image, by the one that begins with noise; other classes have none."""


@dataclass(frozen=True)
class Model:
    """One model, as tasks name it."""

    name: str
    pipeline_classes: tuple[str, ...]
    """Classes that build it; the first is its own."""
    steps: int
    size: int
    """Width and height in pixels."""
    sampler: str
    """The one that its own scheduler file names; of a user's own model a class, where no sampler here is that."""
    guidance: float
    families: tuple[str, ...] = ("variance-preserving", "sigma-scaled", "distilled")
    """Those of the schedulers that it can run with, of `methods.SCHEDULER_FAMILIES`."""
    denoiser: str = "unet"
    """Or "transformer": the pipeline's part that is called at every step."""
    conditioning: str = "text"
    """Or "class"."""
    hub_id: str | None = None
    folder: Path | None = None
    """Where a user's own model lies; None for a model of the zoo."""

    @property
    def samplers(self) -> tuple[str, ...]:
        """Those that it can run with."""
        return tuple(name for name, classes in SAMPLERS.items() if not family_problem(classes[0], self.families))

    @property
    def image_to_image_classes(self) -> tuple[str, ...]:
        """Classes that build it to begin with an image; none where it cannot."""
        own = IMAGE_TO_IMAGE.get(self.pipeline_classes[0])
        return (own, "AutoPipelineForImage2Image", "DiffusionPipeline") if own is not None else ()


SD15: Final = Model(
    name="sd15",
    pipeline_classes=("StableDiffusionPipeline", "AutoPipelineForText2Image", "DiffusionPipeline"),
    steps=50,
    size=512,
    sampler="pndm",
    guidance=7.5,
    hub_id="stable-diffusion-v1-5/stable-diffusion-v1-5",
)
SD21: Final = Model(
    name="sd21",
    pipeline_classes=("StableDiffusionPipeline", "AutoPipelineForText2Image", "DiffusionPipeline"),
    steps=50,
    size=768,
    sampler="ddim",
    guidance=7.5,
    hub_id="stabilityai/stable-diffusion-2-1",
)
SDXL: Final = Model(
    name="sdxl",
    pipeline_classes=("StableDiffusionXLPipeline", "AutoPipelineForText2Image", "DiffusionPipeline"),
    steps=50,
    size=1024,
    sampler="euler",
    guidance=5.0,
    hub_id="stabilityai/stable-diffusion-xl-base-1.0",
)
DIT: Final = Model(
    name="dit",
    pipeline_classes=("DiTPipeline", "DiffusionPipeline"),
    steps=50,
    size=256,
    sampler="ddim",
    guidance=4.0,
    families=("variance-preserving", "distilled"),  # `DiTPipeline` never scales its noise for any other
    denoiser="transformer",
    conditioning="class",
    hub_id="facebook/DiT-XL-2-256",
)
PIXART_ALPHA: Final = Model(
    name="pixart_alpha",
    pipeline_classes=("PixArtAlphaPipeline", "AutoPipelineForText2Image", "DiffusionPipeline"),
    steps=20,
    size=512,
    sampler="dpm_solver",
    guidance=4.5,
    denoiser="transformer",
    hub_id="PixArt-alpha/PixArt-XL-2-512x512",
)
PIXART_SIGMA: Final = Model(
    name="pixart_sigma",
    pipeline_classes=("PixArtSigmaPipeline", "AutoPipelineForText2Image", "DiffusionPipeline"),
    steps=20,
    size=1024,
    sampler="dpm_solver",
    guidance=4.5,
    denoiser="transformer",
    hub_id="PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
)
FAMILIES: Final = (SD15, SD21, SDXL, DIT, PIXART_ALPHA, PIXART_SIGMA)
"""Those of the paper, in its order."""


def is_folder(name: str) -> bool:
    """Whether a task's `model` means a folder rather than a name of the zoo."""
    return "/" in name or name.startswith(".")


def foreign(folder: Path, name: str) -> Model:
    """A user's own diffusers folder; its defaults are read from its JSON files. TaskError where it is none."""
    index = _read_json(folder / "model_index.json", f"model {name!r} is no diffusers folder")
    pipeline_class = str(index.get("_class_name"))
    scheduler = _read_json(folder / "scheduler" / "scheduler_config.json", f"model {name!r} has no scheduler")
    own = str(scheduler.get("_class_name") or "its own scheduler")
    sampler = next((name for name, classes in SAMPLERS.items() if own in classes), own)
    return Model(
        name=name,
        pipeline_classes=(pipeline_class, "AutoPipelineForText2Image", "DiffusionPipeline"),
        steps=50,
        size=_native_size(folder, name),
        sampler=sampler,
        guidance=7.5,
        denoiser="unet" if (folder / "unet").is_dir() else "transformer",
        families=tuple(SCHEDULER_FAMILIES),  # nobody knows what it was trained for
        folder=folder,
    )


def _native_size(folder: Path, name: str) -> int:
    for part in ("unet", "transformer"):
        if (folder / part / "config.json").is_file():
            denoiser = _read_json(folder / part / "config.json", "")
            autoencoder = _read_json(folder / "vae" / "config.json", f"model {name!r} has no autoencoder")
            blocks, latent_side = autoencoder.get("block_out_channels"), denoiser.get("sample_size")
            if isinstance(blocks, list) and isinstance(latent_side, int):
                return latent_side << (len(blocks) - 1)
            raise TaskError(f"model {name!r}: its {part} or autoencoder names no size: give one, Task(..., size=512)")
    raise TaskError(f"model {name!r} has neither a 'unet' nor a 'transformer' folder")


def _read_json(file: Path, otherwise: str) -> dict[str, list[object] | str | int | None]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise TaskError(f"{otherwise}: cannot read {file} ({error})") from error
    return content if isinstance(content, dict) else {}
