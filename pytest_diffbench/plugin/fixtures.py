"""The three fixtures of a task: cheap handles in set-up, evidence once their stage has run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_diffbench.plugin.keys import BODY, DEMAND, NEXT_ITEM, RUN, SESSION, TRIED

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_diffbench.stages import Run

STAGES = ("executability", "speed", "quality")
ATTEMPT_FIXTURE = "diffbench_attempt"


class Handle:
    """What a test gets for a stage: the evidence's fields, such as `speed.speedup` or `quality.loss`."""

    def __init__(self, stage: str, run: Run) -> None:
        self._stage = stage
        self._run = run

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        evidence = getattr(self._run, self._stage)
        if evidence is None:
            raise AttributeError(f"the stage {self._stage} has not run yet, so it has no {name!r}")
        return getattr(evidence, name)

    def __repr__(self) -> str:
        return f"<{self._stage}: {getattr(self._run, self._stage)}>"


@pytest.fixture
def diffbench_attempt(request: pytest.FixtureRequest) -> str:
    """Which of several answers to a task this is; '' for the only one."""
    return str(getattr(request, "param", ""))


@pytest.fixture
def executability(request: pytest.FixtureRequest, diffbench_attempt: str) -> Generator[Handle, None, None]:
    """The solution parses, keeps the contract, has the demanded attributes, loads and answers."""
    item = request.node
    if DEMAND not in item.stash:
        raise pytest.UsageError(
            f"{item.nodeid} uses a stage of diffbench, but is no task: add @pytest.mark.diffbench(Task(...))"
        )
    session = request.config.stash[SESSION]
    item.stash[RUN] = session.prepare(item, item.stash[DEMAND], diffbench_attempt)
    yield Handle("executability", item.stash[RUN])
    item.stash[TRIED].close()


@pytest.fixture
def speed(request: pytest.FixtureRequest, executability: Handle) -> Handle:  # noqa: ARG001 (its stage comes first)
    """The solution is timed against the baseline, and reaches what the markers demand."""
    return Handle("speed", request.node.stash[RUN])


@pytest.fixture
def quality(request: pytest.FixtureRequest, speed: Handle) -> Handle:  # noqa: ARG001 (it judges the timed images)
    """The timed images are judged, and lose no more than allowed."""
    return Handle("quality", request.node.stash[RUN])


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """In place of a test whose verdict is known: nothing is measured, and its body does not run."""
    known = pyfuncitem.stash[TRIED].known if TRIED in pyfuncitem.stash else None
    if known is None:
        return None
    if known.cause is not None:
        # imported here: a project without tasks never comes this far
        from pytest_diffbench.errors import SolutionFault

        raise SolutionFault(known.cause, known.line, known.detail)
    return True


def run_stages(item: pytest.Function) -> None:
    """Run the stages whose fixtures a task uses, directly or through another; none where its verdict is known."""
    if RUN in item.stash and item.stash[TRIED].known is None:
        # imported here: a project without tasks never comes this far
        from pytest_diffbench.records import Stage

        used = [stage for stage in Stage if stage in item.funcargs]
        session, following = item.config.stash[SESSION], item.stash[NEXT_ITEM]
        next_model = session.model_folder(following.stash[DEMAND]) if following is not None else None
        item.stash[RUN].through(used, next_model=next_model)
        item.stash[BODY] = True
