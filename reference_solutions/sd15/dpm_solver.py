"""Stable Diffusion 1.5 with DPM-Solver++: second order, fewer steps (Lu et al. 2022)."""

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

NUM_INFERENCE_STEPS = 25


def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config, use_karras_sigmas=True)
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
