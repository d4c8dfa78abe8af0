"""DiT, ddim-50: unipc(steps=10) + guidance_window(stop=0.5) + block_reuse(interval=2, warm_up=1)."""

import torch
from diffagent.methods import block_reuse, guidance_window
from diffusers import DiTPipeline, UniPCMultistepScheduler

NUM_INFERENCE_STEPS = 10


def load(model, device):
    pipeline = DiTPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def generate(pipeline, requests):
    first = requests[0]
    with (
        guidance_window(pipeline, stop=0.5),
        block_reuse(pipeline, interval=2, warm_up=1),
    ):
        result = pipeline(
            class_labels=[request.class_label for request in requests],
            num_inference_steps=NUM_INFERENCE_STEPS,
            guidance_scale=first.guidance_scale,
            generator=[torch.Generator().manual_seed(request.seed) for request in requests],
        )
    return result.images
