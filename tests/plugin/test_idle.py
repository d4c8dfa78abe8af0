"""A project that merely has the plugin installed notices nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SUITES = Path(__file__).parents[2] / "suites"
HEAVY = ("torch", "diffusers", "transformers", "scipy", "pydantic", "rich", "jinja2", "numpy", "hypothesis")


def loaded(code: str) -> set[str]:
    """Which heavy packages a fresh interpreter has loaded after some code."""
    script = f"{code}\nimport sys\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    return set(ran.stdout.splitlines()[-1].split()) if ran.stdout.strip() else set()


def test_the_plugin_imports_nothing_heavy() -> None:
    """Loading the plugin loads none of the libraries that tasks need."""
    assert loaded("import pytest_diffbench.plugin") == set()


def test_collecting_tasks_imports_nothing_heavy() -> None:
    """604 tasks can be listed without torch: collection reads declarations only."""
    options = ["--collect-only", "-qqq", "-p", "no:hypothesispytest", "-p", "no:cacheprovider", str(SUITES)]

    assert loaded(f"import pytest\npytest.main({options!r})") == set()


@pytest.mark.parametrize("off", [["xdist"], ["benchmark"], ["xdist", "benchmark"]], ids="+".join)
def test_it_lives_without_its_friends(pytester: pytest.Pytester, off: list[str]) -> None:
    """With pytest-xdist or pytest-benchmark switched off, other tests still run."""
    pytester.makepyfile("def test_it():\n    pass\n")
    options = [option for name in off for option in ("-p", f"no:{name}")]

    result = pytester.runpytest_subprocess(*options, timeout=120)

    result.assert_outcomes(passed=1)


def test_plain_benchmarks_keep_their_table(pytester: pytest.Pytester) -> None:
    """pytest-benchmark's own tests, table and file are left as they are."""
    pytester.makepyfile("def test_it(benchmark):\n    benchmark(int)\n")

    result = pytester.runpytest_inprocess("--benchmark-json=out.json")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*benchmark: 1 tests*"])
    assert '"diffbench"' not in (pytester.path / "out.json").read_text()
