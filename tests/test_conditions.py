"""What a watch sees of a GPU, and which of it makes two calls incomparable; the driver is a stand-in, time stands."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pynvml
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_diffbench.devices import Conditions, CoreWatch, Device, conditions, obstacle, watch
from pytest_diffbench.devices.conditions import IDLE_WAIT_S, GpuWatch

if TYPE_CHECKING:
    from collections.abc import Callable

GPU = Device("cuda", "GPU-aaaa-1", "a card")
OURS = (101, 102)
IDLE_BIT, CAP_BIT, HOT_BIT = 1, 4, 32
"""As NVML has them: nothing to do, power cap, too hot."""
QUESTIONS = (
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetComputeRunningProcesses",
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetTotalEnergyConsumption",
)
WELL = Conditions()


@dataclass
class Card:
    """A card as its driver sees it, and what of it the driver will not tell."""

    load: list[int] = field(default_factory=lambda: [0])
    """Utilisation from look to look; the last one stays."""
    processes: dict[int, int | None] = field(default_factory=lambda: dict.fromkeys(OURS, 1000))
    """Bytes by process id."""
    reasons: int = 0
    energy_mj: int = 0
    refused: set[str] = field(default_factory=set)
    found: list[object] = field(default_factory=list)
    """What cards were looked up by."""
    now_s: float = 0.0
    """The clock: only sleeping lets it go on."""

    def sleep(self, seconds: float) -> None:
        """Nothing else happens meanwhile."""
        self.now_s += seconds

    def next_load(self) -> int:
        """The utilisation at this look."""
        return self.load.pop(0) if len(self.load) > 1 else self.load[0]


def _driver(card: Card) -> types.ModuleType:
    """What the watch uses of pynvml, answered for this card."""
    error = type("NVMLError", (Exception,), {})

    def find(by: object) -> str:
        card.found.append(by)
        return "the card"

    answers: dict[str, Callable[[], object]] = {
        "nvmlDeviceGetUtilizationRates": lambda: SimpleNamespace(gpu=card.next_load()),
        "nvmlDeviceGetComputeRunningProcesses": lambda: [
            SimpleNamespace(pid=pid, usedGpuMemory=held) for pid, held in card.processes.items()
        ],
        "nvmlDeviceGetCurrentClocksEventReasons": lambda: card.reasons,
        "nvmlDeviceGetTotalEnergyConsumption": lambda: card.energy_mj,
    }

    def question(name: str) -> object:
        def ask(handle: str) -> object:
            assert handle == "the card"
            if name in card.refused:
                raise error(name)
            return answers[name]()

        return ask

    known = {
        "NVMLError": error,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByIndex": find,
        "nvmlDeviceGetHandleByUUID": find,
        "nvmlClocksEventReasonGpuIdle": IDLE_BIT,
        **{name: question(name) for name in QUESTIONS},
    }
    driver = types.ModuleType("pynvml")
    vars(driver).update(known)
    return driver


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    """A card at rest that our two processes hold memory of; a stand-in, for no test may count on hardware."""
    made = Card()
    monkeypatch.setitem(sys.modules, "pynvml", _driver(made))
    monkeypatch.setattr(conditions, "time", SimpleNamespace(monotonic=lambda: made.now_s, sleep=made.sleep))
    return made


def test_the_stand_in_is_no_invention() -> None:
    """Every name that the stand-in offers is one of NVML's own binding, the idle bit included."""
    offered = {name: value for name, value in vars(_driver(Card())).items() if not name.startswith("__")}

    assert [name for name in offered if not hasattr(pynvml, name)] == []
    assert offered["nvmlClocksEventReasonGpuIdle"] == pynvml.nvmlClocksEventReasonGpuIdle


@pytest.mark.parametrize(("index", "by"), [("GPU-aaaa-1", "GPU-aaaa-1"), ("MIG-c", "MIG-c"), ("1", 1)])
def test_a_card_is_found_by_what_the_device_is_called(index: str, by: object, card: Card) -> None:
    """A UUID or a slice's id as it is, a position as a number."""
    GpuWatch(Device("cuda", index, "a card"), OURS)

    assert card.found == [by]


def test_a_card_at_rest_is_well(card: Card) -> None:
    """Idle, ours alone, at full clock: nothing speaks against a call, and nobody waits."""
    looks = GpuWatch(GPU, OURS)
    card.energy_mj = 7

    assert looks.before() == looks.after() == Conditions(energy_mj=7)
    assert card.now_s == 0


def test_a_call_waits_until_the_card_is_idle(card: Card) -> None:
    """What still runs may end first: no longer than that, and the look says that it is idle."""
    card.load = [90, 40, 5, 0]
    looks = GpuWatch(GPU, OURS)

    assert looks.before().idle
    assert 0 < card.now_s < IDLE_WAIT_S / 2


def test_waiting_for_an_idle_card_has_an_end(card: Card) -> None:
    """A card that never rests is looked at anyway, after three seconds, and the look says that it is busy."""
    card.load = [3]
    looks = GpuWatch(GPU, OURS)

    assert not looks.before().idle
    assert IDLE_WAIT_S <= card.now_s < IDLE_WAIT_S + 0.5


def test_the_look_after_a_call_waits_for_nothing(card: Card) -> None:
    """Right after a call its own kernels are still counted: utilisation is no news then."""
    card.load = [100]

    assert GpuWatch(GPU, OURS).after().idle
    assert card.now_s == 0


FOREIGN: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
    "ours alone": (OURS, (101, 102), ()),
    "one of ours": (OURS, (102,), ()),
    "nobody": (OURS, (), ()),
    "a stranger": (OURS, (101, 999, 102), (999,)),
    "a stranger before ours started": (OURS, (7, 101), (7,)),
    "two strangers": (OURS, (999, 101, 102, 8), (8, 999)),
    "container: two that may be ours": (OURS, (70001, 70002), ()),
    "container: one too many": (OURS, (70001, 70003, 70002), (70003,)),
    "nothing is ours": ((), (5,), (5,)),
}


@pytest.mark.parametrize(("ours", "seen", "foreign"), FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("when", ["before", "after"])
def test_foreign_processes_are_those_that_are_not_ours(
    when: str, ours: tuple[int, ...], seen: tuple[int, ...], foreign: tuple[int, ...], card: Card
) -> None:
    """By process id; in a container, where no id is one of ours, as many as we have started are taken for ours."""
    card.processes = dict.fromkeys(seen, 1000)
    looks = GpuWatch(GPU, ours)

    assert (looks.before() if when == "before" else looks.after()).foreign_processes == foreign


def test_who_is_ours_is_read_anew_at_each_look(card: Card) -> None:
    """A process that we start later is no stranger, and one that has ended is one again."""
    ours = [101]
    looks = GpuWatch(GPU, ours)
    found = [looks.after().foreign_processes]
    ours.append(102)
    found.append(looks.after().foreign_processes)
    ours.remove(101)
    found.append(looks.after().foreign_processes)

    assert found == [(102,), (), (101,)]


@pytest.mark.parametrize(
    ("reasons", "found"),
    [(0, 0), (IDLE_BIT, 0), (CAP_BIT, CAP_BIT), (IDLE_BIT | CAP_BIT | HOT_BIT, CAP_BIT | HOT_BIT)],
)
def test_idleness_is_no_reason_to_call_a_clock_throttled(reasons: int, found: int, card: Card) -> None:
    """A low clock for want of work says nothing; every other reason is kept, bit for bit."""
    card.reasons = reasons

    assert GpuWatch(GPU, OURS).after().throttle_reasons == found


def test_the_energy_counter_is_read_at_each_look(card: Card) -> None:
    """In millijoules, as the card counts them."""
    looks = GpuWatch(GPU, OURS)
    card.energy_mj = 1_000_000
    before = looks.before().energy_mj
    card.energy_mj = 1_002_500

    assert (before, looks.after().energy_mj) == (1_000_000, 1_002_500)


@pytest.mark.parametrize("refused", [{name} for name in QUESTIONS] + [set(QUESTIONS)], ids=[*QUESTIONS, "everything"])
def test_what_may_not_be_asked_is_taken_as_well(refused: set[str], card: Card) -> None:
    """A card of which everything is bad, but one answer is refused: that one is as of a card at rest, and no error."""
    card.load, card.processes, card.reasons, card.energy_mj = [50], {999: 1, **dict.fromkeys(OURS, 1)}, HOT_BIT, 5
    bad = Conditions(idle=False, foreign_processes=(999,), throttle_reasons=HOT_BIT, energy_mj=5)
    assert GpuWatch(GPU, OURS).before() == bad
    card.refused = refused

    utilisation, processes, reasons, energy = (name in refused for name in QUESTIONS)
    assert GpuWatch(GPU, OURS).before() == Conditions(
        idle=utilisation,
        foreign_processes=() if processes else (999,),
        throttle_reasons=0 if reasons else HOT_BIT,
        energy_mj=None if energy else 5,
    )


def test_memory_is_what_the_driver_books_for_the_process(card: Card) -> None:
    """By process id; None where it is not listed, where the driver does not say, and where it may not be asked."""
    card.processes = {101: 3000, 102: None}
    looks = GpuWatch(GPU, OURS)
    found = [looks.memory_bytes(pid) for pid in (101, 102, 103)]
    card.refused = {"nvmlDeviceGetComputeRunningProcesses"}

    assert [*found, looks.memory_bytes(101)] == [3000, None, None, None]


def test_each_kind_of_device_has_its_watch(card: Card) -> None:
    """A GPU is asked through its driver; a core has nothing to be asked, so all is well on it."""
    core = watch(Device("cpu", "3", "a processor"), OURS)

    assert isinstance(watch(GPU, OURS), GpuWatch)
    assert isinstance(core, CoreWatch)
    assert (core.before(), core.after(), core.memory_bytes(101)) == (WELL, WELL, None)
    assert card.found == ["GPU-aaaa-1"]


# -- what makes calls incomparable ------------------------------------------------------------------------------------

BUSY, INTRUDED = Conditions(idle=False), Conditions(foreign_processes=(7,))
CAPPED, HOT = Conditions(throttle_reasons=CAP_BIT), Conditions(throttle_reasons=HOT_BIT)
OBSTACLES: dict[str, tuple[list[Conditions], list[Conditions], str]] = {
    "well": ([WELL, WELL], [WELL, WELL], ""),
    "busy before one": ([WELL, BUSY], [WELL, WELL], "device not idle"),
    "busy before both": ([BUSY, BUSY], [WELL, WELL], "device not idle"),
    "busy after, with the call itself": ([WELL, WELL], [BUSY, BUSY], ""),
    "intruded before": ([INTRUDED, WELL], [WELL, WELL], "foreign process on the device"),
    "intruded after": ([WELL, WELL], [WELL, INTRUDED], "foreign process on the device"),
    "intruded all the time": ([INTRUDED] * 2, [INTRUDED] * 2, "foreign process on the device"),
    "one throttled": ([WELL, WELL], [CAPPED, WELL], "clock throttled for one side only"),
    "throttled otherwise": ([WELL, WELL], [CAPPED, HOT], "clock throttled for one side only"),
    "both throttled": ([WELL, WELL], [CAPPED, CAPPED], ""),
    "throttled before only": ([CAPPED, WELL], [WELL, WELL], ""),
}


@pytest.mark.parametrize(("before", "after", "cause"), OBSTACLES.values(), ids=OBSTACLES)
def test_an_obstacle_is_what_two_calls_do_not_share(
    before: list[Conditions], after: list[Conditions], cause: str
) -> None:
    """Work before a call, a stranger at any look, a clock held down for one side: named; nothing else is."""
    assert obstacle(before, after) == cause
    assert obstacle(before[::-1], after[::-1]) == cause


@given(st.lists(st.integers(0, 10**12), min_size=4, max_size=4), st.integers(0, 2**16))
@settings(deadline=None)
def test_energy_and_what_holds_for_both_are_no_obstacle(energies_mj: list[int], reasons: int) -> None:
    """However much was spent, and whatever holds the clock down throughout, the two calls compare."""
    looks = [Conditions(throttle_reasons=reasons, energy_mj=energy_mj) for energy_mj in energies_mj]

    assert obstacle(looks[:2], looks[2:]) == ""
