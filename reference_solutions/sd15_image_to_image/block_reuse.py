"""Stable Diffusion 1.5, image to image: with FORA: results of its blocks kept for a step (Selvaraju et al. 2024)."""

import torch
from diffagent.methods import block_reuse
from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline

NUM_INFERENCE_STEPS = 50


def load(model, device):
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def generate(pipeline, requests):
    first = requests[0]
    with block_reuse(pipeline, interval=2, warm_up=2):
        result = pipeline(
            prompt=[request.prompt for request in requests],
            image=[request.image for request in requests],
            strength=first.strength,
            num_inference_steps=NUM_INFERENCE_STEPS,
            guidance_scale=first.guidance_scale,
            generator=[torch.Generator().manual_seed(request.seed) for request in requests],
        )
    return result.images
