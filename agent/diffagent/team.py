"""Planner, coder and debugger as language models: what each is told, and what of its reply is used.

Plans come as JSON, programs and edits as text: code inside JSON is worse code (aider's leaderboard, unified-diffs.md).
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jinja2
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from diffagent import edits, program
from diffagent.calls import Question
from diffagent.candidate import Idea, normalised
from diffagent.knowledge import Knowledge
from diffagent.llm import Message
from diffagent.plan import Applied, Plan, in_words
from diffagent.reply import FaultKind, Reply, ReplyFault, complain, value
from diffagent.reply import program as program_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffagent.calls import Calls
    from diffagent.candidate import Candidate, Memory
    from diffagent.gate import Gate
    from diffagent.knowledge.base import Entry, Parameter
    from pytest_diffbench.demand import Demand

PROMPTS: Final = Path(__file__).parent / "prompts"
AS_TODAY: Final = "the pipeline exactly as it is run today, nothing changed"
ABREAST: Final = 8
"""Programs that are written at once: a generation, and one more."""
_REFLECTION: Final = re.compile(r"^\W*Reflection:\s*(?P<said>.+)$", re.MULTILINE)
_WHOLE: Final = "Give the whole file instead, with the repair, in one fenced Python block."


class Proposed(BaseModel):
    """One plan in a planner's reply."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    refines: str = ""
    methods: tuple[Applied, ...] = ()
    also: str = ""


class Proposal(BaseModel):
    """A planner's reply."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    lesson: str = ""
    ideas: tuple[Proposed, ...] = Field(min_length=1)


def schema_of(knowledge: Knowledge) -> dict[str, Any]:
    """The form of a planner's reply, as JSON schema: which methods there are, with what parameters, in what ranges."""
    schema = Proposal.model_json_schema()
    if knowledge.entries:
        schema["$defs"]["Applied"] = {"anyOf": [_method(entry) for entry in knowledge.entries.values()]}
    return schema


def _method(entry: Entry) -> dict[str, Any]:
    parameters = {name: _values(parameter) for name, parameter in entry.facts.parameters.items()}
    return {
        "type": "object",
        "description": entry.facts.title,
        "properties": {
            "method": {"const": entry.name},
            "parameters": {"type": "object", "properties": parameters, "additionalProperties": False},
        },
        "required": ["method"],
        "additionalProperties": False,
    }


def _values(parameter: Parameter) -> dict[str, Any]:
    if parameter.type == "choice":
        return {"enum": list(parameter.choices), "description": parameter.means}
    limits = {"minimum": parameter.low, "maximum": parameter.high}
    return {"type": parameter.type, **limits, "description": parameter.means}


@dataclass
class Brief:
    """What all three are told of one task, and the line to their models."""

    demand: Demand
    prompt: str
    """The benchmark's own, as any solver gets it."""
    gate: Gate
    calls: Calls
    sample: str
    """Tells several answers to one task apart."""
    _asked: Counter[tuple[str, tuple[Message, ...]]] = field(default_factory=Counter)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, role: str, messages: Sequence[Message], schema: dict[str, Any] | None = None) -> Reply:
        """A model's reply; the same asked twice on purpose is two questions."""
        key = (role, tuple(messages))
        with self._guard:
            self._asked[key] += 1
            count = self._asked[key]
        question = Question(role, self.demand.task_id, f"{self.sample}#{count}", key[1], schema)
        return self.calls.ask(question).reply

    def rendered(self, name: str, **facts: Any) -> str:
        """A prompt by its template."""
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(PROMPTS),
            undefined=jinja2.StrictUndefined,
            autoescape=False,  # noqa: S701 (the text is no HTML)
            trim_blocks=True,
            lstrip_blocks=True,
        )
        return environment.get_template(f"{name}.jinja").render(task=self.prompt.strip(), **facts)

    @property
    def wants_speed(self) -> bool:
        """Whether there is a target, so that methods are the planner's to choose (levels 4 and 5)."""
        return self.demand.markers.speed is not None or self.demand.markers.latency is not None


def _turn(reply: Reply, said: str) -> list[Message]:
    """What a model gave, and what it is told of that."""
    return [Message("assistant", reply.text or "(nothing)"), Message("user", said)]


class LanguagePlanner:
    """A language model that plans."""

    def __init__(self, brief: Brief, *, remembers: bool = True) -> None:
        """`remembers`: it is told what was tried; without, every generation is planned as if it were the first."""
        self._brief = brief
        self._remembers = remembers

    def baseline(self) -> Idea | None:
        """Where a speed is wanted: the pipeline as it is run today."""
        return Idea(Plan(), AS_TODAY) if self._brief.wants_speed else None

    def learn(self, measured: Sequence[Candidate]) -> None:
        """It is told with the next question."""

    def ideas(self, count: int, parents: Sequence[Candidate], memory: Memory) -> list[Idea]:
        """Its plans that can work; what is wrong with the others is told to it once."""
        parents = parents if self._remembers else []
        messages = [Message("user", self._prompt(count, parents, memory))]
        schema = schema_of(self._brief.gate.knowledge if self._brief.wants_speed else Knowledge({}))
        found: dict[str, Idea] = {}
        for _ in range(2):
            reply = self._brief.ask("planner", messages, schema)
            problems = self._take(reply, parents, memory, found, count)
            if not problems or len(found) >= count:
                break
            told = "\n".join(f"- {problem}" for problem in problems)
            wanted = f"Give {count - len(found)} plans in their place, in the same form."
            messages += _turn(reply, f"Not all of that can be used:\n{told}\n{wanted}")
        return list(found.values())[:count]

    def _prompt(self, count: int, parents: Sequence[Candidate], memory: Memory) -> str:
        brief = self._brief
        return brief.rendered(
            "planner",
            profile=brief.gate.profile,
            knowledge=list(brief.gate.knowledge.entries.values()) if brief.wants_speed else [],
            device_kind=brief.gate.subject.device_kind,
            tried=memory.tried if self._remembers else [],
            lessons=memory.lessons if self._remembers else [],
            parents=parents,
            count=count,
            demanded=None if brief.wants_speed else in_words(program.demanded(brief.demand)),
        )

    def _take(
        self, reply: Reply, parents: Sequence[Candidate], memory: Memory, found: dict[str, Idea], count: int
    ) -> list[str]:
        """Add what can be used of a reply, and say why the rest cannot."""
        try:
            planned = Proposal.model_validate(value(reply))
        except ReplyFault as fault:
            return [str(fault)]
        except ValidationError as error:
            return [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        if planned.lesson and planned.lesson not in memory.lessons:
            memory.lessons.append(planned.lesson)
        names = {candidate.name for candidate in parents}
        problems = []
        for number, proposed in enumerate(planned.ideas, start=1):
            idea = self._idea(proposed, names)
            against = self._against(idea, memory) if self._brief.wants_speed else []
            if against or memory.key(idea) in found:
                problems.append(f"plan {number} ({idea}): {'; '.join(against) or 'it is there twice'}")
            elif len(found) < count:
                found[memory.key(idea)] = idea
        return problems

    def _against(self, idea: Idea, memory: Memory) -> list[str]:
        """What speaks against an idea; who is told of nothing is not told what became of it either."""
        against = self._brief.gate.problems(idea, memory)
        return against if self._remembers or memory.of_idea(idea) is None else ["it is taken: choose another"]

    def _idea(self, proposed: Proposed, parents: set[str]) -> Idea:
        if not self._brief.wants_speed:
            return Idea(program.demanded(self._brief.demand), proposed.also)
        plan = Plan(methods=proposed.methods)
        known = all(each.method in self._brief.gate.knowledge for each in plan.methods)
        return Idea(
            self._brief.gate.canonical(plan) if known else plan,
            proposed.also.strip(),
            proposed.refines if proposed.refines in parents else "",
        )


class LanguageCoder:
    """A language model that writes programs."""

    abreast: Final = ABREAST

    def __init__(self, brief: Brief, tries: int) -> None:
        self._brief = brief
        self.tries = tries

    def written(self, idea: Idea, base: str, failures: Sequence[str]) -> str:
        """The program in its reply; ReplyFault where there is none, or the one that it was to start from."""
        brief, knowledge = self._brief, self._brief.gate.knowledge
        known = [each for each in idea.plan.methods if each.method in knowledge]
        template = ""
        if known and len(known) == len(idea.plan.methods):
            template = program.written(idea.plan, brief.demand, brief.gate.subject.device_kind, knowledge)
        prompt = brief.rendered(
            "coder",
            idea=idea,
            methods=[(knowledge[each.method], each.parameters) for each in known],
            template=template,
            base=base,
            failures=failures,
        )
        made = program_in(brief.ask("coder", [Message("user", prompt)]))
        if base and normalised(made) == normalised(base):
            raise ReplyFault(FaultKind.UNCHANGED, "the file is the one to start from: write what the plan says into it")
        return made


class LanguageDebugger:
    """A language model that repairs programs."""

    def __init__(self, brief: Brief) -> None:
        self._brief = brief

    def repaired(self, idea: Idea, source: str, report: str, reflections: list[str]) -> str:
        """The program after its edits; where they cannot be applied twice, the whole file that it then gives.

        ReplyFault where that is none either, or the program that it was.
        """
        prompt = self._brief.rendered("debugger", idea=idea, source=source, report=report, reflections=reflections)
        messages = [Message("user", prompt)]
        for _ in range(2):
            reply = self._brief.ask("debugger", messages)
            if (said := _REFLECTION.search(reply.text)) is not None and said["said"] not in reflections:
                reflections.append(said["said"].strip())
            try:
                complain(reply)
                return edits.applied(source, edits.read(reply.text))
            except (edits.EditFault, ReplyFault) as fault:
                messages += _turn(reply, f"That cannot be applied: {fault}")
        messages[-1] = Message("user", f"{messages[-1].content}\n{_WHOLE}")
        made = program_in(self._brief.ask("debugger", messages))
        if normalised(made) == normalised(source):
            raise ReplyFault(FaultKind.UNCHANGED, "the file is the same as before: change what failed")
        return made
