"""DiT, ddim-50: ddim(steps=10) + block_reuse(interval=2) + guidance_window(stop=0.7)."""

import torch
from diffagent.methods import block_reuse, guidance_window
from diffusers import DDIMScheduler, DiTPipeline


def load(model, device):
    pipeline = DiTPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def generate(pipeline, requests):
    first = requests[0]
    with (
        block_reuse(pipeline, interval=2, warm_up=1),
        guidance_window(pipeline, start=0.0, stop=0.7),
    ):
        result = draw(pipeline, requests, first)
    return result.images


def draw(pipeline, requests, first):
    return pipeline(
        class_labels=[request.class_label for request in requests],
        num_inference_steps=10,
        guidance_scale=first.guidance_scale,
        generator=[torch.Generator().manual_seed(request.seed) for request in requests],
    )
