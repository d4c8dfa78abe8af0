"""DiT, dpm_solver-25-fixed, if it need not be hard: block_reuse(interval=4) + guidance_window(stop=0.9)."""

import torch
from diffagent.methods import block_reuse, guidance_window
from diffusers import DiTPipeline, DPMSolverMultistepScheduler


def load(model, device):
    pipeline = DiTPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def generate(pipeline, requests):
    first = requests[0]
    with (
        block_reuse(pipeline, interval=4, warm_up=1),
        guidance_window(pipeline, start=0.0, stop=0.9),
    ):
        result = draw(pipeline, requests, first)
    return result.images


def draw(pipeline, requests, first):
    return pipeline(
        class_labels=[request.class_label for request in requests],
        num_inference_steps=first.num_inference_steps,
        guidance_scale=first.guidance_scale,
        generator=[torch.Generator().manual_seed(request.seed) for request in requests],
    )
