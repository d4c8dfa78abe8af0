"""Published acceleration methods as context managers: inside one, a pipeline is faster; outside, it is as it was.

::

    from diffagent.methods import deepcache, token_merging

    with deepcache(pipeline, interval=3), token_merging(pipeline, ratio=0.3):
        images = pipeline(prompt).images

Every method works on any pipeline of diffusers whose denoiser has the parts that it needs, and raises `NotApplicable`
where it has not. Nothing is kept from one image to the next, and leaving the `with` block restores the pipeline
exactly. Give the pipeline its scheduler before you enter one.
"""

from __future__ import annotations

from diffagent.methods.block_reuse import block_reuse
from diffagent.methods.deepcache import deepcache
from diffagent.methods.guidance_window import guidance_window
from diffagent.methods.host import NotApplicable
from diffagent.methods.tgate import tgate
from diffagent.methods.token_merging import token_merging

__all__ = ["NotApplicable", "block_reuse", "deepcache", "guidance_window", "tgate", "token_merging"]
