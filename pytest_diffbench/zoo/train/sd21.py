"""Stable Diffusion 2.1, tiny: v-prediction, linear projections, another text encoder; it begins where 1.5 ended."""

from __future__ import annotations

from typing import Final

from diffusers import DDIMScheduler, UNet2DConditionModel

from pytest_diffbench.zoo.train import denoiser

WIDTH: Final = 96
"""Of the text encoder, which is wider and deeper than that of 1.5, as the real one is."""
TEXT_LAYERS: Final = 3
PHASES: Final = (denoiser.layout(700), denoiser.details(500))


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion 2.1's own scheduler, with every value spelled out."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
        rescale_betas_zero_snr=False,
    )


def build_unet() -> UNet2DConditionModel:
    """An untrained denoiser of about 1.4 million parameters: more heads where there are more channels."""
    return UNet2DConditionModel(
        sample_size=denoiser.LATENT_SIDE,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(32, 56, 64),
        norm_num_groups=8,
        attention_head_dim=(2, 4, 4),
        cross_attention_dim=WIDTH,
        use_linear_projection=True,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )


def begin_with(unet: UNet2DConditionModel, trained: UNet2DConditionModel) -> UNet2DConditionModel:
    """`unet` with what it can take over from one of 1.5: all but what reads the text."""
    weights, own = trained.state_dict(), unet.state_dict()
    for name, weight in own.items():
        old = weights[name]
        if old.numel() == weight.numel():  # a projection by a 1 x 1 convolution is a linear one
            own[name] = old.reshape(weight.shape)
    unet.load_state_dict(own)
    return unet
