"""Edits of a program as SEARCH/REPLACE blocks: each matches in one place only, changes something, and leaves Python."""

from __future__ import annotations

import ast
import difflib
import re
from dataclasses import dataclass
from typing import Final

_BLOCK: Final = re.compile(
    r"^<{5,9} SEARCH[ \t]*\n(?P<search>.*?)^={5,9}[ \t]*\n(?P<replace>.*?)^>{5,9} REPLACE[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
_MARKER: Final = re.compile(r"^(<{5,9} SEARCH|>{5,9} REPLACE)[ \t]*$", re.MULTILINE)


class EditFault(ValueError):
    """Edits cannot be applied; the message says to the model which one, why, and what it may have meant."""


@dataclass(frozen=True)
class Edit:
    """Lines to be found, and those to stand in their place; each ends with a line break unless it is empty."""

    search: str
    replace: str


def read(text: str) -> list[Edit]:
    """The edits in a reply, in order; EditFault where there is none, or one is not whole."""
    found = [Edit(match["search"], match["replace"]) for match in _BLOCK.finditer(text)]
    if not found:
        raise EditFault("there is no block <<<<<<< SEARCH … ======= … >>>>>>> REPLACE in the reply")
    if len(_MARKER.findall(text)) != 2 * len(found):
        raise EditFault(
            f"a SEARCH/REPLACE block after or before the {len(found)} whole ones is not whole: give it again"
        )
    return found


def applied(source: str, edits: list[Edit]) -> str:
    """The program after all edits, or EditFault and no edit at all.

    Each SEARCH must be whole lines that occur exactly once. The result must be Python, and another program than before:
    one that differs in comments or blanks alone is none.
    """
    edited = source if not source or source.endswith("\n") else f"{source}\n"
    for number, edit in enumerate(edits, start=1):
        edited = _replaced(edited, edit, f"edit {number} of {len(edits)}")
    try:
        after = ast.dump(ast.parse(edited))
    except (SyntaxError, ValueError) as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise EditFault(f"after the edits the program is no Python ({error}{where})") from error
    if after == _dumped(source):
        raise EditFault("the edits change nothing that Python sees: the program would do the same as before")
    return edited


def _replaced(source: str, edit: Edit, name: str) -> str:
    if not edit.search.strip():
        raise EditFault(f"{name}: SEARCH is empty: name the lines to be replaced")
    if edit.search == edit.replace:
        raise EditFault(f"{name}: REPLACE is the same as SEARCH")
    places = _places(source, edit.search)
    if not places:
        raise EditFault(f"{name}: its SEARCH is nowhere in the program{_meant(source, edit.search)}")
    if len(places) > 1:
        raise EditFault(f"{name}: its SEARCH is in {len(places)} places: name more lines around it, so that it is one")
    (start,) = places
    return source[:start] + edit.replace + source[start + len(edit.search) :]


def _places(source: str, search: str) -> list[int]:
    """Where whole lines begin that are those of `search`."""
    found, start = [], source.find(search)
    while start >= 0:
        if start == 0 or source[start - 1] == "\n":
            found.append(start)
        start = source.find(search, start + 1)
    return found


def _meant(source: str, search: str) -> str:
    """The lines that are most like those searched for, as a hint."""
    lines, wanted = source.splitlines(), search.splitlines()
    windows = ["\n".join(lines[i : i + len(wanted)]) for i in range(max(1, len(lines) - len(wanted) + 1))]
    likely = difflib.get_close_matches("\n".join(wanted), windows, n=1, cutoff=0.6)
    return f"; did you mean\n{likely[0]}" if likely else ""


def _dumped(source: str) -> str | None:
    try:
        return ast.dump(ast.parse(source))
    except (SyntaxError, ValueError):
        return None  # it had to be mended
