"""The only door to untrusted code: start a candidate's process, talk to it, stop it, kill it."""

from pytest_diffbench.isolation.channel import Reply
from pytest_diffbench.isolation.sandbox import ISOLATION, Sandbox
from pytest_diffbench.isolation.standby import Standby

__all__ = ["ISOLATION", "Reply", "Sandbox", "Standby"]
