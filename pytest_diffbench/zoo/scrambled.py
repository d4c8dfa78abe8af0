"""A model without its knowledge: a copy whose denoiser's last layer is in disorder, so that all its images change."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_BYTES: Final = 64 * 2**20
"""Of a larger model a copy takes longer than it is worth: what that shows no small program draws."""
DENOISERS: Final = ("unet", "transformer")
LAST_LAYERS: Final = ("conv_out.", "proj_out.")
_LENGTH_BYTES: Final = 8


@contextlib.contextmanager
def scrambled(folder: Path) -> Iterator[Path | None]:
    """A copy of a diffusers folder, there until the end of the `with`; None of one that is too large, or unknown."""
    parts = [part for name in DENOISERS for part in (folder / name).glob("*.safetensors")]
    size_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if not parts or size_bytes > MOST_BYTES:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="diffbench-scrambled-") as place:
        Path(place).chmod(0o755)  # its reader may be another user
        copy = Path(shutil.copytree(folder, Path(place, folder.name)))
        for part in parts:
            file = copy / part.relative_to(folder)
            file.write_bytes(disordered(file.read_bytes()))
        yield copy


def disordered(content: bytes) -> bytes:
    """A safetensors file with the values of its last layer's tensors in reverse order.

    They stay what they were, so that nothing overflows; where no layer is known as the last one, all tensors are.
    """
    begin = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    tensors = {name: at for name, at in json.loads(content[_LENGTH_BYTES:begin]).items() if name != "__metadata__"}
    chosen = [at for name, at in tensors.items() if name.startswith(LAST_LAYERS)] or list(tensors.values())
    changed = bytearray(content)
    for tensor in chosen:
        first, end = (begin + offset for offset in tensor["data_offsets"])
        count = math.prod(tensor["shape"])
        width = (end - first) // count if count else 1
        values = [content[at : at + width] for at in range(first, end, width)]
        changed[first:end] = b"".join(reversed(values))
    return bytes(changed)
