"""Stable Diffusion 1.5, ddim-30-fixed, if it need not be hard: deepcache(interval=3) + guidance_window(stop=0.7)."""

import torch
from diffagent.methods import deepcache, guidance_window
from diffusers import DDIMScheduler, StableDiffusionPipeline


def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def generate(pipeline, requests):
    first = requests[0]
    with (
        deepcache(pipeline, interval=3, branch=0),
        guidance_window(pipeline, start=0.0, stop=0.7),
    ):
        result = draw(pipeline, requests, first)
    return result.images


def draw(pipeline, requests, first):
    return pipeline(
        prompt=[request.prompt for request in requests],
        height=first.height,
        width=first.width,
        num_inference_steps=first.num_inference_steps,
        guidance_scale=first.guidance_scale,
        generator=[torch.Generator().manual_seed(request.seed) for request in requests],
    )
