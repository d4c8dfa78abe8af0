"""`--diffbench-null`: in place of any task, the baseline timed against itself on each kind of device."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Final

import pytest

from pytest_diffbench import clock, noise, providers
from pytest_diffbench.demand import Markers, resolve
from pytest_diffbench.devices import watch
from pytest_diffbench.plugin.keys import NULL
from pytest_diffbench.requests import sources
from pytest_diffbench.task import Task
from pytest_diffbench.zoo import supply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_diffbench.devices import Device
    from pytest_diffbench.isolation import Sandbox
    from pytest_diffbench.noise import Noise
    from pytest_diffbench.plugin.session import Session
    from pytest_diffbench.requests import Requests

MODEL: Final = "sd15"


class NullItem(pytest.Item):
    """One A/A run; it fails where the machine is not fit to time on."""

    def __init__(self, *, session_state: Session, device: Device, **more: object) -> None:
        super().__init__(**more)  # type: ignore[arg-type]
        self._state = session_state
        self._device = device

    def runtest(self) -> None:
        """Measure, keep, judge."""
        found = measure(self._state, self._device)
        self.user_properties.append((NULL, found.describe()))
        try:
            noise.store(found)
        except OSError as error:
            pytest.fail(f"measured, but not kept for later runs: {error}: set XDG_CACHE_HOME", pytrace=False)
        if found.problem:
            pytest.fail(f"not fit to time on: {found.problem}", pytrace=False)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where it stands: nowhere."""
        return self.path, None, self.name


def items(session: pytest.Session, state: Session) -> list[pytest.Item]:
    """One run for each kind of device: the cores of one machine are alike."""
    kinds = {(device.kind, device.model): device for device in reversed(state.devices)}
    return [
        NullItem.from_parent(session, name=name, nodeid=name, session_state=state, device=device)
        for device in kinds.values()
        for name in [f"{NULL}[{device.name}]"]
    ]


def measure(state: Session, device: Device) -> Noise:
    """An A/A run of the tiny zoo's baseline, in two processes, by the same clock as any task."""
    demand = resolve(
        Task(MODEL),
        Markers(),
        task_id=NULL,
        summary="",
        folder=state.config.rootpath,
        known_models=state.models,
        known_methods=state.methods,
    )
    weights = supply.tiny(demand.model, image_to_image=demand.task.strength is not None)
    source, draw = providers.baseline_source(demand), sources(demand, weights, f"{state.seed} {NULL}")

    def loaded() -> contextlib.AbstractContextManager[Sandbox]:
        return _loaded(state, source, weights, device, draw("first"))

    with state.bench.only(device), loaded() as one, loaded() as other:
        trial = clock.Trial(
            one, other, timeout_s=state.settings.call_timeout_s, watch=watch(device, (one.pid, other.pid))
        )
        trial.warm_up(draw("warm-up").batch)
        trial.extend(noise.PAIRS, draw("pairs").batch, draw("again").batch)
    return noise.analyse([math.log(pair.ratio) for pair in trial.pairs], device)


@contextlib.contextmanager
def _loaded(
    state: Session, source: str, weights: supply.Weights, device: Device, requests: Requests
) -> Iterator[Sandbox]:
    settings, model = state.settings, str(weights.path)
    with state.bench.standby.start(device, model) as sandbox:
        sandbox.wait_ready()
        sandbox.load(source, model=model, device=device.torch_device, timeout_s=settings.load_timeout_s)
        sandbox.generate(requests.batch(), timeout_s=settings.call_timeout_s)
        yield sandbox
