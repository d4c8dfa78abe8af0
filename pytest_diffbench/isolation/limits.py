"""How much a candidate may use: time, memory, processes, disk, output; each with a cause of its own."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, fields, replace
from typing import Final

GIB: Final = 2**30
MEMORY_SHARE: Final = 0.75
"""Of this machine's memory, unless the user says otherwise."""
_UNITS: Final = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9, "s": 1}
_AMOUNT: Final = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*([A-Za-z]*)")


def _most_memory() -> int:
    return int(MEMORY_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


@dataclass(frozen=True)
class Limits:
    """What one candidate's processes may use together."""

    load_s: float = 600.0
    """For `load`: set-up time."""
    call_s: float = 600.0
    """For one call of `generate`."""
    memory_bytes: int = 0
    """Resident; 0 means three quarters of the machine's, settled when the limits are made."""
    processes: int = 1024
    """Processes and threads."""
    disk_bytes: int = 2 * GIB
    """In its scratch folder, which bubblewrap keeps in memory."""
    files: int = 100_000
    """In the same folder."""
    output_bytes: int = 64 * 2**20
    """On standard output and error."""
    open_files: int = 4096

    def __post_init__(self) -> None:
        if not self.memory_bytes:
            object.__setattr__(self, "memory_bytes", _most_memory())

    def describe(self) -> str:
        """One line for a report."""
        return (
            f"load {self.load_s:g} s, call {self.call_s:g} s, memory {size(self.memory_bytes)}, "
            f"{self.processes} processes, disk {size(self.disk_bytes)}, output {size(self.output_bytes)}"
        )


def parse(text: str) -> Limits:
    """`memory=8GiB,load=60s` as limits, the rest at its default; ValueError that says what would be right."""
    named = {entry.name.removesuffix("_bytes").removesuffix("_s"): entry.name for entry in fields(Limits)}
    found: dict[str, float | int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, amount = (piece.strip() for piece in part.partition("="))
        if name not in named:
            raise ValueError(f"no limit is called {name!r}; they are {', '.join(named)}")
        found[named[name]] = _amount(name, amount, seconds=named[name].endswith("_s"))
    return replace(Limits(), **found)  # type: ignore[arg-type]  # checked above, by name


def _amount(name: str, text: str, *, seconds: bool) -> float | int:
    match = _AMOUNT.fullmatch(text)
    units = ("", "s") if seconds else ("",) if name in ("processes", "files", "open_files") else tuple(_UNITS)[:-1]
    if match is None or match[2] not in units:
        example = "60s" if seconds else "512" if units == ("",) else "8GiB"
        raise ValueError(f"limit {name}={text}: expected an amount such as {name}={example}")
    value = float(match[1]) * _UNITS[match[2]]
    if value < 1 and not (seconds and value > 0):
        raise ValueError(f"limit {name}={text}: nothing could run; give more")
    return value if seconds else int(value)


def size(count: int) -> str:
    """Bytes as a person writes them."""
    for unit in ("GiB", "MiB", "KiB"):
        if count >= _UNITS[unit]:
            return f"{count / _UNITS[unit]:.3g} {unit}"
    return f"{count} B"
