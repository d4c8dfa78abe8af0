"""All plans for a subject as a space that Optuna searches: a choice a kind of method, and the parameters of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from diffagent.knowledge.base import KINDS, Choice, Integer, Knowledge, Number, Value
from diffagent.plan import Applied, Plan, Subject, canonical, problems, steps_of

if TYPE_CHECKING:
    import optuna

    from diffagent.knowledge.base import Entry, Parameter

NONE: Final = "none"
STRIDE: Final = 0.05
"""Between the values of a number that are tried: closer ones cannot be told apart."""


class Space:
    """The plans that could work for a subject, as Optuna's parameters and back."""

    def __init__(self, subject: Subject, knowledge: Knowledge) -> None:
        self._subject = subject
        self._knowledge = knowledge
        self._choices = {kind: [entry for entry in knowledge.of_kind(kind) if self._fits(entry)] for kind in KINDS}

    def _fits(self, entry: Entry) -> bool:
        smallest: dict[str, Value] = {
            name: parameter.low
            for name, parameter in entry.facts.parameters.items()
            if isinstance(parameter, Integer) and parameter.below_steps
        }
        plan = Plan(methods=(Applied(method=entry.name, parameters=smallest),))
        return not problems(plan, self._subject, self._knowledge)

    def suggested(self, trial: optuna.Trial) -> Plan:
        """The plan that Optuna's sampler suggests; it may still be one that cannot work."""
        methods = []
        for kind, entries in self._choices.items():
            name = trial.suggest_categorical(kind, [NONE, *(entry.name for entry in entries)]) if entries else NONE
            if name != NONE:
                known = self._knowledge[str(name)].facts.parameters
                parameters = {each: _suggested(trial, f"{name}.{each}", known[each]) for each in known}
                methods.append(Applied(method=str(name), parameters=parameters))
        return self._below_steps(Plan(methods=tuple(methods)))

    def _below_steps(self, plan: Plan) -> Plan:
        """The plan with what counts steps cut to those that there are."""
        steps = steps_of(plan, self._subject, self._knowledge)

        def cut(applied: Applied) -> Applied:
            known = self._knowledge[applied.method].facts.parameters
            values = {
                name: min(value, steps - 1) if known[name].below_steps and isinstance(value, int) else value
                for name, value in applied.parameters.items()
            }
            return Applied(method=applied.method, parameters=values)

        return Plan(methods=tuple(cut(applied) for applied in plan.methods))

    def as_parameters(self, plan: Plan) -> dict[str, Any]:
        """A plan as what Optuna would have suggested, so that it can be enqueued."""
        whole = canonical(plan, self._knowledge, self._subject.device_kind)
        found: dict[str, Any] = {kind: NONE for kind, entries in self._choices.items() if entries}
        for applied in whole.methods:
            found[self._knowledge[applied.method].facts.kind] = applied.method
            known = self._knowledge[applied.method].facts.parameters
            found |= {f"{applied.method}.{name}": _on_grid(known[name], v) for name, v in applied.parameters.items()}
        return found

    def recipes(self) -> list[Plan]:
        """The known recipes that can work here."""
        fitting = [recipe for recipe in self._knowledge.recipes if self._subject.denoiser in recipe.denoisers]
        made = [Plan.model_validate({"methods": [each.model_dump() for each in recipe.methods]}) for recipe in fitting]
        return [plan for plan in made if self._can_work(plan)]

    def _can_work(self, plan: Plan) -> bool:
        return not problems(plan, self._subject, self._knowledge)


def _suggested(trial: optuna.Trial, name: str, parameter: Parameter) -> Value:
    if isinstance(parameter, Integer):
        return trial.suggest_int(name, parameter.low, parameter.high)
    if isinstance(parameter, Number):
        return trial.suggest_float(name, parameter.low, parameter.high, step=STRIDE)
    chosen = trial.suggest_categorical(name, list(parameter.choices))
    assert chosen is not None  # it is one of the choices
    return chosen


def _on_grid(parameter: Integer | Number | Choice, value: Value) -> Value:
    if not isinstance(parameter, Number):
        return value
    return round(parameter.low + STRIDE * round((float(value) - parameter.low) / STRIDE), 4)
