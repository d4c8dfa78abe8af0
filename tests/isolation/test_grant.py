"""What a candidate may read: what it needs, without what lies hidden in between."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pytest_diffbench.isolation import bubblewrap, identity
from pytest_diffbench.isolation.grant import Grant, closed_to_others, expanded, grant, scratch_environment
from pytest_diffbench.isolation.limits import Limits
from pytest_diffbench.zoo.weights import TINY

PACKAGE = TINY.parents[1]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with folders and files in it."""
    for name in ("a/x/1", "a/y/2", "b/3"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def _grant(readable: tuple[Path, ...], hidden: tuple[Path, ...] = ()) -> Grant:
    return Grant(tuple(map(str, readable)), tuple(map(str, hidden)), (), {})


def test_only_its_own_model_is_readable() -> None:
    """Of the zoo the model that is named, not the scorer beside it; the package, not the answers in it."""
    found = grant([str(TINY / "sd15")])

    assert str(TINY / "sd15") in found.readable
    assert str(TINY) in found.hidden
    assert str(PACKAGE) in found.readable
    assert str(PACKAGE.parent) not in found.readable


def test_no_key_travels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is made of what is known to be needed, whatever else there is."""
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("HF_TOKEN", "secret")
    found = grant([], threads=1, environment={"CUDA_VISIBLE_DEVICES": ""})

    assert "secret" not in found.environment.values()
    assert (found.environment["OMP_NUM_THREADS"], found.environment["CUDA_VISIBLE_DEVICES"]) == ("1", "")
    assert all(value.startswith("/s") for value in scratch_environment("/s").values())


def test_a_hubs_snapshot_comes_with_what_its_links_point_to(tmp_path: Path) -> None:
    """Files of a snapshot are links into the blobs beside it."""
    snapshot = tmp_path / "models--a--b/snapshots/123"
    snapshot.mkdir(parents=True)

    assert str(tmp_path / "models--a--b") in grant([str(snapshot)]).readable


def test_a_hidden_folder_is_walked_around(tree: Path) -> None:
    """Means that can only allow get its neighbours one by one, and of the folders on the way only the names."""
    found = set(expanded(_grant((tree,), (tree / "a/x",)))) - {(str(PACKAGE.parent), False)}

    assert found == {(str(tree), False), (str(tree / "a"), False), (str(tree / "a/y"), True), (str(tree / "b"), True)}


def test_what_is_readable_beneath_a_hidden_folder_is_readable(tree: Path) -> None:
    """One model out of a folder of many."""
    found = expanded(_grant((tree, tree / "a/x"), (tree / "a",)))

    assert (str(tree / "a/x"), True) in found
    assert not any(path == str(tree / "a/y") for path, _ in found)


def test_bubblewrap_mounts_outer_before_inner(tree: Path) -> None:
    """Readable, hidden over it, readable over that; and nothing twice."""
    words = bubblewrap.command(_grant((tree, tree / "a/x", tree / "b"), (tree / "a",)), Limits())

    places = [words.index(str(path)) for path in (tree, tree / "a", tree / "a/x")]
    assert places == sorted(places)
    assert words[places[1] - 1] == "--tmpfs"
    assert str(tree / "b") not in words


def test_a_folder_closed_to_others_is_noticed(tree: Path) -> None:
    """An own user id has to get past it."""
    (tree / "a").chmod(0o700)
    for folder in (tree, *tree.parents):
        if folder.stat().st_uid == tree.stat().st_uid and not folder.stat().st_mode & 1:
            folder.chmod(0o755)

    assert closed_to_others([str(tree / "a/x")])
    (tree / "a").chmod(0o755)
    assert not closed_to_others([str(tree / "a/x")])


def test_every_sandbox_has_a_user_id_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbours differ, nothing else uses them, and a container with few ids has room too."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    found = [identity.own_uid() for _ in range(64)]

    assert len(set(found)) == 64
    assert all(uid is not None and uid >= identity.LEAST for uid in found)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert identity.own_uid() is None


def test_the_interpreter_is_readable() -> None:
    """A sandbox whose Python is missing could not start at all."""
    readable = grant([]).readable

    for path in (sys.prefix, sys.base_prefix):
        assert any(Path(path).is_relative_to(one) for one in readable)
