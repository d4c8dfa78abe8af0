"""Images in, quality evidence out; runs in the trusted process only."""

from pytest_diffbench.judge.clip import ClipScorer
from pytest_diffbench.judge.quality import Judgement, Rule, fault

__all__ = ["ClipScorer", "Judgement", "Rule", "fault"]
