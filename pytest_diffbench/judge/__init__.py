"""Images in, quality evidence out; runs in the trusted process only."""

from pytest_diffbench.judge.clip import ClipScorer
from pytest_diffbench.judge.quality import evidence, fault

__all__ = ["ClipScorer", "evidence", "fault"]
