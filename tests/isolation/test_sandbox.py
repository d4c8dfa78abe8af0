"""A process that behaves: what goes in, what comes out, how it is timed, stopped, moved and ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest
from PIL import Image

from pytest_diffbench.errors import SetupError, SolutionFault
from pytest_diffbench.isolation import Policy, Sandbox, Tier
from pytest_diffbench.wire import Record, Request
from tests.isolation.conftest import LIGHT, policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

TIMEOUT_S: Final = 60.0
SLEPT_S: Final = 0.2

WELL_BEHAVED: Final = f"""
import dataclasses, json, threading, time
import numpy as np
from PIL import Image

def load(model, device):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    return (model, device)

def generate(pipeline, requests):
    return globals()[requests[0].prompt](requests)

def noise(request):
    shape = (request.height, request.width, 3)
    return np.random.default_rng(request.seed).integers(0, 256, shape, dtype=np.uint8)

def arrays(requests):
    return [noise(request) for request in requests]

def pictures(requests):
    return [Image.fromarray(noise(request)) for request in requests]

def views(requests):
    return [np.asfortranarray(noise(request)) for request in requests]

def stack(requests):
    return np.stack([noise(request) for request in requests])

def one_by_one(requests):
    yield from arrays(requests)

def inputs(requests):
    return [request.image for request in requests]

def slowly(requests):
    time.sleep({SLEPT_S})
    return arrays(requests)

def slowly_with_stopped_clocks(requests):
    names = ("perf_counter", "monotonic", "time", "perf_counter_ns", "monotonic_ns", "time_ns")
    clocks = {{name: getattr(time, name) for name in names}}
    for name in names:
        setattr(time, name, lambda: 0)
    try:
        return slowly(requests)
    finally:
        for name, clock in clocks.items():
            setattr(time, name, clock)

def loudly(requests):
    print("said and flushed", flush=True)
    return arrays(requests)

def softly(requests):
    print("said and left in a buffer")
    return arrays(requests)

def fields(requests):
    print("fields", json.dumps(dataclasses.asdict(requests[0])), flush=True)
    return arrays(requests)

def annotated(value: 1 + 1):
    pass

def annotations(requests):
    print("annotation", repr(annotated.__annotations__["value"]), flush=True)
    return arrays(requests)
"""


def _request(behaviour: str, *, seed: int = 7, height: int = 24, width: int = 16) -> Request:
    return Request(prompt=behaviour, seed=seed, height=height, width=width, num_inference_steps=1)


def _noise(request: Request) -> NDArray[np.uint8]:
    shape = (request.height, request.width, 3)
    return np.random.default_rng(request.seed).integers(0, 256, shape, dtype=np.uint8)


def _eventually(happens: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not happens():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _threads(pid: int) -> list[int]:
    return [int(thread.name) for thread in Path(f"/proc/{pid}/task").iterdir()]


def _states(pid: int) -> set[str]:
    stats = [Path(f"/proc/{pid}/task/{thread}/stat").read_text() for thread in _threads(pid)]
    return {stat.rpartition(")")[2].split()[0] for stat in stats}


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture(scope="module")
def loaded(another: Callable[[], Sandbox]) -> Iterator[Sandbox]:
    """One process for every test that leaves it as it was."""
    with another() as sandbox:
        sandbox.load(WELL_BEHAVED, model="a-model", device="cpu", timeout_s=TIMEOUT_S)
        yield sandbox


# -- images and requests -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("behaviour", ["arrays", "pictures", "views", "one_by_one"])
def test_images_come_back_exactly_as_they_were_made(loaded: Sandbox, behaviour: str) -> None:
    """Arrays, PIL images, views and iterators arrive pixel for pixel, in order, each in its own size."""
    sizes = [(24, 16), (16, 40), (9, 7)]
    requests = [_request(behaviour, seed=i, height=height, width=width) for i, (height, width) in enumerate(sizes)]

    images = loaded.generate(requests, timeout_s=TIMEOUT_S).images

    assert [image.shape for image in images] == [(height, width, 3) for height, width in sizes]
    assert all(np.array_equal(image, _noise(request)) for image, request in zip(images, requests, strict=True))


def test_one_array_of_a_whole_batch_is_a_list_of_images(loaded: Sandbox) -> None:
    """A (batch, height, width, 3) array counts as its images."""
    requests = [_request("stack", seed=seed) for seed in range(3)]

    images = loaded.generate(requests, timeout_s=TIMEOUT_S).images

    assert all(np.array_equal(image, _noise(request)) for image, request in zip(images, requests, strict=True))


def test_images_larger_than_the_socket_buffer_arrive(loaded: Sandbox) -> None:
    """An answer of some 13 MB comes through whole."""
    request = _request("arrays", height=2048, width=2176)

    (image,) = loaded.generate([request], timeout_s=TIMEOUT_S).images

    assert np.array_equal(image, _noise(request))


def test_earlier_images_are_not_overwritten(loaded: Sandbox) -> None:
    """Each reply owns its pixels: the judge looks at them long after the next request."""
    first, second = _request("arrays", seed=1), _request("arrays", seed=2)

    (kept,) = loaded.generate([first], timeout_s=TIMEOUT_S).images
    loaded.generate([second], timeout_s=TIMEOUT_S)

    assert np.array_equal(kept, _noise(first))


def test_the_input_image_arrives(loaded: Sandbox) -> None:
    """`Request.image` is the picture that was sent; each request of a batch gets its own."""
    sources = [_noise(_request("", seed=seed, height=10 + seed, width=30)) for seed in range(3)]
    requests = [
        Request(prompt="inputs", seed=0, height=10 + i, width=30, num_inference_steps=1, image=Image.fromarray(source))
        for i, source in enumerate(sources)
    ]

    images = loaded.generate(requests, timeout_s=TIMEOUT_S).images

    assert all(np.array_equal(image, source) for image, source in zip(images, sources, strict=True))


def test_an_input_image_of_another_mode_arrives_as_rgb(loaded: Sandbox) -> None:
    """A grayscale input is an RGB picture on the other side."""
    gray = Image.fromarray(_noise(_request(""))[:, :, 0])
    request = Request(prompt="inputs", seed=0, height=24, width=16, num_inference_steps=1, image=gray)

    (image,) = loaded.generate([request], timeout_s=TIMEOUT_S).images

    assert np.array_equal(image, np.asarray(gray.convert("RGB")))


def test_every_field_of_a_request_arrives(loaded: Sandbox) -> None:
    """What is set arrives unchanged, what is None stays None."""
    request = Request(
        prompt="fields",
        seed=2**63 - 1,
        height=8,
        width=8,
        num_inference_steps=50,
        guidance_scale=7.5,
        negative_prompt='schlecht, "bad", плохо, 悪い 🙂\n',
        class_label=3,
    )

    loaded.generate([request], timeout_s=TIMEOUT_S)

    assert _eventually(lambda: "fields {" in loaded.output_tail())
    said = [line for line in loaded.output_tail().splitlines() if line.startswith("fields ")][-1]
    assert json.loads(said.removeprefix("fields ")) == asdict(request)


def test_a_solution_is_compiled_as_a_file_of_its_own(loaded: Sandbox) -> None:
    """None of our own `__future__` imports reaches a solution: its annotations are values, not strings."""
    loaded.generate([_request("annotations")], timeout_s=TIMEOUT_S)

    assert _eventually(lambda: "annotation " in loaded.output_tail())
    assert "annotation 2" in loaded.output_tail()


# -- time --------------------------------------------------------------------------------------------------------------


def test_the_time_holds_what_generate_took(loaded: Sandbox) -> None:
    """A solution that sleeps is at least as slow as its sleep."""
    reply = loaded.generate([_request("slowly")], timeout_s=TIMEOUT_S)

    assert reply.elapsed_s >= SLEPT_S


def test_clocks_stopped_inside_the_process_change_nothing(loaded: Sandbox) -> None:
    """The clock is the parent's; a solution that patches its own clocks gains nothing."""
    reply = loaded.generate([_request("slowly_with_stopped_clocks")], timeout_s=TIMEOUT_S)

    assert reply.elapsed_s >= SLEPT_S


def test_load_tells_how_long_it_took(sandbox: Sandbox) -> None:
    """The seconds of `load` hold at least what its solution slept, import time included."""
    source = f"import time\ntime.sleep({SLEPT_S})\n{WELL_BEHAVED}".replace(
        "def load(model, device):", f"def load(model, device):\n    time.sleep({SLEPT_S})"
    )

    load_s = sandbox.load(source, model="", device="cpu", timeout_s=TIMEOUT_S)

    assert load_s >= 2 * SLEPT_S


# -- stopping and moving -----------------------------------------------------------------------------------------------


def test_pause_stops_every_thread(loaded: Sandbox) -> None:
    """After `pause` no thread of the process runs."""
    loaded.pause()
    try:
        stopped = _eventually(lambda: _states(loaded.pid) == {"T"})
    finally:
        loaded.resume()

    assert stopped


def test_a_resumed_process_answers(loaded: Sandbox) -> None:
    """After `pause` and `resume` the next request is answered as if nothing had been."""
    request = _request("arrays", seed=11)
    loaded.pause()
    assert _eventually(lambda: _states(loaded.pid) == {"T"})
    loaded.resume()

    (image,) = loaded.generate([request], timeout_s=TIMEOUT_S).images

    assert np.array_equal(image, _noise(request))


def test_a_paused_process_does_not_answer(sandbox: Sandbox) -> None:
    """A request to a stopped process runs into its time limit, and the stopped process is killed all the same."""
    sandbox.load(WELL_BEHAVED, model="", device="cpu", timeout_s=TIMEOUT_S)
    sandbox.pause()

    with pytest.raises(SolutionFault, match=r"did not finish within 0\.5 s"):
        sandbox.generate([_request("arrays")], timeout_s=0.5)

    assert not Path(f"/proc/{sandbox.pid}").exists()


def test_pin_moves_every_thread(loaded: Sandbox) -> None:
    """All threads run on the given cores only, those that the solution started among them."""
    core = max(os.sched_getaffinity(0))
    loaded.pin((core,))
    try:
        affinities = [os.sched_getaffinity(thread) for thread in _threads(loaded.pid)]
    finally:
        loaded.pin(())

    assert len(affinities) >= 2
    assert affinities == [{core}] * len(affinities)


def test_pin_to_no_core_gives_all_of_the_parents(loaded: Sandbox) -> None:
    """Without cores a process may run wherever its parent may."""
    loaded.pin((min(os.sched_getaffinity(0)),))

    loaded.pin(())

    assert {frozenset(os.sched_getaffinity(thread)) for thread in _threads(loaded.pid)} == {
        frozenset(os.sched_getaffinity(0))
    }


# -- what can be seen --------------------------------------------------------------------------------------------------


def test_peak_memory_is_seen(loaded: Sandbox) -> None:
    """The peak is at least what the process holds now, which includes torch."""
    pages = int(Path(f"/proc/{loaded.pid}/statm").read_text().split()[1])

    assert loaded.peak_memory_bytes() >= pages * os.sysconf("SC_PAGE_SIZE") > 0


def test_what_was_printed_is_kept(loaded: Sandbox) -> None:
    """The tail of the output holds what a solution printed."""
    loaded.generate([_request("loudly")], timeout_s=TIMEOUT_S)

    assert _eventually(lambda: "said and flushed" in loaded.output_tail())


def test_what_was_printed_needs_no_flush(loaded: Sandbox) -> None:
    """A solution's plain `print` is seen while it lives: killed processes flush nothing."""
    loaded.generate([_request("softly")], timeout_s=TIMEOUT_S)

    assert _eventually(lambda: "said and left in a buffer" in loaded.output_tail())


def test_code_that_cannot_be_observed_describes_nothing(loaded: Sandbox) -> None:
    """A pipeline that is none of diffusers' own gives an empty record, not a fault."""
    assert loaded.describe(timeout_s=TIMEOUT_S) == Record()


def test_a_diffusers_pipeline_describes_itself(sandbox: Sandbox) -> None:
    """Classes, dtype and steps are read from the running pipeline, also from inside a wrapper."""
    source = """
import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

def load(model, device):
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "block_out_channels": (8,)}
    unet = UNet2DModel(sample_size=8, layers_per_block=1, norm_num_groups=4, **blocks).to(torch.bfloat16)
    pipeline = DDIMPipeline(unet=unet, scheduler=DDIMScheduler())
    pipeline.scheduler.set_timesteps(13)
    return {"wrapped": pipeline}

def generate(pipeline, requests):
    return []
"""
    sandbox.load(source, model="", device="cpu", timeout_s=TIMEOUT_S)

    record = sandbox.describe(timeout_s=TIMEOUT_S)

    assert record == Record("DDIMPipeline", "DDIMScheduler", "bfloat16", 13)


# -- beginning and end -------------------------------------------------------------------------------------------------


def test_a_process_is_gone_after_close() -> None:
    """`close` leaves nothing behind, not even a process that waits to be reaped."""
    sandbox = Sandbox(policy(), prepared=LIGHT)
    assert Path(f"/proc/{sandbox.pid}").exists()

    sandbox.close()

    assert not Path(f"/proc/{sandbox.pid}").exists()


def test_close_twice_is_fine() -> None:
    """A second `close` does nothing: the id may be another process's by then."""
    sandbox = Sandbox(policy(), prepared=LIGHT)
    sandbox.close()

    sandbox.close()

    assert not Path(f"/proc/{sandbox.pid}").exists()


def test_leaving_a_with_block_ends_the_process() -> None:
    """A sandbox is a context manager; an error inside ends the process as well."""
    with contextlib.suppress(RuntimeError), Sandbox(policy(), prepared=LIGHT) as sandbox:
        pid = sandbox.pid
        raise RuntimeError

    assert not Path(f"/proc/{pid}").exists()


def test_close_leaves_no_descriptor_open() -> None:
    """A session of hundreds of candidates does not run out of file descriptors."""
    before = _open_descriptors()

    with Sandbox(policy(), prepared=LIGHT):
        pass

    assert _eventually(lambda: _open_descriptors() <= before)


def test_a_process_that_cannot_start_leaves_no_descriptor_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that is not there is a SetupError that says so, and costs no file descriptor."""
    kept_in = policy()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    before = _open_descriptors()

    for tried in (kept_in, Policy(Tier.NONE)):  # with a program between us and it, and without
        with (
            pytest.raises(SetupError, match=r"cannot start a candidate's process|process did not start"),
            Sandbox(tried, prepared=LIGHT) as sandbox,
        ):
            sandbox.wait_ready()

    assert _open_descriptors() <= before


def test_a_process_that_dies_while_starting_is_a_set_up_error() -> None:
    """What happens before a solution is loaded is never the solution's fault."""
    sandbox = Sandbox(policy(), prepared=LIGHT)
    os.kill(sandbox.pid, signal.SIGKILL)

    with pytest.raises(SetupError, match="did not start"):
        sandbox.wait_ready()

    assert not Path(f"/proc/{sandbox.pid}").exists()


def test_the_parents_environment_stays_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret of the parent's is not in a solution's environment; what is given on purpose is."""
    monkeypatch.setenv("DIFFBENCH_TEST_API_KEY", "secret-value")
    source = """
import os
raise ValueError(f"{os.environ.get('DIFFBENCH_TEST_API_KEY')} and {os.environ.get('DIFFBENCH_TEST_GIVEN')}")
"""

    with Sandbox(policy(), prepared=LIGHT, environment={"DIFFBENCH_TEST_GIVEN": "given-value"}) as sandbox:
        sandbox.wait_ready()
        with pytest.raises(SolutionFault) as caught:
            sandbox.load(source, model="", device="cpu", timeout_s=TIMEOUT_S)

    assert "ValueError: None and given-value" in caught.value.line


def test_a_killed_parent_takes_its_processes_along(ends: Callable[[int], bool]) -> None:
    """SIGKILL lets a parent tidy nothing up, and yet its processes vanish, stopped ones too."""
    script = """
import time
from pytest_diffbench.isolation import Sandbox, choose

policy = choose()
running, stopped = (Sandbox(policy, prepared=("numpy",)) for _ in range(2))
running.wait_ready()
stopped.wait_ready()
stopped.pause()
print(running.pid, stopped.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        try:
            children = [int(word) for word in parent.stdout.readline().split()]
        finally:
            parent.kill()
    try:
        ended = [ends(child) for child in children]
    finally:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    assert ended == [True, True]
