"""A language model over real HTTP: what may pass is tried again by the SDK alone, the rest is said, without the key."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from diffagent.calls import Calls
from diffagent.llm import LanguageModel, Message, Settings, by_role
from diffagent.one_shot import OneShot

from pytest_diffbench.errors import SetupError, SolutionFault
from pytest_diffbench.records import Cause
from tests.agent.demands import demand
from tests.agent.loopback import KEY, MODEL, Answer, Loopback
from tests.plugin.conftest import HEAD, SOLUTIONS, furnish, own_task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

ASKED = [Message("user", "Write it.")]
SOLUTION = "def load(model, device):\n    return None\n\n\ndef generate(pipeline, requests):\n    return []\n"
GOOD = Answer(f"Here it is:\n```python\n{SOLUTION}```")


def _settings(**more: object) -> Settings:
    return Settings(**{"model": MODEL, "max_retries": 2, "timeout_s": 5.0, **more})  # type: ignore[arg-type]


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The right key."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return monkeypatch


def _asked(key: pytest.MonkeyPatch, script: Sequence[Answer], **more: object) -> tuple[Loopback, object]:
    with Loopback(script) as server:
        key.setenv("OPENAI_BASE_URL", server.url)
        try:
            return server, LanguageModel(_settings(**more)).ask(ASKED)
        except SetupError as error:
            return server, error


def test_an_answer_comes_with_what_it_took(key: pytest.MonkeyPatch) -> None:
    """Text, tokens and seconds; of the settings only those that were given are sent."""
    with Loopback([GOOD]) as server:
        key.setenv("OPENAI_BASE_URL", server.url)
        call = LanguageModel(_settings(temperature=0.5)).ask(ASKED)

    assert call.reply.text == GOOD.text
    assert (call.model, call.prompt_tokens, call.completion_tokens) == (MODEL, 11, 7)
    assert call.latency_s > 0
    (asked,) = server.requests
    assert asked == {"model": MODEL, "temperature": 0.5, "messages": [{"role": "user", "content": "Write it."}]}


@pytest.mark.parametrize(
    ("first", "least_s"),
    [
        pytest.param(Answer("slow down", status=429, headers={"Retry-After": "1"}), 1.0, id="429"),
        pytest.param(Answer("oops", status=500), 0.0, id="500"),
        pytest.param(Answer(dropped=True), 0.0, id="dropped"),
    ],
)
def test_what_may_pass_is_tried_again(key: pytest.MonkeyPatch, first: Answer, least_s: float) -> None:
    """Once more, and not before the server allows it."""
    began = time.monotonic()
    server, call = _asked(key, [first, GOOD])

    assert not isinstance(call, SetupError)
    assert len(server.requests) == 2
    assert time.monotonic() - began >= least_s


def test_a_server_that_stays_down_is_asked_a_few_times_only(key: pytest.MonkeyPatch) -> None:
    """Retries are the SDK's: two more, not two times two."""
    server, error = _asked(key, [Answer("oops", status=500)] * 9)

    assert isinstance(error, SetupError)
    assert "failed: 500: " in str(error)
    assert len(server.requests) == 3


def test_a_server_that_hangs_is_given_up(key: pytest.MonkeyPatch) -> None:
    """After the time that was set."""
    _, error = _asked(key, [Answer(after_s=1.0)] * 3, timeout_s=0.2, max_retries=0)

    assert "gave no answer in 0.2 s" in str(error)


def test_an_unknown_model_is_said(key: pytest.MonkeyPatch) -> None:
    """With its name, and what to do."""
    _, error = _asked(key, [], model="unheard-of")

    assert "knows no model 'unheard-of'" in str(error)
    assert "--diffbench-llm" in str(error)


def test_a_wrong_key_is_said_and_never_shown(key: pytest.MonkeyPatch) -> None:
    """Also where the server repeats it."""
    wrong = "sk-wrong-and-secret"
    key.setenv("OPENAI_API_KEY", wrong)
    _, error = _asked(key, [])

    assert "does not accept the key in OPENAI_API_KEY" in str(error)
    assert wrong not in repr(error)


def test_a_key_that_a_server_repeats_is_blotted_out(key: pytest.MonkeyPatch) -> None:
    """In whatever it says."""
    _, error = _asked(key, [Answer(f"bad request with {KEY}", status=400)])

    assert "bad request with [key]" in str(error)


@pytest.mark.parametrize("mark", ["\r", "\n", " "])
def test_a_key_from_a_file_is_no_more_than_its_letters(key: pytest.MonkeyPatch, mark: str) -> None:
    """A line's end that came with it is none of it, and an error would show it."""
    key.setenv("OPENAI_API_KEY", f"{KEY}{mark}")
    _, found = _asked(key, [GOOD])

    assert not isinstance(found, SetupError)
    for broken in (f"{KEY}\r\nX", f"{KEY}ü"):
        key.setenv("OPENAI_API_KEY", broken)
        _, found = _asked(key, [GOOD])
        assert isinstance(found, SetupError)
        assert "no key does" in str(found)
        assert KEY not in str(found)


@pytest.mark.parametrize("body", [{"error": {"message": "overloaded"}}, {"choices": []}, "<html>welcome</html>"])
def test_what_is_no_answer_of_the_protocol_is_no_answer(key: pytest.MonkeyPatch, body: object) -> None:
    """As proxies give with a status of 200: trouble of the server's, never the model's empty reply."""
    _, found = _asked(key, [Answer(body=body)])

    assert isinstance(found, SetupError)
    assert "gave no answer of the chat protocol" in str(found)


def test_a_key_with_a_line_break_is_blotted_out_all_the_same(key: pytest.MonkeyPatch) -> None:
    """What is sent is the key without it, and so is what a server repeats."""
    key.setenv("OPENAI_API_KEY", f"{KEY}\n")
    key.setenv("SOME_TOKEN", "not text \udcff")
    _, found = _asked(key, [Answer(f"what is {KEY}?", status=500)], max_retries=0)

    assert isinstance(found, SetupError)
    assert KEY not in str(found)
    assert "[key]" in str(found)


def test_a_wrong_key_is_not_tried_again(key: pytest.MonkeyPatch) -> None:
    """Nor an unknown model: neither will be another in a second."""
    key.setenv("OPENAI_API_KEY", "sk-another")
    server, _ = _asked(key, [GOOD])
    assert server.refused == 1
    key.setenv("OPENAI_API_KEY", KEY)
    server, _ = _asked(key, [GOOD], model="unknown")
    assert server.refused == 1


def test_without_a_key_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what to set is said."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    with pytest.raises(SetupError, match="set OPENAI_API_KEY"):
        LanguageModel(_settings()).ask(ASKED)


def test_a_server_that_is_not_there_is_said(key: pytest.MonkeyPatch) -> None:
    """With its address."""
    with Loopback([]) as server:
        gone = server.url
    key.setenv("OPENAI_BASE_URL", gone)

    with pytest.raises(SetupError, match="cannot be reached"):
        LanguageModel(_settings(max_retries=0)).ask(ASKED)


def test_the_most_tokens_have_the_name_that_the_server_knows(key: pytest.MonkeyPatch) -> None:
    """OpenAI's own takes no `max_tokens` any more, servers of one's own nothing else."""
    server, _ = _asked(key, [GOOD], max_tokens=99)
    assert server.requests[0]["max_tokens"] == 99
    key.delenv("OPENAI_BASE_URL")
    assert LanguageModel(_settings(max_tokens=99))._options() == {"max_completion_tokens": 99}


def test_each_role_may_have_its_own_model() -> None:
    """The others have the common one; a role that nobody has is refused."""
    found = by_role("common", ["coder=other"], 0.5, 99)
    assert {role: each.model for role, each in found.items()} == {
        "planner": "common",
        "coder": "other",
        "debugger": "common",
        "solver": "common",
    }
    assert {(each.temperature, each.max_tokens) for each in found.values()} == {(0.5, 99)}
    for wrong in ("cook=other", "coder", "coder="):
        with pytest.raises(ValueError, match="give ROLE=MODEL"):
            by_role("common", [wrong])


def test_a_schema_is_asked_for_as_far_as_the_server_knows_schemas(key: pytest.MonkeyPatch) -> None:
    """One that refuses it is asked for any JSON, then for text; which it takes is remembered."""
    refused = Answer("response_format is not supported", status=400)
    with Loopback([refused, refused, GOOD, GOOD]) as server:
        key.setenv("OPENAI_BASE_URL", server.url)
        model = LanguageModel(_settings())
        for _ in range(2):
            model.ask(ASKED, {"type": "object"})

    formats = [asked.get("response_format", {}).get("type") for asked in server.requests]
    assert formats == ["json_schema", "json_object", None, None]


def _one_shot(folder: Path) -> OneShot:
    return OneShot(Calls({"solver": LanguageModel(_settings())}, folder / "answers", folder / "log"), MODEL)


def test_one_shot_gives_what_the_model_wrote(key: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The prompt goes as it is, the program comes as it is."""
    with Loopback([GOOD]) as server:
        key.setenv("OPENAI_BASE_URL", server.url)
        solution = _one_shot(tmp_path).solve(demand("sd15"), "The task.", "")

    assert solution.source == SOLUTION
    assert solution.origin == MODEL
    assert server.requests[0]["messages"] == [{"role": "user", "content": "The task."}]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer("Sorry, I cannot help."), "no program"),
        (Answer(""), "empty"),
        (Answer("", refusal="I will not."), "refused: I will not."),
        (Answer(GOOD.text, finish_reason="length"), "cut off"),
    ],
)
def test_a_reply_without_a_program_is_the_solvers_failure(
    key: pytest.MonkeyPatch, tmp_path: Path, answer: Answer, said: str
) -> None:
    """A compilation error that says so, never a program, and no trouble of ours."""
    with Loopback([answer]) as server:
        key.setenv("OPENAI_BASE_URL", server.url)
        with pytest.raises(SolutionFault, match=said) as raised:
            _one_shot(tmp_path).solve(demand("sd15"), "The task.", "")

    assert raised.value.cause is Cause.COMPILATION


def test_what_is_needed_next_is_asked_for_before(key: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """While one answer is measured the next ones are on their way, each asked for once."""
    task, arrived = demand("sd15"), threading.Barrier(2, timeout=20)

    def script(asked: Mapping[str, Any]) -> Answer:
        arrived.wait()  # both are there before either is answered
        return Answer(f"```python\n{SOLUTION}# {asked['messages'][0]['content']}\n```")

    with Loopback(script) as server:
        key.setenv("OPENAI_BASE_URL", server.url)
        provider = _one_shot(tmp_path)
        provider.prefetch([(task, "first", ""), (task, "second", "")])
        provider.prefetch([(task, "second", "")])
        found = [provider.solve(task, prompt, "").source for prompt in ("second", "first")]

    assert [each.splitlines()[-1] for each in found] == ["# second", "# first"]
    assert len(server.requests) == 2


def test_what_went_wrong_on_the_way_is_said_when_it_is_needed(key: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The task that needed it is not measured; no other is touched."""
    with Loopback([Answer("no", status=401)]) as server:
        key.setenv("OPENAI_BASE_URL", server.url)
        provider = _one_shot(tmp_path)
        provider.prefetch([(demand("sd15"), "first", "")])
        with pytest.raises(SetupError):
            provider.solve(demand("sd15"), "first", "")


def test_a_model_is_scored_over_http(pytester: pytest.Pytester, key: pytest.MonkeyPatch) -> None:
    """A competent one passes, one that talks fails, and the key is nowhere in what the run leaves."""
    furnish(pytester.path)
    mark = f"@pytest.mark.diffbench({own_task()})\n@pytest.mark.speed(at_least=1.5)\n"
    tests = "".join(
        f"{mark}def test_{name}(executability, speed, quality):\n    '''Do {name}.'''\n\n" for name in ("good", "talk")
    )
    pytester.makepyfile(test_mine=f"{HEAD}{tests}")

    def script(asked: object) -> Answer:
        return Answer(f"```python\n{SOLUTIONS['fast']}```" if "Do good." in str(asked) else "I would use fewer steps.")

    with Loopback(script) as server:
        key.setenv("OPENAI_BASE_URL", server.url)
        options = ("--diffbench-agent=gpt", f"--diffbench-llm={MODEL}")
        priced = "--diffbench-llm-price=1000,2000"
        result = pytester.runpytest_subprocess(*options, priced, "--benchmark-json=o.json")
        again = pytester.runpytest_subprocess(*options, priced, "--collect-only", "-q")
        resumed = pytester.runpytest_subprocess(*options, "--diffbench-resume", "--benchmark-json=o.json")
        asked = len(server.requests)
        repeated = pytester.runpytest_subprocess(*options, "-k", "talk")

    assert asked == len(server.requests) == 2
    assert again.ret == 0
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [f"*diffbench: gpt:{MODEL}*", "language models: 2 replies, 22 tokens in and 14 out, $0.05*"]
    )
    resumed.stdout.fnmatch_lines(["resumed: 2 of 2 tasks were known*"])
    repeated.stdout.fnmatch_lines(["known already: 1 replies, from *answers (--diffbench-llm-fresh asks anew)"])
    result.stdout.fnmatch_lines(["*compilation error: the reply holds no program*"])
    files = [file for file in pytester.path.rglob("*") if file.is_file()]
    assert not any(KEY.encode() in file.read_bytes() for file in files)
    assert KEY not in result.stdout.str()


def test_a_model_has_to_be_named(pytester: pytest.Pytester) -> None:
    """A usage error that says how, before anything runs."""
    furnish(pytester.path)
    pytester.makepyfile(
        test_mine=f"{HEAD}@pytest.mark.diffbench({own_task()})\ndef test_it(executability):\n    pass\n"
    )

    result = pytester.runpytest_subprocess("--diffbench-agent=gpt")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*add --diffbench-llm=MODEL*"])
