"""A language model behind the OpenAI chat protocol, whoever serves it; the SDK is the only layer that retries."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from diffagent import keys
from diffagent.reply import Reply
from pytest_diffbench.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import openai

KEY: Final = "OPENAI_API_KEY"
SERVER: Final = "OPENAI_BASE_URL"
ROLES: Final = ("planner", "coder", "debugger", "solver")
"""Who asks; the last is the one that is asked once."""
TIMEOUT_S: Final = 600.0
"""For one answer: a model that thinks takes minutes."""
RETRIES: Final = 5
"""Of the SDK, for what may pass: 408, 409, 429 (as long as Retry-After says), 5xx, and a lost connection."""
_FORMS: Final = ("json_schema", "json_object", "text")
"""Of a reply that is to be JSON, the strictest first."""
_FORM_UNKNOWN: Final = (400, 422, 501)
"""What servers answer that do not take the form of a reply that is asked for."""
_SHOWN: Final = 300
"""Characters of what a server says."""


@dataclass(frozen=True)
class Settings:
    """Which model is asked, and how; what is None is the server's own default."""

    model: str
    temperature: float | None = None
    max_tokens: int | None = None
    """Of one reply, those of thinking among them."""
    timeout_s: float = TIMEOUT_S
    max_retries: int = RETRIES


@dataclass(frozen=True)
class Message:
    """A turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class Call:
    """One answer, and what it took."""

    reply: Reply
    model: str
    """As the server names it."""
    prompt_tokens: int
    completion_tokens: int
    """Both 0 where the server does not say."""
    latency_s: float
    cost_usd: float = 0.0
    """By the price that was given; 0 where none was."""
    failure: str = ""
    """Why there was no answer; '' where there is one."""


def by_role(
    model: str, own: Iterable[str] = (), temperature: float | None = None, max_tokens: int | None = None
) -> dict[str, Settings]:
    """The settings of each role, of which lines `ROLE=MODEL` name another model; ValueError of a line that does not."""
    named: dict[str, str] = {}
    for line in own:
        role, _, name = line.partition("=")
        if role not in ROLES or not name:
            raise ValueError(f"{line}: give ROLE=MODEL, ROLE one of {', '.join(ROLES)}")
        named[role] = name
    return {role: Settings(named.get(role, model), temperature, max_tokens) for role in ROLES}


class LanguageModel:
    """A model to be asked."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._form = _FORMS[0]

    @property
    def identity(self) -> dict[str, Any]:
        """What decides an answer beside the question: who is asked, and how."""
        asked = {"model": self.settings.model, "server": os.environ.get(SERVER, "")}
        return asked | {"temperature": self.settings.temperature, "max_tokens": self.settings.max_tokens}

    @cached_property
    def _client(self) -> openai.OpenAI:
        # imported here: half a second, and only who asks a model needs it
        import openai

        key = os.environ.get(KEY, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise SetupError(f"diffbench: {KEY} holds a line break, or a letter beyond ASCII: no key does; set it anew")
        if not key:
            raise SetupError(
                f"diffbench: model {self.settings.model!r} needs a key: set {KEY} (for a server of your own that "
                f"wants none, any text), and {SERVER} where the server is not OpenAI's"
            )
        return openai.OpenAI(api_key=key, max_retries=self.settings.max_retries, timeout=self.settings.timeout_s)

    def ask(self, messages: Sequence[Message], schema: Mapping[str, Any] | None = None) -> Call:
        """The model's answer, as JSON of a schema where one is given; SetupError, with what to do, where none is.

        Servers differ in what they know of schemas: one that does not take it is asked for any JSON, then for text.
        """
        import openai

        client, began = self._client, time.monotonic()
        while True:
            form = self._form  # others may ask meanwhile
            try:
                found = self._sent(client, messages, schema, form)
                if not getattr(found, "choices", None):
                    said = getattr(found, "error", None) or found
                    raise SetupError(
                        f"diffbench: {client.base_url} gave no answer of the chat protocol: {_scrubbed(str(said))}: is "
                        f"{SERVER} right?"
                    )
                return _call(found, time.monotonic() - began)
            except openai.APIStatusError as error:
                knows_no_better = schema is None or form == _FORMS[-1]
                if error.status_code not in _FORM_UNKNOWN or knows_no_better:
                    raise SetupError(f"diffbench: {client.base_url} failed: {_said(error)}") from None
                self._form = max(self._form, _FORMS[_FORMS.index(form) + 1], key=_FORMS.index)

    def _sent(
        self, client: openai.OpenAI, messages: Sequence[Message], schema: Mapping[str, Any] | None, form: str
    ) -> Any:
        import openai

        try:
            return client.chat.completions.create(
                model=self.settings.model,
                messages=[{"role": each.role, "content": each.content} for each in messages],  # type: ignore[misc]
                **self._options(),
                **_response_format(form, schema),
            )
        except openai.AuthenticationError:
            raise SetupError(f"diffbench: {client.base_url} does not accept the key in {KEY}: set another") from None
        except openai.NotFoundError as error:
            raise SetupError(
                f"diffbench: {client.base_url} knows no model {self.settings.model!r} ({_said(error)}): name one that "
                "it has with --diffbench-llm, or another server"
            ) from None
        except openai.APITimeoutError:
            raise SetupError(f"diffbench: {client.base_url} gave no answer in {self.settings.timeout_s:g} s") from None
        except openai.APIConnectionError as error:
            raise SetupError(
                f"diffbench: {client.base_url} cannot be reached ({_scrubbed(str(error.__cause__ or error))}): is it "
                f"running, and is {SERVER} right?"
            ) from None
        except openai.APIStatusError:
            raise
        except openai.APIError as error:
            raise SetupError(f"diffbench: {client.base_url} failed: {_said(error)}") from None

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if self.settings.temperature is not None:
            options["temperature"] = self.settings.temperature
        if self.settings.max_tokens is not None:
            # OpenAI's newest models take no `max_tokens`, and older servers of one's own nothing else
            name = "max_tokens" if os.environ.get(SERVER) else "max_completion_tokens"
            options[name] = self.settings.max_tokens
        return options


def _response_format(form: str, schema: Mapping[str, Any] | None) -> dict[str, Any]:
    if schema is None or form == "text":
        return {}
    if form == "json_object":
        return {"response_format": {"type": form}}
    return {"response_format": {"type": form, "json_schema": {"name": "reply", "schema": dict(schema)}}}


def _call(found: Any, latency_s: float) -> Call:
    choice, usage = found.choices[0], found.usage
    return Call(
        Reply(choice.message.content or "", choice.finish_reason or "stop", choice.message.refusal or ""),
        found.model or "",
        usage.prompt_tokens if usage is not None else 0,
        usage.completion_tokens if usage is not None else 0,
        latency_s,
    )


def _said(error: openai.APIError) -> str:
    status = getattr(error, "status_code", None)
    said = error.message.removeprefix(f"Error code: {status} - ")
    return f"{f'{status}: ' if status is not None else ''}{_scrubbed(said)}"


def _scrubbed(text: str) -> str:
    """What may be shown: a server's words without the key, should they repeat it."""
    return keys.blotted(text.encode("utf-8", "replace")).decode()[:_SHOWN]
