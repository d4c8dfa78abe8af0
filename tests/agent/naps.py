"""A script for the loopback server whose plans are naps: cheap programs that are measured in earnest.

No language model, and no pipeline: the foreign project's artist sleeps before it draws, and plans make it sleep less.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tests.agent.loopback import Answer
from tests.plugin.conftest import ARTIST, NAP_S

if TYPE_CHECKING:
    from collections.abc import Mapping


def napping(asked: Mapping[str, Any]) -> Answer:
    """Planner and coder: naps of the pipeline get shorter by what the plan says."""
    text = asked["messages"][0]["content"]
    if text.startswith("You plan"):
        known = [int(each) for each in re.findall(r"nap of (\d+) ms", text)]
        count = int(re.findall(r"^(\d+) plans", text, re.MULTILINE)[-1])
        naps = [nap for nap in range(round(600 * NAP_S), 1, -1) if nap not in known][:count]
        return Answer(json.dumps({"lesson": "", "ideas": [{"also": f"a nap of {nap} ms"} for nap in naps]}))
    nap = re.findall(r"## The plan\na nap of (\d+) ms", text)
    return Answer(f"```python\n{ARTIST.format(sleep_s=int(nap[0]) / 1000 if nap else NAP_S)}```")
