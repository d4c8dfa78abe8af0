"""What agents asked and spent in a run, in a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffagent import calls
from diffagent.budget import FOLDER, Budget, Purse
from pytest_diffbench.plugin import ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


def lines(config: pytest.Config) -> Iterator[str]:
    """For the end of a run; none where no agent did anything."""
    folder = ledger.place(config).folder / FOLDER
    if not folder.is_dir():
        return
    found = calls.total(folder)
    if found.asked or found.replayed:
        cost = f", ${found.cost_usd:.2f}" if found.cost_usd else ""
        yield (
            f"language models: {found.asked} replies, {found.prompt_tokens:,} tokens in and "
            f"{found.completion_tokens:,} out{cost}, {found.latency_s:.0f} s"
        )
    if found.replayed:
        place = ledger.folder_of_runs(config) / calls.ANSWERS
        yield f"known already: {found.replayed} replies, from {place} (--diffbench-llm-fresh asks anew)"
    if seconds := Budget(folder).spent(Purse.DEVICE_S):
        yield f"agents measured for {seconds:.0f} device seconds, on public requests"
