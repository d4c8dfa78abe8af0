"""Stable Diffusion XL, euler-50, if it need not be hard: dpm_solver(steps=10)."""

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionXLPipeline


def load(model, device):
    pipeline = StableDiffusionXLPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config, use_karras_sigmas=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def generate(pipeline, requests):
    first = requests[0]
    return draw(pipeline, requests, first).images


def draw(pipeline, requests, first):
    return pipeline(
        prompt=[request.prompt for request in requests],
        height=first.height,
        width=first.width,
        num_inference_steps=10,
        guidance_scale=first.guidance_scale,
        generator=[torch.Generator().manual_seed(request.seed) for request in requests],
    )
