"""pytest glue: options, markers and hooks; what a project without tasks does not need is imported later."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest

from pytest_diffbench.plugin import fixtures
from pytest_diffbench.plugin.keys import (
    BENCHMARK_ONLY,
    DEFAULT_AGENT,
    DEMAND,
    NEXT_ITEM,
    SESSION,
    ZOOS,
    agent_is_chosen,
)
from pytest_diffbench.plugin.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from pytest_diffbench.plugin.session import Session

PUBLIC_SEED: Final = 0
"""Public requests are the same in every run, unless another number is given."""
MARKERS: Final = (
    "diffbench(task): a diffusion acceleration task; see pytest_diffbench.Task",
    "speed(at_least): the speed-up that a task demands, e.g. 1.8",
    "latency(at_most_s, at_most_of_baseline, percentile=50): the longest that a call may take",
    "quality(max_loss=0.05, strict=False): the share of the CLIP-Score that may be lost",
    "executability(timeout_s): the longest that loading, or one call, may take",
    *(f"level{level}: tasks of level {level}" for level in range(1, 6)),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The command line; what a project's CI would fix for good is an ini value too."""
    group = parser.getgroup("diffbench", "diffusion acceleration benchmark")
    group.addoption(
        "--diffbench-agent",
        metavar="NAME|PATH",
        help="where solutions come from: reference, baseline, a plugin's own (NAME, or NAME:ARGUMENT), a .py file, or "
        "a folder of answers",
    )
    group.addoption(
        "--diffbench-zoo",
        choices=ZOOS,
        help="where model weights come from: tiny (trained stand-ins, the default), full (the published checkpoints), "
        "architecture (the real architectures with random weights: speed only, nothing can pass)",
    )
    group.addoption(
        "--diffbench-checkpoint",
        action="append",
        metavar="NAME=PLACE",
        help="where the zoo 'full' finds a model, or the scorer: a folder, or hub/id@commit",
    )
    group.addoption(
        "--diffbench-prompts",
        metavar="FILE",
        help="prompts for real models, one a line, in place of the list that is shipped (such as captions of COCO)",
    )
    group.addoption("--diffbench-attempts", type=int, default=1, metavar="K", help="answers a task is asked for")
    group.addoption(
        "--diffbench-pairs",
        type=int,
        metavar="N",
        help="timed pairs after which speed stays undecided (default 24; 80 in a second try)",
    )
    group.addoption(
        "--diffbench-undecided",
        choices=("retry", "fail", "skip"),
        default="retry",
        help="what becomes of a task that noise leaves open: one more try with fresh requests (default), or none",
    )
    group.addoption(
        "--diffbench-certify",
        action="store_true",
        help="measure in three fresh starts of the processes, on at least 100 images: for results to publish",
    )
    group.addoption(
        "--diffbench-seed", type=int, metavar="N", help="draw the same requests as the run that printed this number"
    )
    group.addoption(
        "--diffbench-requests",
        choices=("secret", "public"),
        default="secret",
        help="where requests are drawn from: public ones are for feedback to a solver, and make no score",
    )
    group.addoption(
        "--diffbench-quick",
        action="store_true",
        help="with public requests: fewer pairs and images, and none of the last looks: feedback in half the time",
    )
    group.addoption(
        "--diffbench-race",
        type=float,
        metavar="X",
        help="with public requests, or to certify: judge no images of a solution that misses its target and is surely "
        "less than X times faster, for another one is better already",
    )
    group.addoption(
        "--diffbench-prefetch",
        type=int,
        default=2,
        metavar="N",
        help="while a task is measured, the provider may prepare the next N (default 2; 0: none)",
    )
    group.addoption(
        "--diffbench-journal",
        metavar="FOLDER",
        help="where runs are kept, each in a folder of its own (default: .diffbench in pytest's rootdir)",
    )
    group.addoption(
        "--diffbench-resume",
        nargs="?",
        const="last",
        metavar="RUN",
        help="go on with a run that was cut off: what it knows is not measured again (default: the last one)",
    )
    group.addoption(
        "--diffbench-keep-images",
        choices=("all", "none"),
        default="all",
        help="whether the journal keeps the timed images of both arms (default), or no image",
    )
    group.addoption(
        "--diffbench-images",
        type=int,
        metavar="N",
        help="make so many images with both arms, 1000 or more, and report FID, KID, PSNR and SSIM",
    )
    group.addoption(
        "--diffbench-null",
        action="store_true",
        help="run no task; time the baseline against itself: what this machine can tell apart",
    )
    group.addoption(
        "--diffbench-calibrate",
        action="store_true",
        help="run no task; seek the best answer to each scenario among them, by every means: targets follow from it",
    )
    group.addoption(
        "--diffbench-calibrate-evaluations",
        type=int,
        default=50,
        metavar="N",
        help="how many answers its search measures (default 50); the random one measures twice as many",
    )
    group.addoption(
        "--diffbench-targets",
        choices=("shipped", "own", "paper"),
        default="shipped",
        help="what tasks with a scenario and a difficulty demand: what stands in their files (default), what this "
        "machine's own calibration says, or the paper's scaling of it, where the best known answer is only medium",
    )
    group.addoption(
        "--diffbench-isolation",
        choices=("auto", "bubblewrap", "landlock", "external", "none"),
        help="how solutions are kept in: the best means that hold here (auto, the default), one of them, "
        "external (you vouch for a disposable machine), or none",
    )
    group.addoption(
        "--diffbench-limits",
        metavar="NAME=AMOUNT,…",
        help="what a solution may use, such as load=60s,call=30s,memory=8GiB,processes=64,disk=1GiB,output=1MiB",
    )
    group.addoption(
        "--diffbench-readable",
        action="append",
        metavar="PATH",
        help="a file or folder of your own that solutions may read, such as the package that they accelerate",
    )
    group.addoption(
        "--diffbench-devices",
        metavar="NAMES",
        help="comma-separated devices to time on, such as cpu:0 or cuda:0 (default: every GPU, else every core)",
    )
    parser.addini(
        "diffbench_agent", "where solutions come from, unless --diffbench-agent says so", default=DEFAULT_AGENT
    )
    parser.addini("diffbench_zoo", "where model weights come from, unless the option says so", default="tiny")
    parser.addini(
        "diffbench_checkpoints", "NAME=PLACE, a line each, beside --diffbench-checkpoint", type="linelist", default=[]
    )
    parser.addini("diffbench_prompts", "prompts for real models, unless the option says so", type="paths", default=[])
    parser.addini("diffbench_isolation", "how solutions are kept in, unless the option says so", default="auto")
    parser.addini("diffbench_limits", "what a solution may use, unless the option says so", default="")
    parser.addini("diffbench_readable", "what solutions may read beside --diffbench-readable", type="paths", default=[])
    parser.addini(
        "diffbench_durations",
        "a file of `diffbench durations`: with it xdist's workers begin with the tasks that take longest",
        default="",
    )
    parser.addini("diffbench_pairs", "most timed pairs a task, unless --diffbench-pairs says so", default="")


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare our own hooks."""
    from pytest_diffbench import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register markers and helpers; settle what pytest-benchmark and xdist read when configured, after us."""
    for line in MARKERS:
        config.addinivalue_line("markers", line)
    config.pluginmanager.register(fixtures, "diffbench-fixtures")
    # pytest-benchmark would refuse it under xdist, and skip our items, which do not use its fixture
    config.stash[BENCHMARK_ONLY] = bool(config.getoption("benchmark_only", default=False))
    if config.stash[BENCHMARK_ONLY]:
        config.option.benchmark_only = False
    if config.option.diffbench_null:
        config.args = [str(config.rootpath)]
    if hasattr(config, "workerinput"):
        config.option.diffbench_seed = config.workerinput["diffbench_seed"]
        return
    if config.option.diffbench_resume is not None:
        _go_on(config)
    if config.option.diffbench_seed is None:
        public = config.option.diffbench_requests == "public"
        config.option.diffbench_seed = PUBLIC_SEED if public else int.from_bytes(os.urandom(6), "big")
    recorder = Recorder(config)
    config.pluginmanager.register(recorder, "diffbench-recorder")
    if config.pluginmanager.hasplugin("xdist"):
        from pytest_diffbench.plugin.placement import Placement

        config.pluginmanager.register(Placement(config, recorder), "diffbench-placement")


def _go_on(config: pytest.Config) -> None:
    """Take over the seed of the run that is resumed: what is left gets the requests that it would have had."""
    # imported here: only a run that is resumed needs it now
    from pytest_diffbench.plugin import ledger

    seed = ledger.seed(ledger.place(config))
    if config.option.diffbench_seed not in (None, seed):
        raise pytest.UsageError(f"--diffbench-seed: a run that is resumed keeps its own, {seed}: leave it out")
    config.option.diffbench_seed = seed


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """`-n auto`: one worker a device (xdist asks before it lets plugins configure themselves)."""
    if not agent_is_chosen(config):
        return None
    from pytest_diffbench.errors import SetupError

    try:
        return len(diffbench(config).devices)
    except SetupError:  # a device that is not here: refused when the session starts
        return None


def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse a wrong command line before anything runs; keep workers from writing the controller's file."""
    config = session.config
    benchmarks = getattr(config, "_benchmarksession", None)
    if hasattr(config, "workerinput") and benchmarks is not None:
        benchmarks.json = benchmarks.save = benchmarks.autosave = None
    resumed = config.getoption("diffbench_resume") is not None
    own_targets = config.getoption("diffbench_targets") == "own"  # which a machine that is not calibrated lacks
    if agent_is_chosen(config) or resumed or own_targets:
        diffbench(config).validate()
    if agent_is_chosen(config):
        kept = benchmarks.json if benchmarks is not None and not config.option.collectonly else None
        if kept and kept.is_file():
            kept.unlink()  # a run that is cut off must not leave yesterday's numbers behind


def diffbench(config: pytest.Config) -> Session:
    """What this process knows of the run, made when it is first needed."""
    if SESSION not in config.stash:
        from pytest_diffbench.plugin.session import Session

        made = Session(config)
        config.stash[SESSION] = made
        config.add_cleanup(made.close)
    return config.stash[SESSION]


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a task an item for each of several answers; last, so that the answer's name ends the item's."""
    if fixtures.ATTEMPT_FIXTURE in metafunc.fixturenames:
        from pytest_diffbench.plugin import collection

        collection.multiply(metafunc, diffbench(metafunc.config))


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem(collector: pytest.Collector) -> Generator[None, object, object]:
    """Check tasks as they are collected."""
    made = yield
    if isinstance(made, list) and any(
        isinstance(item, pytest.Function) and item.get_closest_marker("diffbench") for item in made
    ):
        from pytest_diffbench.plugin import collection

        return collection.tasks(made, diffbench(collector.config))
    return made


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """An A/A run needs no test file."""
    return True if config.option.diffbench_null and collection_path != config.rootpath else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest tasks first in workers; do for `--benchmark-only` what pytest-benchmark would have done."""
    if config.option.diffbench_null:
        from pytest_diffbench.plugin import null

        items[:] = null.items(session, diffbench(config))
        return
    if SESSION in config.stash:
        from pytest_diffbench.plugin import collection

        if hasattr(config, "workerinput") and (known := diffbench(config).durations):
            collection.longest_first(items, known)
    if config.stash[BENCHMARK_ONLY]:
        for item in items:
            if DEMAND not in item.stash and "benchmark" not in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.skip(reason="Skipping non-benchmark (--benchmark-only active)."))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Count the tasks, so that a run that is cut off is known to be one."""
    tasks = sum(DEMAND in item.stash for item in session.items)
    if tasks:
        diffbench(session.config).collected = tasks


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Calibrating takes the place of running; whoever only asks which tasks there are is told no more than that."""
    option = session.config.option
    if not option.diffbench_calibrate or option.collectonly:
        return None
    if session.testsfailed and not option.continue_on_collection_errors:
        return None  # pytest says so, and ends
    from pytest_diffbench.plugin import calibrating

    return calibrating.run(session, diffbench(session.config))


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What is gone on with; and the same as after collection, which a controller of workers never reports."""
    lines = diffbench(config).ledger.resumption() if config.getoption("diffbench_resume") is not None else []
    spread = config.getoption("dist", default="no") != "no"
    if spread and agent_is_chosen(config):
        lines += [*diffbench(config).missing_durations(), *diffbench(config).noise_lines([])]
    return lines


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """Say what this machine can tell apart, and which targets it cannot, before a task runs."""
    tasks = [item.stash[DEMAND] for item in items if DEMAND in item.stash]
    return diffbench(config).noise_lines(tasks) if tasks else []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """Remember which task follows, for which a process can be started in time."""
    item.stash[NEXT_ITEM] = nextitem if nextitem is not None and DEMAND in nextitem.stash else None
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Run the stages that a task asks for, in their order, before the test's own body."""
    if DEMAND in pyfuncitem.stash:
        fixtures.run_stages(pyfuncitem)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put a task's evidence on its report, and its verdict in place of a traceback."""
    report = yield
    if DEMAND in item.stash:
        from pytest_diffbench.plugin import reports

        reports.complete(report, item, call, diffbench(item.config))
    return report
