"""What in the environment is a key: nothing that others print or run may have it."""

from __future__ import annotations

import os
import re
from typing import Final

LEAST: Final = 6
"""Characters of a key; blotting out less would spoil texts that hold none."""
_NAMED: Final = re.compile(r"(^|_)(APIKEY|KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS)S?($|_)", re.IGNORECASE)


def named() -> set[str]:
    """The names of variables that hold one, by how they are called; all of OpenAI's, the server's among them."""
    return {name for name in os.environ if _NAMED.search(name) or name.startswith("OPENAI_")}


def blotted(said: bytes) -> bytes:
    """A text without any of them."""
    held = {os.fsencode(os.environ[name].strip()) for name in named() if _NAMED.search(name)}
    for key in sorted(held, key=len, reverse=True):
        if len(key) >= LEAST:
            said = said.replace(key, b"[key]")
    return said
