"""PixArt-alpha, dpm_solver-20-fixed: block_reuse(interval=5) + guidance_window(stop=0.7)."""

import torch
from diffagent.methods import block_reuse, guidance_window
from diffusers import DPMSolverMultistepScheduler, PixArtAlphaPipeline


def load(model, device):
    pipeline = PixArtAlphaPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def generate(pipeline, requests):
    first = requests[0]
    with (
        block_reuse(pipeline, interval=5, warm_up=1),
        guidance_window(pipeline, start=0.0, stop=0.7),
    ):
        result = draw(pipeline, requests, first)
    return result.images


def draw(pipeline, requests, first):
    return pipeline(
        prompt=[request.prompt for request in requests],
        height=first.height,
        width=first.width,
        num_inference_steps=first.num_inference_steps,
        guidance_scale=first.guidance_scale,
        generator=[torch.Generator().manual_seed(request.seed) for request in requests],
        use_resolution_binning=False,  # exactly the size that is asked for
    )
