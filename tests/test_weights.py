"""Whether a zoo is still what was shipped: every damage is named, with its mend."""

from __future__ import annotations

import hashlib
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from pytest_diffbench.errors import SetupError
from pytest_diffbench.zoo import weights

if TYPE_CHECKING:
    from pathlib import Path

MEND = r"install pytest-diffbench again, or train it: python -m pytest_diffbench\.zoo\.train"


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """A zoo of two folders with their digests; `verify` remembers folders by path, so each test has its own."""
    for name in ("sd15/unet/model.safetensors", "sd15/config.json", "sd15-turbo/config.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"content of {name}")
    weights.write_digests(tmp_path)
    return tmp_path


def test_a_zoo_is_what_was_written(zoo: Path) -> None:
    """A zoo verifies right after its digests were written."""
    assert re.fullmatch("[0-9a-f]{64}", weights.verify(zoo, "sd15"))


def test_the_digests_are_what_sha256sum_takes(zoo: Path) -> None:
    """The file lists every other file of the zoo once, and `sha256sum --check` agrees with it."""
    rows = (zoo / weights.DIGESTS).read_text().splitlines()
    checked = subprocess.run(
        ["sha256sum", "--check", weights.DIGESTS], cwd=zoo, check=False, capture_output=True, text=True
    )

    assert sorted(row.split("  ")[1] for row in rows) == [
        "sd15-turbo/config.json",
        "sd15/config.json",
        "sd15/unet/model.safetensors",
    ]
    assert checked.returncode == 0, checked.stdout


def test_writing_the_digests_again_changes_nothing(zoo: Path) -> None:
    """The list does not list itself."""
    before = (zoo / weights.DIGESTS).read_text()
    weights.write_digests(zoo)

    assert (zoo / weights.DIGESTS).read_text() == before


def test_a_digest_is_of_the_content(tmp_path: Path) -> None:
    """The digest of a file is SHA-256 of its bytes."""
    file = tmp_path / "weights.bin"
    file.write_bytes(b"\x00\xff")

    assert weights.digest(file) == hashlib.sha256(b"\x00\xff").hexdigest()


def test_a_damaged_file_is_named(zoo: Path) -> None:
    """A file that differs from what was shipped, however little, is a SetupError with its path and the mend."""
    file = zoo / "sd15" / "unet" / "model.safetensors"
    file.write_text(file.read_text() + "\n")

    with pytest.raises(SetupError, match=rf"{re.escape(str(file))} is damaged .*: {MEND}"):
        weights.verify(zoo, "sd15")


def test_a_missing_file_is_named(zoo: Path) -> None:
    """A file that is gone is a SetupError with its path and the mend."""
    file = zoo / "sd15" / "config.json"
    file.unlink()

    with pytest.raises(SetupError, match=rf"lacks {re.escape(str(file))}: {MEND}"):
        weights.verify(zoo, "sd15")


def test_a_folder_that_is_not_listed_is_named(zoo: Path) -> None:
    """A folder of which no file is listed was never shipped, even if it lies there."""
    (zoo / "sdxl").mkdir()
    (zoo / "sdxl" / "config.json").write_text("{}")

    with pytest.raises(SetupError, match=rf"names no file of 'sdxl': {MEND}"):
        weights.verify(zoo, "sdxl")


def test_a_zoo_without_digests_is_named(tmp_path: Path) -> None:
    """Where the list itself is missing, nothing can be trusted."""
    with pytest.raises(SetupError, match=rf"cannot read {re.escape(str(tmp_path / weights.DIGESTS))}: {MEND}"):
        weights.verify(tmp_path, "sd15")


def test_damage_next_door_does_no_harm(zoo: Path) -> None:
    """Only the folder that is asked for is checked, not one whose name begins alike."""
    (zoo / "sd15-turbo" / "config.json").unlink()

    assert weights.verify(zoo, "sd15")


def test_the_revision_changes_with_the_content_only(tmp_path: Path) -> None:
    """Equal folders have equal digests wherever they lie; one changed byte changes it."""
    for zoo, content in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / zoo / "sd15").mkdir(parents=True)
        (tmp_path / zoo / "sd15" / "config.json").write_text(content)
        weights.write_digests(tmp_path / zoo)

    revisions = [weights.verify(tmp_path / zoo, "sd15") for zoo in "abc"]
    assert revisions[0] == revisions[1] != revisions[2]


def test_contents_are_names_and_bytes(tmp_path: Path) -> None:
    """Every file counts, in folders too, and what a link points to; hidden files and Python's caches do not."""

    def folder(name: str, **files: str) -> Path:
        for file, text in {"model_index.json": "{}", "unet/weights.safetensors": "one", **files}.items():
            place = tmp_path / name / file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        return tmp_path / name

    same = {
        weights.contents(folder("a")),
        weights.contents(folder("b", **{".git/HEAD": "x", "__pycache__/a.pyc": "y"})),
    }
    linked = folder("linked")
    (linked / "unet/weights.safetensors").rename(tmp_path / "blob")
    (linked / "unet/weights.safetensors").symlink_to(tmp_path / "blob")
    others = {
        weights.contents(folder("c", **{"unet/weights.safetensors": "two"})),
        weights.contents(folder("d", more="")),
        weights.contents(folder("e") / "model_index.json"),
    }

    assert same == {weights.contents(linked)}
    assert len(others) == 3
    assert same.isdisjoint(others)


def test_contents_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    """With the file."""
    with pytest.raises(SetupError, match=r"diffbench: cannot read .*missing: No such file"):
        weights.contents(tmp_path / "missing")
