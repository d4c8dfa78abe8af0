"""Stable Diffusion 1.5 with guidance in its first steps only (Kynkäänniemi et al. 2024)."""

import torch
from diffagent.methods import guidance_window
from diffusers import DDIMScheduler, StableDiffusionPipeline

NUM_INFERENCE_STEPS = 50


def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def generate(pipeline, requests):
    first = requests[0]
    with guidance_window(pipeline, stop=0.7):
        result = pipeline(
            prompt=[request.prompt for request in requests],
            height=first.height,
            width=first.width,
            num_inference_steps=NUM_INFERENCE_STEPS,
            guidance_scale=first.guidance_scale,
            generator=[torch.Generator().manual_seed(request.seed) for request in requests],
        )
    return result.images
