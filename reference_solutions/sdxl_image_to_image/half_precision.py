"""Stable Diffusion XL, image to image: in half precision: half the memory traffic, and units that are made for it."""

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLImg2ImgPipeline

NUM_INFERENCE_STEPS = 12


def load(model, device):
    pipeline = StableDiffusionXLImg2ImgPipeline.from_pretrained(model, dtype=torch.bfloat16)
    pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def generate(pipeline, requests):
    first = requests[0]
    result = pipeline(
        prompt=[request.prompt for request in requests],
        image=[request.image for request in requests],
        strength=first.strength,
        num_inference_steps=NUM_INFERENCE_STEPS,
        guidance_scale=first.guidance_scale,
        generator=[torch.Generator().manual_seed(request.seed) for request in requests],
    )
    return result.images
