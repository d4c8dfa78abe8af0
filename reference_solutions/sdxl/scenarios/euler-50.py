"""Stable Diffusion XL, euler-50: dpm_solver(steps=12) + deepcache(interval=2) + guidance_window(stop=0.6)."""

import torch
from diffagent.methods import deepcache, guidance_window
from diffusers import DPMSolverMultistepScheduler, StableDiffusionXLPipeline

NUM_INFERENCE_STEPS = 12


def load(model, device):
    pipeline = StableDiffusionXLPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config, use_karras_sigmas=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def generate(pipeline, requests):
    first = requests[0]
    with (
        deepcache(pipeline, interval=2),
        guidance_window(pipeline, stop=0.6),
    ):
        result = pipeline(
            prompt=[request.prompt for request in requests],
            height=first.height,
            width=first.width,
            num_inference_steps=NUM_INFERENCE_STEPS,
            guidance_scale=first.guidance_scale,
            generator=[torch.Generator().manual_seed(request.seed) for request in requests],
        )
    return result.images
