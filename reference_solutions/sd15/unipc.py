"""Stable Diffusion 1.5 with UniPC: predictor and corrector, fewer steps (Zhao et al. 2023)."""

import torch
from diffusers import StableDiffusionPipeline, UniPCMultistepScheduler

NUM_INFERENCE_STEPS = 30


def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config, use_karras_sigmas=True)
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
