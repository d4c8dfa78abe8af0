"""Measure whether code that accelerates a diffusion pipeline really is faster, and still good."""

from pytest_diffbench.task import Task

__version__ = "0.1.0"
__all__ = ["Task", "__version__"]
