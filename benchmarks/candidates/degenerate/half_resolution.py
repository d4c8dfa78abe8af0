"""Degenerate: half the height and width are generated, and enlarged to what was asked for."""

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image


def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def generate(pipeline, requests):
    first = requests[0]
    result = pipeline(
        prompt=[request.prompt for request in requests],
        height=first.height // 2,
        width=first.width // 2,
        num_inference_steps=first.num_inference_steps,
        guidance_scale=first.guidance_scale,
        generator=[torch.Generator().manual_seed(request.seed) for request in requests],
    )
    return [image.resize((first.width, first.height), Image.Resampling.BICUBIC) for image in result.images]
