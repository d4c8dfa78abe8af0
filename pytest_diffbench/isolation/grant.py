"""What a candidate can see: the files that it may read, those hidden among them, device nodes, its environment."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_diffbench.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SYSTEM: Final = (
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/bin",
    "/sbin",
    "/nix/store",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/sys/devices/system",
)
"""Programs, libraries and compilers; how many cores there are."""
HIDDEN: Final = ("reference_solutions", "suites", "exploits", "tests/exploits", "zoo/tiny", "zoo/train")
"""The worked answers, the tasks, and the weights: of these a candidate sees only its own model's, never the judge's.

In an installed package they lie inside it, in a checkout beside it.
"""
FOR_GPUS: Final = ("/sys", "/proc/driver", "/etc/OpenCL", "/etc/vulkan")
_PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH")
"""Everything else of the parent's environment, keys above all, stays outside."""


@dataclass(frozen=True)
class Grant:
    """Files, devices and variables of one process; all paths absolute."""

    readable: tuple[str, ...]
    hidden: tuple[str, ...]
    """Beneath a readable folder, and yet not readable; a readable path beneath it is readable again."""
    devices: tuple[str, ...]
    environment: Mapping[str, str]


def grant(
    models: Sequence[str],
    *,
    gpu_nodes: Sequence[str] = (),
    threads: int | None = None,
    environment: Mapping[str, str] | None = None,
    more: Sequence[str] = (),
) -> Grant:
    """What a solution for these models needs; `more` is readable because the user says so."""
    package = Path(__file__).parents[1]
    agent = package.parent / "agent" / "diffagent"  # its methods; installed, they lie among the packages
    code = [*_import_path(), sys.prefix, sys.base_prefix, str(package), str(agent)]
    libraries = [entry for entry in os.environ.get("LD_LIBRARY_PATH", "").split(":") if entry]
    readable = [*SYSTEM, *code, *libraries, *(str(_whole(Path(model))) for model in models if model), *more]
    if gpu_nodes:
        readable += FOR_GPUS
    return Grant(
        readable=_existing(readable),
        hidden=_existing(str(place / name) for place in (package, package.parent) for name in HIDDEN),
        devices=_existing(gpu_nodes),
        environment={**_environment(threads), **(environment or {})},
    )


def scratch_environment(scratch: str) -> dict[str, str]:
    """Where a process may write, by every name that libraries look for it under."""
    return {
        "HOME": scratch,
        "TMPDIR": scratch,
        "XDG_CACHE_HOME": f"{scratch}/cache",
        "HF_HOME": f"{scratch}/cache/huggingface",
        "TORCHINDUCTOR_CACHE_DIR": f"{scratch}/cache/inductor",
        "TRITON_CACHE_DIR": f"{scratch}/cache/triton",
        "CUDA_CACHE_PATH": f"{scratch}/cache/cuda",
        "MPLCONFIGDIR": f"{scratch}/cache/matplotlib",
    }


def closed_to_others(paths: Iterable[str]) -> bool:
    """Whether a folder on the way to any of them is closed to other users, as root's home often is."""
    ways = {parent for path in paths for parent in Path(path).parents}
    return any(way.is_dir() and not way.stat().st_mode & 0o001 for way in ways)


def expanded(granted: Grant) -> list[tuple[str, bool]]:
    """Readable paths without the hidden ones, for means that can only add: (path, whole?), else only its names."""
    package = Path(__file__).parents[1]
    found = [(str(package.parent), False)]  # an import looks through the names beside a package
    for path in granted.readable:
        found += _without(path, granted.hidden)
    return found


def _without(path: str, hidden: Sequence[str]) -> Iterable[tuple[str, bool]]:
    inside = [name for name in hidden if _beneath(name, path)]
    if not inside:
        yield path, True
        return
    yield path, False
    for child in sorted(os.scandir(path), key=lambda entry: entry.name):
        if child.path not in inside:
            yield from _without(child.path, inside)


def _beneath(path: str, folder: str) -> bool:
    return path != folder and os.path.commonpath((path, folder)) == folder


def _existing(paths: Iterable[str]) -> tuple[str, ...]:
    named = [os.path.abspath(path) for path in paths]  # noqa: PTH100 (a link is looked up by its own name)
    both = (name for path in named for name in (path, os.path.realpath(path)))
    return tuple(name for name in dict.fromkeys(both) if os.path.lexists(name))


def _whole(model: Path) -> Path:
    """A model's folder; of a hub's snapshot, whose files are links, the folder that holds what they point to."""
    for parent in (model, *model.parents):
        if parent.name.startswith("models--"):
            return parent
    return model


@functools.cache
def _import_path() -> tuple[str, ...]:
    """Where a fresh interpreter looks for modules; of an editable install only our own package is let through."""
    command = [sys.executable, "-I", "-c", "import json, sys; print(json.dumps(sys.path))"]
    try:
        said = subprocess.run(command, capture_output=True, check=True, timeout=60, text=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise SetupError(f"diffbench: {sys.executable} does not start: {error}") from error
    inside = (os.path.realpath(sys.prefix), os.path.realpath(sys.base_prefix))
    entries = [entry for entry in json.loads(said.stdout) if entry]
    return tuple(
        entry
        for entry in entries
        if entry.endswith(("site-packages", "dist-packages", ".zip"))
        or any(os.path.commonpath((os.path.realpath(entry), prefix)) == prefix for prefix in inside)
    )


def _environment(threads: int | None) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    if threads is not None:
        # two contended threads are 5 to 100 times slower than one
        kept |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return kept | {
        "USER": "candidate",  # its own user id has no name
        "LOGNAME": "candidate",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
        "DIFFUSERS_VERBOSITY": "error",
        "TRANSFORMERS_VERBOSITY": "error",
    }
