"""Stable Diffusion XL with T-GATE: cross-attention kept after a gate step (Zhang et al. 2024)."""

import torch
from diffagent.methods import tgate
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

NUM_INFERENCE_STEPS = 50


def load(model, device):
    pipeline = StableDiffusionXLPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def generate(pipeline, requests):
    first = requests[0]
    with tgate(pipeline, gate_step=30):
        result = pipeline(
            prompt=[request.prompt for request in requests],
            height=first.height,
            width=first.width,
            num_inference_steps=NUM_INFERENCE_STEPS,
            guidance_scale=first.guidance_scale,
            generator=[torch.Generator().manual_seed(request.seed) for request in requests],
        )
    return result.images
