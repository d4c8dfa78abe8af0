"""A model in disorder is the same model but for its denoiser's last layer, and gone when it is no longer needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, load_file, save

from pytest_diffbench.zoo import scrambled
from pytest_diffbench.zoo.scrambled import disordered
from pytest_diffbench.zoo.weights import TINY

if TYPE_CHECKING:
    from pathlib import Path

MODEL = TINY / "sd15"
DENOISER = "unet/diffusion_pytorch_model.safetensors"


def _files(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_only_the_last_layer_of_the_denoiser_differs() -> None:
    """Its values are the same ones, elsewhere; the original is not touched."""
    before = _files(MODEL)
    with scrambled.scrambled(MODEL) as copy:
        assert copy is not None
        after, tensors = _files(copy), load_file(copy / DENOISER)
        assert copy.parent.stat().st_mode & 0o005 == 0o005  # its reader may be another user
    assert not copy.exists()
    assert not copy.parent.exists()

    assert _files(MODEL) == before
    assert {name for name in before if before[name] != after.pop(name)} == {DENOISER}
    assert after == {}
    original = load_file(MODEL / DENOISER)
    changed = {name for name, values in original.items() if not np.array_equal(values, tensors[name])}
    assert changed == {"conv_out.weight", "conv_out.bias"}
    for name in changed:
        assert np.array_equal(tensors[name].ravel()[::-1], original[name].ravel())


ARRAYS = st.tuples(
    st.sampled_from([np.float32, np.float16, np.uint8, np.int64]), st.lists(st.integers(0, 4), max_size=3)
)


@given(
    st.dictionaries(st.sampled_from(["conv_out.bias", "proj_out.weight", "a", "mid.conv_out.b"]), ARRAYS, min_size=1)
)
def test_disorder_is_its_own_inverse(shapes: dict[str, tuple[type[np.generic], list[int]]]) -> None:
    """Tensors of any shape and width, empty ones too; where no last layer is known, all are in disorder."""
    tensors = {
        name: np.arange(1, 1 + int(np.prod(shape)), dtype=kind).reshape(shape) for name, (kind, shape) in shapes.items()
    }
    content = save(tensors)

    once = disordered(content)

    assert disordered(once) == content
    last = {name for name in tensors if name.startswith(("conv_out.", "proj_out."))} or set(tensors)
    for name, values in load(once).items():
        expected = tensors[name].ravel()[::-1] if name in last else tensors[name].ravel()
        assert np.array_equal(values.ravel(), expected)


@pytest.mark.parametrize("why", ["too large", "no denoiser", "other files"])
def test_what_cannot_be_copied_is_none(why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of gigabytes, one with a part of another name, and weights that are no safetensors."""
    folder = MODEL
    if why == "too large":
        monkeypatch.setattr(scrambled, "MOST_BYTES", 1000)
    else:
        folder = tmp_path
        name = "prior/a.safetensors" if why == "no denoiser" else "unet/a.bin"
        (folder / name).parent.mkdir()
        (folder / name).write_bytes(b"")

    with scrambled.scrambled(folder) as copy:
        assert copy is None
