"""Stable Diffusion XL, image-dpm_solver-40-fixed.

guidance_window(stop=0.5) + deepcache(interval=5) + dpm_solver(steps=40)
"""

import torch
from diffagent.methods import deepcache, guidance_window
from diffusers import DPMSolverMultistepScheduler, StableDiffusionXLImg2ImgPipeline

NUM_INFERENCE_STEPS = 40


def load(model, device):
    pipeline = StableDiffusionXLImg2ImgPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def generate(pipeline, requests):
    first = requests[0]
    with (
        deepcache(pipeline, interval=5),
        guidance_window(pipeline, stop=0.5),
    ):
        result = pipeline(
            prompt=[request.prompt for request in requests],
            image=[request.image for request in requests],
            strength=first.strength,
            num_inference_steps=NUM_INFERENCE_STEPS,
            guidance_scale=first.guidance_scale,
            generator=[torch.Generator().manual_seed(request.seed) for request in requests],
        )
    return result.images
