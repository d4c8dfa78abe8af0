"""The units of work that a task draws: fresh, in range, of the size that the zoo can paint."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_diffbench import Task, methods
from pytest_diffbench.demand import Demand, Markers, resolve
from pytest_diffbench.requests import MAX_SEED, Requests
from pytest_diffbench.zoo import models
from pytest_diffbench.zoo.drawings import Scene, stated
from pytest_diffbench.zoo.models import Weights

if TYPE_CHECKING:
    from collections.abc import Sequence


def _demand(task: Task) -> Demand:
    return resolve(
        task,
        Markers(),
        task_id="test_it",
        summary="Do it.",
        folder=Path(),
        known_models={model.name: model for model in models.BUILT_IN},
        known_methods={method.name: method for method in methods.BUILT_IN},
    )


def _weights(*, scale: float = 0.125, lines: Sequence[str] = ()) -> Weights:
    """Weights with the tiny zoo's prompts, or with a user's own lines."""
    prompts = models._drawn_captions if not lines else lambda rng, count: models._shuffled(lines, rng, count)
    return Weights(Path("model"), "r1", Path("scorer"), prompts, scale=scale)


def test_no_prompt_comes_twice() -> None:
    """As many requests as a task of ten pairs needs, each with a prompt of its own."""
    requests = Requests(_demand(Task("sd15", batch=10)), _weights(), random.Random(1))

    prompts = [request.prompt for _ in range(12) for request in requests.batch()]
    assert len(set(prompts)) == len(prompts) == 120


def test_every_prompt_of_ones_own_comes_once_before_any_comes_again() -> None:
    """A user's twelve lines are all used by the first twelve requests, in an order of chance."""
    lines = [f"prompt {number}" for number in range(12)]
    requests = Requests(_demand(Task("sd15", batch=12)), _weights(lines=lines), random.Random(2))

    prompts = [request.prompt or "" for request in requests.batch()]
    assert sorted(prompts) == sorted(lines)
    assert prompts != lines


def test_the_tiny_zoos_prompts_were_never_trained_on() -> None:
    """Every prompt is the whole caption of a held-out scene."""
    requests = Requests(_demand(Task("sd15", batch=20)), _weights(), random.Random(3))

    scenes = [Scene(**stated(request.prompt or "")) for request in requests.batch()]
    assert [scene for scene in scenes if not scene.held_out] == []


def test_seeds_are_spread_over_what_torch_takes() -> None:
    """Seeds lie in range, differ, and are not all small."""
    requests = Requests(_demand(Task("sd15", batch=50)), _weights(), random.Random(4))

    seeds = [request.seed for request in requests.batch()]
    assert all(0 <= seed <= MAX_SEED == 2**32 - 1 for seed in seeds)
    assert len(set(seeds)) == 50
    assert min(seeds) < MAX_SEED / 4 < 3 * MAX_SEED / 4 < max(seeds)


@pytest.mark.parametrize(("scale", "side"), [(0.125, 64), (1.0, 512), (0.5, 256)])
def test_the_size_is_the_zoos(scale: float, side: int) -> None:
    """A task states the real model's size; the request asks for the share of it that the weights paint."""
    requests = Requests(_demand(Task("sd15", size=512)), _weights(scale=scale), random.Random(5))

    (request,) = requests.batch()
    assert (request.height, request.width) == (side, side)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_as_many_requests_travel_together_as_the_task_says(batch: int) -> None:
    """A batch is of the task's own size, and another one follows it."""
    requests = Requests(_demand(Task("sd15", batch=batch)), _weights(), random.Random(6))

    assert [len(requests.batch()), len(requests.batch())] == [batch, batch]


def test_a_request_says_how_the_model_is_run_today() -> None:
    """Steps and guidance are the task's, also where guidance is zero; what does not apply is None."""
    requests = Requests(_demand(Task("sd15", steps=30, guidance=0)), _weights(), random.Random(7))

    (request,) = requests.batch()
    assert (request.num_inference_steps, request.guidance_scale) == (30, 0)
    assert (request.negative_prompt, request.class_label, request.strength, request.image) == (None,) * 4


def test_a_request_can_be_made_for_a_given_prompt() -> None:
    """A prompt and seed of the caller's, all else as in the task."""
    requests = Requests(_demand(Task("sd15", size=256, steps=20)), _weights(), random.Random(8))

    request = requests.with_prompt("", 7)
    assert (request.prompt, request.seed, request.height, request.num_inference_steps) == ("", 7, 32, 20)


def test_equal_chance_gives_equal_requests() -> None:
    """With a chance of one's own a run can be repeated; another chance gives other requests."""
    demand, weights = _demand(Task("sd15", batch=3)), _weights()
    drawn = [Requests(demand, weights, random.Random(seed)).batch() for seed in (9, 9, 10)]

    assert drawn[0] == drawn[1] != drawn[2]


def test_without_a_chance_of_ones_own_nobody_can_know_the_requests() -> None:
    """By default two sources share nothing: prompts and seeds come from the system's own chance."""
    demand, weights = _demand(Task("sd15", batch=3)), _weights()

    assert Requests(demand, weights).batch() != Requests(demand, weights).batch()
    assert Requests(demand, weights).entropy() != Requests(demand, weights).entropy()
