"""A script that plays planner, coder and debugger behind the loopback server: no language model, and no skill of one.

It reads its part from the prompt's first words, and copies what the prompt holds: plans from the methods that it names,
programs from the template in it. A test hands it what it does wrong, and how often.
"""

from __future__ import annotations

import difflib
import json
import re
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.agent.loopback import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

ROLES: Final = {"You plan": "planner", "You write": "coder", "You repair": "debugger", "Write a Python": "solver"}
_PROGRAM: Final = re.compile(r"^```python\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)

BUGS: Final[Mapping[str, Callable[[str], str]]] = {
    "a missing import": lambda source: source.replace("import torch\n", "", 1),
    "a wrong argument": lambda source: source.replace("guidance_scale=", "guidance=", 1),
    "an image of the wrong shape": lambda source: re.sub(
        r"return (.+\.images)$", r"return [image.resize((8, 8)) for image in \1]", source, count=1, flags=re.MULTILINE
    ),
    "a function too few": lambda source: source.replace("def generate(", "def generate_images(", 1),
    "no Python": lambda source: source.replace("def load(model, device):", "def load(model, device:", 1),
    "a method that the architecture does not have": lambda source: source.replace(
        "    first = requests[0]\n",
        "    from diffagent.methods import deepcache\n"
        "    pipeline.unet = None\n"
        "    deepcache(pipeline).__enter__()\n"
        "    first = requests[0]\n",
        1,
    ),
    "another model": lambda source: source.replace("from_pretrained(model,", "from_pretrained('someone/else',", 1),
    "a device that is not there": lambda source: source.replace(".to(device)", ".to('cuda:7')", 1),
    "no image": lambda source: re.sub(r"return (.+\.images)$", r"return []", source, count=1, flags=re.MULTILINE),
}
"""What a coder does wrong, as what it makes of a right program."""

FORMATS: Final[Mapping[str, Callable[[str], Answer]]] = {
    "prose": lambda _: Answer("I would load the pipeline, and call it with fewer steps."),
    "nothing": lambda _: Answer(""),
    "a refusal": lambda _: Answer("", refusal="I cannot help with that."),
    "cut off": lambda source: Answer(f"```python\n{source[: len(source) // 2]}", finish_reason="length"),
    "another language": lambda _: Answer("```javascript\nfunction load() {}\n```"),
    "two programs": lambda source: Answer(f"```python\n{source}```\nor\n```python\n{source}# the other\nX = 1\n```"),
}
"""What a coder replies instead of one program."""


@dataclass
class Scenario:
    """What is answered; a callable for `Loopback`."""

    plans: Sequence[Mapping[str, Any]] = ()
    """Each idea that the planner will have, in turn; then it has no more."""
    bugs: Iterable[str] = ()
    """What the coder does wrong, one bug a program, in turn; then it does everything right."""
    formats: Iterable[str] = ()
    """How the coder breaks the form, one reply each, before it keeps it."""
    faults: Iterable[Answer] = ()
    """What the debugger gives before it gives a right edit."""
    first: Iterable[Answer] = ()
    """What anybody gives before all else."""
    asked: list[str] = field(default_factory=list)
    """The roles that were asked, in order."""
    prompts: list[tuple[str, str]] = field(default_factory=list)
    """Role and last message of each call."""

    def __post_init__(self) -> None:
        self._plans = deque(self.plans)
        self._bugs, self._formats = deque(self.bugs), deque(self.formats)
        self._faults, self._first = deque(self.faults), deque(self.first)
        self._right: dict[str, str] = {}
        self._guard = threading.Lock()

    def __call__(self, asked: Mapping[str, Any]) -> Answer:
        """One completion."""
        opening, last = asked["messages"][0]["content"], asked["messages"][-1]["content"]
        role = next(name for words, name in ROLES.items() if opening.startswith(words))
        with self._guard:
            self.asked.append(role)
            self.prompts.append((role, last))
            if self._first:
                return self._first.popleft()
            if role == "planner":
                return self._planned(opening, last)
            return self._written(opening) if role == "coder" else self._repaired(opening)

    def _planned(self, opening: str, last: str) -> Answer:
        counted = re.findall(r"^(?:Give )?(\d+) plans", last if last != opening else opening, re.MULTILINE)
        wanted = int(counted[-1]) if counted else 1
        ideas = [self._plans.popleft() for _ in range(min(wanted, len(self._plans)))]
        return Answer(json.dumps({"lesson": f"after {len(self.asked)} calls", "ideas": ideas}))

    def _written(self, opening: str) -> Answer:
        programs = [match["text"] for match in _PROGRAM.finditer(opening)]
        right = programs[1] if len(programs) > 1 else programs[0]  # the template, else the code as it is today
        if self._formats:  # no bug is spent on what will not be run
            return FORMATS[self._formats.popleft()](right)
        source = BUGS[self._bugs.popleft()](right) if self._bugs else right
        self._right[source.strip()] = right
        return Answer(f"Here it is.\n```python\n{source}```\n")

    def _repaired(self, opening: str) -> Answer:
        if self._faults:
            return self._faults.popleft()
        broken = next(match["text"] for match in _PROGRAM.finditer(opening.split("## The program")[1]))
        return Answer(f"Reflection: it was written wrongly.\n\n{edit(broken, self._right[broken.strip()])}")


def edit(broken: str, right: str) -> str:
    """SEARCH/REPLACE blocks that make the one the other."""
    theirs, ours = broken.splitlines(keepends=True), right.splitlines(keepends=True)
    changes = [each for each in difflib.SequenceMatcher(None, theirs, ours).get_opcodes() if each[0] != "equal"]
    first, last = changes[0], changes[-1]
    begin, end = max(0, first[1] - 3), min(len(theirs), last[2] + 3)
    shift = len(ours) - len(theirs)
    search, replace = "".join(theirs[begin:end]), "".join(ours[begin : end + shift])
    return f"<<<<<<< SEARCH\n{search}=======\n{replace}>>>>>>> REPLACE\n"
