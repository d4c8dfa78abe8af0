"""Honest: the most alike 40 % of the tokens merged, at the highest resolution's self-attention (Bolya et al. 2023)."""

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

MERGED_SHARE = 0.4


class MergedAttention:
    """Merge, attend, and give every merged token its partner's result."""

    def __init__(self, attend):
        self.attend = attend

    def __call__(self, attention, tokens, *inputs, **options):
        """What attention over all tokens gives, or nearly so."""
        merged, given = merge(tokens)
        result = self.attend(attention, merged, *inputs, **options)
        return result.gather(1, given[..., None].expand(-1, -1, result.shape[-1]))


def merge(tokens):
    """The merged tokens, and for each token which of these it went into.

    Every second token may be merged into one of the others.
    """
    count = tokens.shape[1]
    sources, targets = tokens[:, 0::2], tokens[:, 1::2]
    likeness, partner = (unit(sources) @ unit(targets).transpose(1, 2)).max(dim=-1)
    order = likeness.argsort(dim=1, descending=True)
    gone, kept = order[:, : int(MERGED_SHARE * count)], order[:, int(MERGED_SHARE * count) :]
    into = partner.gather(1, gone)
    targets = targets.scatter_reduce(1, wide(into, tokens), sources.gather(1, wide(gone, tokens)), "mean")
    merged = torch.cat([targets, sources.gather(1, wide(kept, tokens))], dim=1)
    given = torch.empty(tokens.shape[:2], dtype=torch.long, device=tokens.device)
    places = torch.arange(merged.shape[1], device=tokens.device).expand(len(tokens), -1)
    given[:, 1::2] = places[:, : targets.shape[1]]
    given[:, 0::2] = given[:, 0::2].scatter(1, gone, into).scatter(1, kept, places[:, targets.shape[1] :])
    return merged, given


def unit(tokens):
    return torch.nn.functional.normalize(tokens, dim=-1)


def wide(indices, tokens):
    return indices[..., None].expand(-1, -1, tokens.shape[-1])


def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    for level in (pipeline.unet.down_blocks[0], pipeline.unet.up_blocks[-1]):
        for transformer in level.attentions:
            for block in transformer.transformer_blocks:
                block.attn1.set_processor(MergedAttention(block.attn1.processor))
    return pipeline.to(device)


def generate(pipeline, requests):
    first = requests[0]
    result = pipeline(
        prompt=[request.prompt for request in requests],
        height=first.height,
        width=first.width,
        num_inference_steps=first.num_inference_steps,
        guidance_scale=first.guidance_scale,
        generator=[torch.Generator().manual_seed(request.seed) for request in requests],
    )
    return result.images
