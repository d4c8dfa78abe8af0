"""What is known of the methods: complete, of one mind with the benchmark, and refused with a path where it is not."""

from __future__ import annotations

import inspect
import itertools
import shutil
from typing import TYPE_CHECKING

import pytest
from diffagent import methods as own_methods
from diffagent.catalogue import METHODS
from diffagent.knowledge import base, known
from diffagent.knowledge.base import HERE, KnowledgeError, read

from pytest_diffbench import methods
from pytest_diffbench.methods import SAMPLERS
from pytest_diffbench.zoo.models import FAMILIES

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_diffbench.zoo.models import Model

KNOWN = {method.name: method for method in (*methods.BUILT_IN, *METHODS)}
EVERY_ENTRY = pytest.mark.parametrize("name", known().entries)


IMPORTS = "{% macro imports(own) %}{% endmacro %}"


@EVERY_ENTRY
def test_every_method_is_one_that_tasks_can_demand(name: str) -> None:
    """The same name, and every parameter that a task can give but those that are no choice is known."""
    facts = known()[name].facts

    assert name in KNOWN
    assert set(KNOWN[name].parameters) <= set(facts.parameters)
    assert all(
        KNOWN[name].parameters[parameter](facts.parameters[parameter].default) for parameter in KNOWN[name].parameters
    )


def test_every_method_of_the_catalogue_is_known() -> None:
    """Whatever a task can demand has a folder; of samplers, those that save time."""
    assert set(KNOWN) <= set(known().entries) | {"pndm", "heun"}
    assert {method.name for method in METHODS} <= set(known().entries)


def test_the_catalogue_has_the_same_conflicts() -> None:
    """What a plan may not put together no task demands together, for the same reason."""
    for one, other in itertools.combinations(METHODS, 2):
        assert (one.conflicts.get(other.name) or other.conflicts.get(one.name)) == known().conflict(
            one.name, other.name
        )


@EVERY_ENTRY
@pytest.mark.parametrize("model", FAMILIES, ids=lambda model: model.name)
def test_it_is_for_the_models_that_the_benchmark_says(name: str, model: Model) -> None:
    """Denoisers and conditioning that a method names are those where tasks may demand it."""
    facts = known()[name].facts
    here = model.denoiser in facts.denoisers and model.conditioning in facts.conditioning

    assert here is (KNOWN[name].model_problem(model) is None)


@EVERY_ENTRY
def test_every_claim_has_a_source(name: str) -> None:
    """Gains and losses name their setting and who found them."""
    facts = known()[name].facts

    assert facts.source
    assert facts.gain
    assert facts.loss
    assert all(figure.setting and figure.source for figure in (*facts.gain, *facts.loss))


@pytest.mark.parametrize("name", [method.name for method in METHODS])
def test_parameters_are_the_functions_own(name: str) -> None:
    """What the knowledge base lets vary, the method itself takes."""
    assert set(known()[name].facts.parameters) <= set(inspect.signature(getattr(own_methods, name)).parameters)


@pytest.mark.parametrize("entry", known().of_kind("sampler"), ids=lambda entry: entry.name)
def test_a_sampler_names_the_class_that_the_benchmark_expects(entry: base.Entry) -> None:
    """The first that the static check accepts for that name."""
    assert entry.facts.scheduler == SAMPLERS[entry.name][0]


def test_conflicts_are_mutual() -> None:
    """It does not matter which of two is asked about."""
    names = list(known().entries)
    pairs = [(one, other) for one in names for other in names]

    assert all((known().conflict(*pair) is None) is (known().conflict(*reversed(pair)) is None) for pair in pairs)
    assert known().conflict("guidance_window", "tgate") is not None
    assert known().conflict("deepcache", "token_merging") is None


def test_half_precision_is_the_devices_own() -> None:
    """A CPU takes many times as long for float16."""
    assert known()["half_precision"].parameters({}, "cpu") == {"dtype": "bfloat16"}
    assert known()["half_precision"].parameters({}, "cuda") == {"dtype": "float16"}
    assert known()["half_precision"].parameters({"dtype": "bfloat16"}, "cuda") == {"dtype": "bfloat16"}


def test_a_folder_more_is_a_method_more(tmp_path: Path) -> None:
    """Nothing else has to change."""
    mine = _copy(tmp_path)
    shutil.copytree(mine / "deepcache", mine / "shallowcache")

    assert set(read(mine).entries) == {*known().entries, "shallowcache"}


def test_a_folder_of_ones_own_goes_beside_what_is_known(tmp_path: Path) -> None:
    """What it says of a known method goes first; what it adds may name methods that are known."""
    for name in ("deepcache", "shallowcache"):
        shutil.copytree(HERE / "deepcache", tmp_path / name)
    facts = tmp_path / "deepcache" / "method.toml"
    facts.write_text(facts.read_text().replace('title = "DeepCache"', 'title = "Mine"'))
    (tmp_path / "recipes.toml").write_text(
        '[[recipe]]\ndenoisers = ["unet"]\nsource = "mine"\n'
        'methods = [{ method = "shallowcache" }, { method = "unipc" }]\n'
    )
    found = read(tmp_path, known())

    assert set(found.entries) == {*known().entries, "shallowcache"}
    assert found["deepcache"].facts.title == "Mine"
    assert found.conflict("shallowcache", "block_reuse") is not None
    assert len(found.recipes) == len(known().recipes) + 1
    assert found.recipes[0].source == "mine"


def test_a_folder_that_is_none_is_said(tmp_path: Path) -> None:
    """With what it should hold."""
    with pytest.raises(KnowledgeError, match=r"is no folder: give one with a folder a method, each with method\.toml"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("method.toml", "title = ", "method.toml"),
        ("method.toml", None, "kind"),
        (
            "code.jinja",
            "{% macro imports(own) %}{{ own.nothing }}{% endmacro %}{% macro applied(own) %}{% endmacro %}",
            "nothing",
        ),
        ("code.jinja", "{% macro imports(own) %}", "code.jinja"),
        ("code.jinja", "{% macro imports(own) %}{% endmacro %}", "needs the macros imports, applied"),
        ("code.jinja", f"{IMPORTS}{{% macro applied(own) %}}{{{{ 1 // 0 }}}}{{% endmacro %}}", "ZeroDivisionError"),
        (
            "code.jinja",
            f"{IMPORTS}{{% macro applied(own) %}}f({{{{ x if own.interval > 4 }}}}){{% endmacro %}}",
            "'x' is undefined",
        ),
        ("code.jinja", f"{IMPORTS}{{% macro applied(own) %}}deepcache(((){{% endmacro %}}", "no Python expression"),
        (
            "code.jinja",
            "{% macro imports(own) %}import mine{% endmacro %}{% macro applied(own) %}f(){% endmacro %}",
            "write `from module import name`",
        ),
    ],
    ids=[
        "no TOML",
        "no such kind",
        "no such parameter",
        "no such syntax",
        "a macro too few",
        "a division by zero",
        "a name that only some parameters need",
        "no Python",
        "another kind of import",
    ],
)
def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path, file: str, text: str | None, said: str) -> None:
    """With the file's path, and what is missing."""
    mine = _copy(tmp_path)
    path = mine / "deepcache" / file
    path.write_text(text if text is not None else path.read_text().replace('kind = "cache"', 'kind = "cash"'))

    with pytest.raises(KnowledgeError, match=said) as raised:
        read(mine)
    assert str(path) in str(raised.value)


def test_a_template_that_is_no_text_is_said(tmp_path: Path) -> None:
    """As any other fault of it."""
    mine = _copy(tmp_path)
    (mine / "deepcache" / "code.jinja").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(KnowledgeError, match=r"code\.jinja: UnicodeDecodeError"):
        read(mine)


def test_a_method_without_its_facts_is_not_passed_over(tmp_path: Path) -> None:
    """A name that is misspelt is no method less."""
    mine = _copy(tmp_path)
    (mine / "deepcache" / "method.toml").rename(mine / "deepcache" / "methods.toml")

    with pytest.raises(KnowledgeError, match=r"deepcache: there is no method\.toml"):
        read(mine)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(KnowledgeError, match="holds no method"):
        read(empty)


def test_a_default_outside_its_own_range_is_refused(tmp_path: Path) -> None:
    """What a folder promises by default must work."""
    mine = _copy(tmp_path)
    path = mine / "deepcache" / "method.toml"
    path.write_text(path.read_text().replace("default = 3", "default = 7"))

    with pytest.raises(KnowledgeError, match="7 is no whole number from 2 to 5"):
        read(mine)


def test_a_conflict_with_nothing_is_refused(tmp_path: Path) -> None:
    """A name that is misspelt would never be looked at."""
    mine = _copy(tmp_path)
    path = mine / "deepcache" / "method.toml"
    path.write_text(path.read_text().replace('with = "block_reuse"', 'with = "blockreuse"'))

    with pytest.raises(KnowledgeError, match="blockreuse"):
        read(mine)


def test_a_method_can_be_left_out() -> None:
    """To measure what it is worth."""
    assert "deepcache" not in known().without("deepcache")
    assert "deepcache" in known()


def _copy(folder: Path) -> Path:
    shutil.copytree(HERE, folder / "knowledge", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return folder / "knowledge"
