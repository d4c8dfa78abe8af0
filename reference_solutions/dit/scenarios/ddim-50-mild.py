"""DiT, ddim-50, if it need not be hard: ddim(steps=10)."""

import torch
from diffusers import DDIMScheduler, DiTPipeline


def load(model, device):
    pipeline = DiTPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def generate(pipeline, requests):
    first = requests[0]
    return draw(pipeline, requests, first).images


def draw(pipeline, requests, first):
    return pipeline(
        class_labels=[request.class_label for request in requests],
        num_inference_steps=10,
        guidance_scale=first.guidance_scale,
        generator=[torch.Generator().manual_seed(request.seed) for request in requests],
    )
