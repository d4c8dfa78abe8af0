"""Stable Diffusion 1.5, image-ddim-50: dpm_solver(steps=15) + guidance_window(stop=0.6)."""

import torch
from diffagent.methods import guidance_window
from diffusers import DPMSolverMultistepScheduler, StableDiffusionImg2ImgPipeline

NUM_INFERENCE_STEPS = 15


def load(model, device):
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config, use_karras_sigmas=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def generate(pipeline, requests):
    first = requests[0]
    with guidance_window(pipeline, stop=0.6):
        result = pipeline(
            prompt=[request.prompt for request in requests],
            image=[request.image for request in requests],
            strength=first.strength,
            num_inference_steps=NUM_INFERENCE_STEPS,
            guidance_scale=first.guidance_scale,
            generator=[torch.Generator().manual_seed(request.seed) for request in requests],
        )
    return result.images
