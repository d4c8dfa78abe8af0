"""The real checkpoints: found by commit or folder, whole or with what is missing, never fetched unasked."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import CLIPConfig

from pytest_diffbench.errors import SetupError
from pytest_diffbench.zoo import checkpoints
from pytest_diffbench.zoo.checkpoints import CHECKPOINTS, SCORER, find, incomplete, outline
from pytest_diffbench.zoo.models import FAMILIES
from pytest_diffbench.zoo.weights import TINY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole pipeline of the genuine class."""
    return shutil.copytree(TINY / "sd15", tmp_path / "sd15")


def _in_hub_cache(source: Path, home: Path, hub_id: str, commit: str) -> Path:
    """What the hub's own library leaves behind: a snapshot whose files are links to blobs."""
    root = home / "hub" / f"models--{hub_id.replace('/', '--')}"
    snapshot = root / "snapshots" / commit
    for file in [path for path in source.rglob("*") if path.is_file()]:
        blob = root / "blobs" / file.relative_to(source).as_posix().replace("/", "-")
        link = snapshot / file.relative_to(source)
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, blob)
        link.symlink_to(blob)
    return snapshot


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path


def test_every_model_of_the_paper_has_a_checkpoint_at_a_commit() -> None:
    """And so has the scorer: forty hexadecimal digits, a licence, a size."""
    assert set(CHECKPOINTS) == {SCORER, *(model.name for model in FAMILIES)}
    for known in CHECKPOINTS.values():
        assert len(bytes.fromhex(known.revision)) == 20
        assert known.licence
        assert 0 < known.size_gb < 30


def test_a_missing_model_says_what_to_do(hub: Path) -> None:
    """Hub id, size and licence of what would be fetched, and the three ways out."""
    del hub
    with pytest.raises(SetupError) as caught:
        find("sd15", {})

    said = str(caught.value)
    for part in (
        "stable-diffusion-v1-5",
        "5.5 GB",
        "OpenRAIL",
        "diffbench models --fetch sd15",
        "--diffbench-zoo=tiny",
    ):
        assert part in said
    assert "--diffbench-checkpoint=sd15=/folder" in said


def test_a_fetched_model_is_found_at_its_commit_only(hub: Path) -> None:
    """Whatever else the cache holds of it."""
    known = CHECKPOINTS["sd15"]
    _in_hub_cache(TINY / "sd15", hub, known.hub_id, COMMIT)
    with pytest.raises(SetupError, match="needs weights"):
        find("sd15", {})
    snapshot = _in_hub_cache(TINY / "sd15", hub, known.hub_id, known.revision)

    found = find("sd15", {})
    assert found.path == snapshot
    assert known.revision.startswith(found.revision)
    assert find("sd15", {"sd15": f"{known.hub_id}@{COMMIT}"}).revision == COMMIT[:12]


def test_half_a_download_is_no_model(hub: Path) -> None:
    """The part that lacks its weights is named, and the command that fetches the rest."""
    known = CHECKPOINTS["sd15"]
    (_in_hub_cache(TINY / "sd15", hub, known.hub_id, known.revision) / UNET).unlink()

    with pytest.raises(SetupError, match=r"unet has no weights.*diffbench models --fetch sd15"):
        find("sd15", {})


@pytest.mark.parametrize("place", ["me/model@main", "me/model@v1.5", f"me/model@{COMMIT[:12]}", f"me/model@{COMMIT}0"])
def test_a_revision_that_may_move_is_refused(place: str) -> None:
    """A branch, a tag, an abbreviation: tomorrow it might mean other weights."""
    with pytest.raises(SetupError, match=r"is no commit: give all 40 digits"):
        find("sd15", {"sd15": place})


def test_a_folder_of_ones_own_is_taken_as_it_is(folder: Path) -> None:
    """Its revision changes with any weight, and with nothing else."""
    first = find("sd15", {"sd15": str(folder)})
    (folder / ".cache").mkdir()
    again = find("sd15", {"sd15": str(folder)})
    data = bytearray((folder / UNET).read_bytes())
    data[-1] ^= 1
    (folder / UNET).write_bytes(data)
    changed = find("sd15", {"sd15": str(folder)})

    assert first == again
    assert first.path == folder
    assert changed.revision != first.revision


def _sharded(folder: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(TINY / "sd15", dtype=torch.float32)
    pipeline.save_pretrained(folder, max_shard_size="300KB")


def _in_halves(folder: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(TINY / "sd15", dtype=torch.float16)
    pipeline.save_pretrained(folder)


def _checked(folder: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(TINY / "sd15", dtype=torch.float32)
    little = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    vision = {**little, "image_size": 32, "patch_size": 16}
    checker = StableDiffusionSafetyChecker(CLIPConfig(text_config=little, vision_config=vision, projection_dim=8))
    pipeline.register_modules(safety_checker=checker)
    pipeline.save_pretrained(folder)


@pytest.mark.parametrize("write", [_sharded, _in_halves, _checked], ids=["sharded", "float16", "safety checker"])
def test_folders_as_they_are_published_are_whole(write: Callable[[Path], None], tmp_path: Path) -> None:
    """As the library itself writes them, and finds them."""
    write(tmp_path / "model")

    assert incomplete(tmp_path / "model") == ""
    pieces = list((tmp_path / "model" / "unet").glob("*.safetensors"))
    assert (len(pieces) > 1) is (write is _sharded)


def test_a_missing_piece_is_named(tmp_path: Path) -> None:
    """Of a sharded part, whose index says what there should be."""
    _sharded(tmp_path)
    pieces = sorted((tmp_path / "unet").glob("*.safetensors"))
    pieces[1].unlink()

    assert incomplete(tmp_path) == f"{tmp_path / 'unet'} lacks 1 of {len(pieces)} pieces, such as {pieces[1].name}"


def test_weights_of_a_variant_only_are_no_weights(folder: Path) -> None:
    """`from_pretrained(model)` would not find them; the message holds the line that mends it."""
    (folder / UNET).rename(folder / "unet" / "diffusion_pytorch_model.fp16.safetensors")

    problem = incomplete(folder)
    assert "variant only (diffusion_pytorch_model.fp16.safetensors)" in problem
    assert f"from_pretrained({str(folder)!r}, variant='fp16').save_pretrained(...)" in problem
    shutil.copy(TINY / "sd15" / UNET, folder / UNET)
    assert incomplete(folder) == ""


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "model_index.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "model_index.json").write_text("{"), "model_index.json is damaged"),
        (lambda folder: shutil.rmtree(folder / "tokenizer"), "lacks the part 'tokenizer'"),
        (lambda folder: (folder / UNET).unlink(), "unet has no weights"),
        (shutil.rmtree, "is no folder"),
    ],
)
def test_what_is_not_whole_says_so(damage: Callable[[Path], object], said: str, folder: Path) -> None:
    """Before anything is loaded from it."""
    damage(folder)

    assert said in incomplete(folder)
    with pytest.raises(SetupError, match=r"sd15=.*sd15: "):
        find("sd15", {"sd15": str(folder)})


def test_an_outline_sees_both_ends_of_a_large_file(tmp_path: Path) -> None:
    """And any byte of a small one, names, and sizes; the middle of gigabytes it leaves."""
    large = tmp_path / "weights.safetensors"
    large.write_bytes(bytes(5 * 2**20))
    first = outline(tmp_path)
    seen = {first}
    for offset in (0, 2**20 - 1, 4 * 2**20, 5 * 2**20 - 1):
        data = bytearray(5 * 2**20)
        data[offset] = 1
        large.write_bytes(data)
        seen.add(outline(tmp_path))
    large.rename(tmp_path / "other.safetensors")

    assert len(seen) == 5
    assert outline(tmp_path) not in seen


def test_what_is_fetched_is_what_the_pin_says(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Repository and commit as they stand in the table; no network, no model: an error that says both, and the mend."""
    del hub
    with pytest.raises(SetupError) as caught:
        checkpoints.fetch("dit", {})

    assert f"cannot fetch facebook/DiT-XL-2-256 at {CHECKPOINTS['dit'].revision}" in str(caught.value)
    assert "--diffbench-checkpoint=dit=FOLDER" in str(caught.value)
    monkeypatch.undo()


def test_the_index_of_every_tiny_model_is_whole() -> None:
    """What ships is a folder like any other."""
    for index in TINY.glob("*/model_index.json"):
        assert incomplete(index.parent) == "", json.loads(index.read_text())["_class_name"]
