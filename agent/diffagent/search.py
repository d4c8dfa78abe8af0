"""Optuna as planner: it suggests plans, beginning with the known recipes, and learns from what was measured.

Bergstra et al. 2011 (TPE) with constraints. Where it suggests nothing new any more that could reach the target, mutants
of the plans on either side of the limit take its place. `random` knows neither recipes nor results, and is the control.
"""

from __future__ import annotations

import itertools
import random
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

from diffagent.candidate import Idea
from diffagent.plan import mutated, problems
from diffagent.space import Space

if TYPE_CHECKING:
    from collections.abc import Sequence

    import optuna

    from diffagent.candidate import Candidate, Memory
    from diffagent.gate import Gate
    from diffagent.plan import Plan

MOST_ASKED: Final = 200
"""Suggestions for one generation, and mutants where these run out; then all that are left have been tried."""
PARENTS: Final = 2
"""On each side of the limit, of the mutants."""
STARTUP: Final = 7
"""Trials before TPE models anything: one generation."""
SHUNNED: Final = 1.0
"""The constraint of images that a guard rejects."""

Kind = Literal["tpe", "random"]


class Search:
    """A planner without a language model."""

    def __init__(self, gate: Gate, *, seed: int, kind: Kind = "tpe", begin: Sequence[Plan] = ()) -> None:
        """`begin`: plans that are tried before the recipes."""
        self._gate = gate
        self._space = Space(gate.subject, gate.knowledge)
        self._seed = seed
        self._rng = random.Random(seed)  # noqa: S311 (no secret)
        self._kind = kind
        self._begin = begin
        self._trials: dict[str, optuna.Trial] = {}
        self._memory: Memory | None = None

    @cached_property
    def _study(self) -> optuna.Study:
        # imported here: only who searches needs it
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        if self._kind == "random":
            sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed=self._seed)
        else:
            sampler = optuna.samplers.TPESampler(seed=self._seed, n_startup_trials=STARTUP)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for plan in (*self._begin, *self._space.recipes()) if self._kind == "tpe" else ():
            study.enqueue_trial(self._space.as_parameters(plan))
        return study

    def baseline(self) -> Idea | None:
        """Templates begin with nothing."""
        return None

    def ideas(self, count: int, parents: Sequence[Candidate], memory: Memory) -> list[Idea]:
        """Plans that can work and are new. The selector's parents do not count."""
        del parents
        self._memory = memory
        found: list[Idea] = []
        for _ in range(MOST_ASKED):
            if len(found) >= count:
                break
            self._ask(found, memory)
        around = memory.around_the_limit(PARENTS) if self._kind == "tpe" else []
        for parent in itertools.islice(itertools.cycle(around), MOST_ASKED):
            if len(found) >= count:
                break
            child = mutated(parent.idea.plan, self._gate.subject, self._gate.knowledge, self._rng)
            if child is not None:
                self._study.enqueue_trial(self._space.as_parameters(child))
                self._ask(found, memory)
        return found

    def _ask(self, found: list[Idea], memory: Memory) -> None:
        """Add the study's next suggestion where it is new and can work; what is known already is told at once."""
        trial = self._study.ask()
        plan = self._space.suggested(trial)
        if problems(plan, self._gate.subject, self._gate.knowledge):
            self._study.tell(trial, state=_failed())
            return
        idea = Idea(self._gate.canonical(plan))
        if (known := memory.of_idea(idea)) is not None:
            self._tell(trial, known)
        elif idea in found or self._gate.problems(idea, memory):
            self._study.tell(trial, state=_failed())
        else:
            self._trials[memory.key(idea)] = trial
            found.append(idea)

    def learn(self, measured: Sequence[Candidate]) -> None:
        """Each trial is told its speed-up, and by how much more than allowed its images lost."""
        for candidate in measured:
            trial = self._trials.pop(self._memory.key(candidate.idea), None) if self._memory is not None else None
            if trial is not None:
                self._tell(trial, candidate)

    def _tell(self, trial: optuna.Trial, candidate: Candidate) -> None:
        fitness = candidate.fitness
        if fitness is None or fitness.speedup is None or fitness.verdict in ("CHEAT", "INFRA"):
            self._study.tell(trial, state=_failed())
            return
        if fitness.loss is not None and fitness.max_loss is not None:
            lost = fitness.loss - fitness.max_loss
            trial.set_constraint("quality", lost if fitness.keeps_quality else max(lost, SHUNNED))
        self._study.tell(trial, fitness.speedup)


def _failed() -> Any:
    from optuna.trial import TrialState

    return TrialState.FAIL
