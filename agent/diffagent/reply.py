"""A language model's reply, read: a whole program, or one of a few clear faults; prose is never taken for one."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

PYTHON: Final = ("", "python", "py", "python3")
NEEDED: Final = ("load", "generate")
"""The functions of a solution; they tell it from an example among several blocks."""
_FENCE: Final = re.compile(r"^[ \t]*(?P<fence>`{3,}|~{3,})[ \t]*(?P<tag>[^\s`]*)[^\n`]*$", re.MULTILINE)

_FUNCTION: Final = re.compile(r"^[ \t]*(async[ \t]+)?def[ \t]+\w+[ \t]*\(", re.MULTILINE)


class FaultKind(StrEnum):
    """What is wrong with a reply."""

    EMPTY = "empty"
    REFUSED = "refused"
    TRUNCATED = "cut off"
    PROSE = "no program"
    WRONG_LANGUAGE = "another language"
    AMBIGUOUS = "several programs"
    NO_JSON = "no JSON"
    UNCHANGED = "nothing changed"


class ReplyFault(ValueError):
    """A reply holds no program; the message says to the model what would be right."""

    def __init__(self, kind: FaultKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Reply:
    """What came back from one call."""

    text: str
    finish_reason: str = "stop"
    """As the protocol has it: stop, length, content_filter, …"""
    refusal: str = ""


@dataclass(frozen=True)
class Block:
    """A fenced block of a reply."""

    tag: str
    text: str
    closed: bool


def blocks(text: str) -> list[Block]:
    """The fenced blocks, in order; the last may lack its end."""
    found: list[Block] = []
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif fence["fence"].startswith(opened["fence"]) and not fence["tag"]:
            found.append(Block(opened["tag"].lower(), _inside(text, opened.end(), fence.start()), closed=True))
            opened = None
    if opened is not None:
        found.append(Block(opened["tag"].lower(), _inside(text, opened.end(), len(text)), closed=False))
    return found


def _inside(text: str, start: int, end: int) -> str:
    return text[start:end].removeprefix("\n")


def program(reply: Reply) -> str:
    """The one program in a reply; ReplyFault where there is none, or no telling which of several it is."""
    complain(reply)
    found = blocks(reply.text)
    if not found:
        if _defined(reply.text):
            return reply.text
        raise ReplyFault(FaultKind.PROSE, "the reply holds no program: give the whole file in one ```python block")
    python = [block for block in found if block.tag in PYTHON]
    if not python:
        tags = ", ".join(sorted({block.tag for block in found}))
        raise ReplyFault(FaultKind.WRONG_LANGUAGE, f"the reply holds {tags}, no Python: give one ```python block")
    whole = [block for block in python if all(name in _defined(block.text) for name in NEEDED)]
    if len(whole) == 1 or len(python) == 1:
        (chosen,) = whole if len(whole) == 1 else python
        if not chosen.closed:
            raise ReplyFault(FaultKind.TRUNCATED, "the reply breaks off inside its block: give a shorter file, whole")
        if not chosen.text.strip():
            raise ReplyFault(FaultKind.EMPTY, "the block in the reply is empty: give the whole file in it")
        if not _is_python(chosen.text):
            kind = FaultKind.WRONG_LANGUAGE if chosen.tag else FaultKind.PROSE
            raise ReplyFault(kind, "what the block holds is no Python: give the whole file in one ```python block")
        return chosen.text
    if len({block.text for block in whole}) == 1:
        return whole[0].text
    raise ReplyFault(
        FaultKind.AMBIGUOUS,
        f"the reply holds {len(python)} Python blocks, {len(whole)} of them with load and generate: "
        "give the whole file in one",
    )


def value(reply: Reply) -> object:
    """The JSON object in a reply: alone, in a fenced block, or among words; ReplyFault where there is none."""
    complain(reply)
    texts = [reply.text, *(block.text for block in blocks(reply.text))]
    for text in texts:
        try:
            if isinstance(found := json.loads(text), dict):
                return found
        except (ValueError, RecursionError):
            continue
    longest: tuple[int, object] = (0, None)
    for start in (match.start() for match in re.finditer(r"\{", reply.text)):
        try:
            found, end = json.JSONDecoder().raw_decode(reply.text, start)
        except (ValueError, RecursionError):
            continue
        longest = max(longest, (end - start, found), key=lambda each: each[0])
    if longest[0]:
        return longest[1]
    raise ReplyFault(FaultKind.NO_JSON, "the reply holds no JSON object: give one, in the form that was asked for")


def complain(reply: Reply) -> None:
    """ReplyFault where the call itself gave nothing to read: it was refused, cut off, or is empty."""
    if reply.refusal or reply.finish_reason == "content_filter":
        raise ReplyFault(FaultKind.REFUSED, f"the model refused: {reply.refusal or 'its provider filtered the reply'}")
    if reply.finish_reason == "length":
        raise ReplyFault(FaultKind.TRUNCATED, "the reply was cut off at the most tokens allowed: allow more")
    if not reply.text.strip():
        raise ReplyFault(FaultKind.EMPTY, "the reply is empty: give what was asked for")


def _is_python(text: str) -> bool:
    """Whether a text is meant as Python: it can be read, or begins a function, however broken the rest is."""
    try:
        ast.parse(text)
    except (ValueError, RecursionError, MemoryError):
        return True
    except SyntaxError:
        return _FUNCTION.search(text) is not None
    return True


def _defined(text: str) -> set[str]:
    """The functions that a text defines at its top; none where it is no Python."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return set()
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
