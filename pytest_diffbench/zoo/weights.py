"""Where the tiny models lie, and whether they are still what was shipped."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

from pytest_diffbench.errors import SetupError

TINY: Final = Path(__file__).parent / "tiny"
DIGESTS: Final = "SHA256SUMS"


def digest(file: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


@cache
def contents(path: Path) -> str:
    """SHA-256 over a file, or the names and contents of all files in a folder, as they were when it was first asked.

    Hidden files and what Python caches are left out. SetupError where one cannot be read.
    """
    whole = hashlib.sha256()
    try:
        if not path.is_dir():
            return digest(path)
        for file in sorted(path.rglob("*")):
            name = file.relative_to(path)
            if file.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in name.parts):
                whole.update(f"{digest(file)}  {name.as_posix()}\n".encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise SetupError(f"diffbench: cannot read {error.filename or path}: {error.strerror}") from error
    return whole.hexdigest()


def write_digests(zoo: Path) -> None:
    """Write the digest of every file of a zoo, in the format of `sha256sum`."""
    files = sorted(file for file in zoo.rglob("*") if file.is_file() and file.name != DIGESTS)
    lines = [f"{digest(file)}  {file.relative_to(zoo).as_posix()}\n" for file in files]
    (zoo / DIGESTS).write_text("".join(lines))


@cache
def verify(zoo: Path, folder: str) -> str:
    """The digest over a zoo's folder as it lies on disk; SetupError where a file is missing or differs."""
    expected = _expected(zoo, folder)
    for name, wanted in expected.items():
        file = zoo / name
        if not file.is_file():
            raise SetupError(f"diffbench: the tiny zoo lacks {file}: {_mend()}")
        if digest(file) != wanted:
            raise SetupError(f"diffbench: {file} is damaged (its SHA-256 differs from {DIGESTS}): {_mend()}")
    return hashlib.sha256("".join(expected.values()).encode()).hexdigest()


def _expected(zoo: Path, folder: str) -> dict[str, str]:
    try:
        rows = [line.partition("  ") for line in (zoo / DIGESTS).read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"diffbench: cannot read {zoo / DIGESTS}: {_mend()}") from error
    expected = {name: value for value, _, name in rows if name.startswith(f"{folder}/")}
    if not expected:
        raise SetupError(f"diffbench: {zoo / DIGESTS} names no file of {folder!r}: {_mend()}")
    return expected


def _mend() -> str:
    return "install pytest-diffbench again, or train it: python -m pytest_diffbench.zoo.train sd15"
