"""Honest: no guidance, and so half the work, in the last two fifths of the steps (Kynkäänniemi et al. 2024)."""

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

GUIDED_SHARE = 0.6


def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def stop_guidance(pipeline, step, timestep, tensors):
    if step + 1 == round(GUIDED_SHARE * pipeline.num_timesteps):
        tensors["prompt_embeds"] = tensors["prompt_embeds"].chunk(2)[1]
        pipeline._guidance_scale = 1.0
    return tensors


def generate(pipeline, requests):
    first = requests[0]
    result = pipeline(
        prompt=[request.prompt for request in requests],
        height=first.height,
        width=first.width,
        num_inference_steps=first.num_inference_steps,
        guidance_scale=first.guidance_scale,
        generator=[torch.Generator().manual_seed(request.seed) for request in requests],
        callback_on_step_end=stop_guidance,
        callback_on_step_end_tensor_inputs=["prompt_embeds"],
    )
    return result.images
