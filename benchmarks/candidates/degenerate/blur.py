"""Degenerate: ten steps, and a Gaussian blur (a fortieth of the width) over what they leave unfinished."""

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import ImageFilter

NUM_INFERENCE_STEPS = 10


def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32)
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
    return [image.filter(ImageFilter.GaussianBlur(first.width / 40)) for image in result.images]
