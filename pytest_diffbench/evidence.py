"""Whether results on the tiny zoo say anything of real models: only once a GPU has shown that both rank plans alike."""

from __future__ import annotations

from typing import Final

TINY: Final = "tiny-"
"""With this begins the revision of every model of the tiny zoo."""
ENOUGH_RHO: Final = 0.7
RHO: Final[float | None] = None
"""Spearman's rank correlation of speed-ups, real architectures on a GPU beside the tiny zoo on a CPU.

What `benchmarks/gpu_evidence.py --compare` prints of the files in `docs/evidence/`; None: no GPU has timed them yet.
"""


def harness_check(model_revision: str, *, rho: float | None = None) -> bool:
    """Whether a result on these weights shows that the harness works, and is no claim about real models.

    `rho` in place of the one on record.
    """
    known = RHO if rho is None else rho
    return model_revision.startswith(TINY) and (known is None or known < ENOUGH_RHO)
