"""Stable Diffusion XL with DDIM: fewer, larger steps (Song et al. 2021)."""

import torch
from diffusers import DDIMScheduler, StableDiffusionXLPipeline

NUM_INFERENCE_STEPS = 30


def load(model, device):
    pipeline = StableDiffusionXLPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def generate(pipeline, requests):
    first = requests[0]
    result = pipeline(
        prompt=[request.prompt for request in requests],
        height=first.height,
        width=first.width,
        num_inference_steps=NUM_INFERENCE_STEPS,
        guidance_scale=first.guidance_scale,
        generator=[torch.Generator().manual_seed(request.seed) for request in requests],
    )
    return result.images
