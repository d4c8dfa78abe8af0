"""Replies: a program is found as it was written, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from diffagent.reply import FaultKind, Reply, ReplyFault, program
from hypothesis import given
from hypothesis import strategies as st

SOLUTION = "def load(model, device):\n    return None\n\n\ndef generate(pipeline, requests):\n    return []\n"
INSTALL = "pip install tomesd\n"
EXAMPLE = "def load(model, device):\n    ...\n"


def _fenced(text: str, tag: str = "python") -> str:
    return f"```{tag}\n{text}```"


@pytest.mark.parametrize(
    "text",
    [
        _fenced(SOLUTION),
        f"Here it is:\n\n{_fenced(SOLUTION)}\n\nIt is fast.",
        _fenced(SOLUTION, "py"),
        _fenced(SOLUTION, ""),
        _fenced(SOLUTION, "Python"),
        _fenced(SOLUTION, 'python title="fast.py"'),
        _fenced(SOLUTION).replace("```", "~~~"),
        _fenced(SOLUTION).replace("```", "````"),
        f"First the outline:\n{_fenced(EXAMPLE)}\nand whole:\n{_fenced(SOLUTION)}",
        f"Install it:\n{_fenced(INSTALL, 'bash')}\n{_fenced(SOLUTION)}",
        f"{_fenced(SOLUTION)}\nAgain:\n{_fenced(SOLUTION)}",
        SOLUTION,
    ],
)
def test_the_program_is_found(text: str) -> None:
    """In whatever the model wraps it, to the letter."""
    assert program(Reply(text)) == SOLUTION


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(""), FaultKind.EMPTY),
        (Reply(" \n\t"), FaultKind.EMPTY),
        (Reply("I cannot help with that.", refusal="policy"), FaultKind.REFUSED),
        (Reply("", finish_reason="content_filter"), FaultKind.REFUSED),
        (Reply(_fenced(SOLUTION), finish_reason="length"), FaultKind.TRUNCATED),
        (Reply(_fenced(SOLUTION).removesuffix("```")), FaultKind.TRUNCATED),
        (Reply("Sorry, I cannot help."), FaultKind.PROSE),
        (Reply("Use fewer steps. It is easy."), FaultKind.PROSE),
        (Reply("x = 1"), FaultKind.PROSE),
        (Reply(_fenced("\n")), FaultKind.EMPTY),
        (Reply(_fenced("fn main() {}\n", "rust")), FaultKind.WRONG_LANGUAGE),
        (Reply(_fenced('{"code": "def load"}\n', "json")), FaultKind.WRONG_LANGUAGE),
        (Reply(_fenced("function load(model) {\n  return model;\n}\n")), FaultKind.WRONG_LANGUAGE),
        (Reply(_fenced("Use fewer steps. It is easy.\n", "")), FaultKind.PROSE),
        (Reply(_fenced(EXAMPLE) + "\n" + _fenced("x = 1\n")), FaultKind.AMBIGUOUS),
        (Reply(_fenced(SOLUTION) + "\n" + _fenced(SOLUTION.replace("None", "1"))), FaultKind.AMBIGUOUS),
    ],
)
def test_what_is_no_program_is_told_apart(reply: Reply, kind: FaultKind) -> None:
    """Each fault has a name, and a line that says what would be right."""
    with pytest.raises(ReplyFault) as raised:
        program(reply)
    assert raised.value.kind is kind
    assert str(raised.value)


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="`~\r")), st.text(st.characters(exclude_characters="`~\r"))
)
def test_nothing_in_the_program_is_lost(body: str, prose: str) -> None:
    """Whatever stands in the block beside functions, be it Python or not, and around it."""
    body = f"{SOLUTION}{body}"
    text = f"{prose}\n```python\n{body}\n```\n{prose}"

    assert program(Reply(text)) == f"{body}\n"


@given(st.text())
def test_any_text_is_a_program_or_a_fault(text: str) -> None:
    """No reply breaks the reader."""
    try:
        found = program(Reply(text))
    except ReplyFault:
        return
    assert found.strip()
