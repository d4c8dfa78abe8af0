"""Edits: applied exactly, in one place each, or not at all with a line that helps."""

from __future__ import annotations

import ast

import pytest
from diffagent.edits import Edit, EditFault, applied, read
from hypothesis import assume, given
from hypothesis import strategies as st

SOURCE = """import torch


def load(model, device):
    steps = 50
    return steps


def generate(pipeline, requests):
    return []
"""

FIFTY = "    steps = 50\n"


def _block(search: str, replace: str) -> str:
    return f"<<<<<<< SEARCH\n{search}=======\n{replace}>>>>>>> REPLACE"


def test_edits_are_applied_in_order() -> None:
    """The second sees what the first has made."""
    first, second = (
        _block(FIFTY, FIFTY.replace("50", "20")),
        _block(FIFTY.replace("50", "20"), FIFTY.replace("50", "25")),
    )
    text = f"Two changes:\n{first}\nand\n{second}"

    assert applied(SOURCE, read(text)) == SOURCE.replace("50", "25")


def test_lines_can_be_taken_out_and_put_in() -> None:
    """An empty REPLACE deletes; more lines than before insert."""
    assert applied(SOURCE, [Edit("import torch\n\n\n", "")]) == SOURCE.removeprefix("import torch\n\n\n")
    assert "import numpy" in applied(SOURCE, [Edit("import torch\n", "import numpy\nimport torch\n")])


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ([Edit("    steps = 51\n", "    steps = 20\n")], "nowhere in the program; did you mean\n    steps = 50"),
        ([Edit("steps = 50\n", "steps = 20\n")], "nowhere in the program"),
        ([Edit("    return", "    yield")], "in 2 places"),
        ([Edit("    steps = 50\n", "    steps = 50\n")], "the same as SEARCH"),
        ([Edit("", "import numpy\n")], "SEARCH is empty"),
        ([Edit("    steps = 50\n", "    steps = 50  # as it is\n")], "change nothing that Python sees"),
        ([Edit("    steps = 50\n", "    steps = (\n")], "no Python"),
        ([Edit("    steps = 50\n", "    steps = 20\n"), Edit("    nothing\n", "")], "edit 2 of 2"),
    ],
)
def test_what_cannot_be_applied_is_said(edits: list[Edit], said: str) -> None:
    """A silent no-op would be measured as if it were a new solution."""
    with pytest.raises(EditFault) as raised:
        applied(SOURCE, edits)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "I would set steps to 20.",
        "<<<<<<< SEARCH\n    steps = 50\n=======\n    steps = 20\n",
        _block("    steps = 50\n", "    steps = 20\n") + "\n<<<<<<< SEARCH\nimport torch\n",
    ],
)
def test_what_is_no_whole_block_is_refused(text: str) -> None:
    """Half an answer is none."""
    with pytest.raises(EditFault):
        read(text)


LINES = st.lists(st.text(st.characters(codec="ascii", categories=("L", "N"))), min_size=1, max_size=4)


@given(LINES, LINES)
def test_a_block_is_read_as_it_was_written(search: list[str], replace: list[str]) -> None:
    """To the letter."""
    edit = Edit("\n".join(search) + "\n", "\n".join(replace) + "\n")

    assert read(f"Like this:\n{_block(edit.search, edit.replace)}\nDone.") == [edit]


@given(st.lists(st.integers(0, 99), min_size=2, max_size=12, unique=True), st.data())
def test_only_the_place_that_was_named_changes(values: list[int], data: st.DataObject) -> None:
    """All other lines stay, byte for byte."""
    source = "".join(f"x{value} = {value}\n" for value in values)
    chosen = data.draw(st.sampled_from(values))
    new = data.draw(st.integers(100, 999))

    edited = applied(source, [Edit(f"x{chosen} = {chosen}\n", f"x{chosen} = {new}\n")])
    assert edited == source.replace(f"x{chosen} = {chosen}\n", f"x{chosen} = {new}\n", 1)
    assert ast.parse(edited)


@given(st.text(), st.text(), st.text())
def test_what_is_applied_is_always_another_python_program(source: str, search: str, replace: str) -> None:
    """Or nothing is applied at all."""
    assume(search)
    try:
        edited = applied(source, [Edit(search, replace)])
    except EditFault:
        return
    assert ast.parse(edited) is not None
    assert edited != source
