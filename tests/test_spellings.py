"""However people and language models write what is demanded, the static check does not call it wrong.

Each is a whole way to load, to generate, or to apply a method, put into an otherwise plain answer; none is run here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
from diffagent.catalogue import METHODS

from pytest_diffbench import Task, methods
from pytest_diffbench.demand import Markers, resolve
from pytest_diffbench.static_check import check
from pytest_diffbench.zoo.models import FAMILIES

KNOWN = {method.name: method for method in (*methods.BUILT_IN, *METHODS)}
HEAD = """
import functools
import diffusers
import torch
from diffusers import AutoPipelineForText2Image, DiffusionPipeline, DPMSolverMultistepScheduler, StableDiffusionPipeline
"""
LOAD = """
def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.bfloat16)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(device)
"""
GENERATE = """
def generate(pipeline, requests):
    return pipeline([request.prompt for request in requests], num_inference_steps=20).images
"""
LOADS: Final = {
    "keywords in another order": """
def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(use_safetensors=True, torch_dtype=torch.bfloat16,
                                                       pretrained_model_name_or_path=model)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(config=pipeline.scheduler.config)
    return pipeline.to(device)
""",
    "scheduler first": """
def load(model, device):
    fast = DPMSolverMultistepScheduler.from_pretrained(model, subfolder="scheduler")
    return StableDiffusionPipeline.from_pretrained(model, scheduler=fast, dtype=torch.bfloat16).to(device)
""",
    "settings of the scheduler": """
def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.bfloat16)
    config = dict(pipeline.scheduler.config)
    config.update(use_karras_sigmas=True, algorithm_type="dpmsolver++")
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(config)
    return pipeline.to(device)
""",
    "setattr": """
def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.bfloat16)
    setattr(pipeline, "scheduler", DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config))
    return pipeline.to(device)
""",
    "register_modules": """
def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.bfloat16)
    pipeline.register_modules(scheduler=DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config))
    return pipeline.to(device)
""",
    "a class looked up by name": """
SCHEDULER = "DPMSolverMultistepScheduler"
def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.bfloat16)
    pipeline.scheduler = getattr(diffusers, SCHEDULER).from_config(pipeline.scheduler.config)
    return pipeline.to(device)
""",
    "a class in a dictionary": """
SCHEDULERS = {"fast": DPMSolverMultistepScheduler}
def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.bfloat16)
    pipeline.scheduler = SCHEDULERS["fast"].from_config(pipeline.scheduler.config)
    return pipeline.to(device)
""",
    "a helper that makes the scheduler": """
def fast(config):
    return DPMSolverMultistepScheduler.from_config(config, use_karras_sigmas=True)

def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.bfloat16)
    pipeline.scheduler = fast(pipeline.scheduler.config)
    return pipeline.to(device)
""",
    "a helper that loads": """
def _load(path):
    return StableDiffusionPipeline.from_pretrained(path, dtype=torch.bfloat16)

def load(model, device):
    pipeline = _load(model)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(device)
""",
    "a chain of calls": """
def load(model, device):
    def with_scheduler(pipeline):
        pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
        return pipeline
    return with_scheduler(StableDiffusionPipeline.from_pretrained(model, dtype=torch.bfloat16)).to(device)
""",
    "functools.partial": """
build = functools.partial(StableDiffusionPipeline.from_pretrained, dtype=torch.bfloat16)
def load(model, device):
    pipeline = build(model)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(device)
""",
    "options in a dictionary": """
OPTIONS = {"dtype": torch.bfloat16, "low_cpu_mem_usage": True}
def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(model, **OPTIONS)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(device)
""",
    "the model in an f-string": """
def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(f"{model}", dtype=torch.bfloat16)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(device)
""",
    "the model's id in parts": """
OWNER, NAME = "stable-diffusion-v1-5", "stable-diffusion-v1-5"
def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(f"{OWNER}/{NAME}", dtype=torch.bfloat16)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(device)
""",
    "the path as str": """
def load(model, device):
    path = str(model)
    pipeline = StableDiffusionPipeline.from_pretrained(path, dtype=torch.bfloat16)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(device)
""",
    "the automatic pipeline": """
def load(model, device):
    pipeline = AutoPipelineForText2Image.from_pretrained(model, dtype=torch.bfloat16)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(device)
""",
    "the general pipeline": """
def load(model, device):
    pipeline = DiffusionPipeline.from_pretrained(model, dtype=torch.bfloat16)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(device)
""",
    "the module's class": """
def load(model, device):
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(model, dtype=torch.bfloat16)
    pipeline.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(device)
""",
    "the singlestep solver": """
def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.bfloat16)
    pipeline.scheduler = diffusers.DPMSolverSinglestepScheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(device)
""",
    "from_pipe": """
def load(model, device):
    first = DiffusionPipeline.from_pretrained(model, dtype=torch.bfloat16)
    pipeline = StableDiffusionPipeline.from_pipe(first)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(device)
""",
    "a class of one's own": """
class Fast(StableDiffusionPipeline):
    pass

def load(model, device):
    pipeline = Fast.from_pretrained(model, dtype=torch.bfloat16)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(device)
""",
    "inside a class": """
class Runner:
    def __init__(self, model, device):
        self.pipe = StableDiffusionPipeline.from_pretrained(model, dtype=torch.bfloat16).to(device)
        self.pipe.scheduler = DPMSolverMultistepScheduler.from_config(self.pipe.scheduler.config)

    def __call__(self, *args, **kwargs):
        return self.pipe(*args, **kwargs)

def load(model, device):
    return Runner(model, device)
""",
    "an import inside": """
def load(model, device):
    from diffusers import DPMSolverMultistepScheduler as Solver, StableDiffusionPipeline as Pipe
    pipeline = Pipe.from_pretrained(model, dtype=torch.bfloat16)
    pipeline.scheduler = Solver.from_config(pipeline.scheduler.config)
    return pipeline.to(device)
""",
    "a module under another name": """
import diffusers as d
def load(model, device):
    pipeline = d.StableDiffusionPipeline.from_pretrained(model, dtype=torch.bfloat16)
    pipeline.scheduler = d.DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(device)
""",
    "to(device, dtype)": """
def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(model)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(device, torch.bfloat16)
""",
    "to(dtype) of each part": """
def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(model)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.to(dtype=torch.bfloat16)
    return pipeline.to(device)
""",
    ".bfloat16()": """
def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(model)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.unet.bfloat16()
    pipeline.vae.bfloat16()
    return pipeline.to(device)
""",
    "the dtype by the device": """
def load(model, device):
    dtype = torch.float16 if device == "cuda" else torch.bfloat16
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=dtype)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(device)
""",
    "the dtype in a dictionary": """
DTYPES = {"cpu": torch.bfloat16, "cuda": torch.float16}
def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=DTYPES[device])
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(device)
""",
    "getattr of the dtype": """
def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=getattr(torch, "bfloat16"))
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(device)
""",
    "a try around it": """
try:
    import xformers
except ImportError:
    xformers = None

def load(model, device):
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.bfloat16, local_files_only=True)
    except OSError:
        pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.bfloat16)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(device)
""",
    "annotations": """
def load(model: str, device: str = "cpu") -> StableDiffusionPipeline:
    pipeline: StableDiffusionPipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.bfloat16)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(device)
""",
    "other names for arguments": """
def load(path, where):
    pipeline = StableDiffusionPipeline.from_pretrained(path, dtype=torch.bfloat16)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(where)
""",
}
SCHEDULED = "pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)"
LOADS_ELSEWHERE: Final = {
    ("image", "a pipeline of another's parts"): """
from diffusers import AutoPipelineForImage2Image
def load(model, device):
    drawing = AutoPipelineForText2Image.from_pretrained(model, dtype=torch.bfloat16)
    pipeline = AutoPipelineForImage2Image.from_pipe(drawing)
    SCHEDULED
    return pipeline.to(device)
""",
    ("image", "components"): """
def load(model, device):
    drawing = StableDiffusionPipeline.from_pretrained(model, dtype=torch.bfloat16)
    pipeline = diffusers.StableDiffusionImg2ImgPipeline(**drawing.components)
    SCHEDULED
    return pipeline.to(device)
""",
    ("image", "a class by what it begins with"): """
if hasattr(diffusers, "StableDiffusionImg2ImgPipeline"):
    from diffusers import StableDiffusionImg2ImgPipeline as ThePipeline
else:
    from diffusers import AutoPipelineForImage2Image as ThePipeline
def load(model, device):
    pipeline = ThePipeline.from_pretrained(model, dtype=torch.bfloat16)
    SCHEDULED
    return pipeline.to(device)
""",
    ("image", "a class that is handed on"): """
def build(Pipeline, model):
    return Pipeline.from_pretrained(model, dtype=torch.bfloat16)
def load(model, device):
    pipeline = build(diffusers.StableDiffusionImg2ImgPipeline, model)
    SCHEDULED
    return pipeline.to(device)
""",
    ("image", "classes looked up by name"): """
Pipeline = getattr(diffusers, "StableDiffusionImg2ImgPipeline")
Scheduler = getattr(diffusers, "DPMSolverMultistepScheduler")
def load(model, device):
    pipeline = Pipeline.from_pretrained(model, dtype=torch.bfloat16)
    pipeline.scheduler = Scheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(device)
""",
    ("image", "an import that may fail"): """
try:
    from diffusers import StableDiffusionImg2ImgPipeline
except ImportError:
    StableDiffusionImg2ImgPipeline = None
def load(model, device):
    if StableDiffusionImg2ImgPipeline is not None:
        pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(model, dtype=torch.bfloat16)
    else:
        pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.bfloat16)
    SCHEDULED
    return pipeline.to(device)
""",
    ("image", "a class handed to a helper"): """
def begin_with_an_image(base, Pipeline):
    return Pipeline(**base.components)
def load(model, device):
    base = StableDiffusionPipeline.from_pretrained(model, dtype=torch.bfloat16)
    pipeline = begin_with_an_image(base, diffusers.StableDiffusionImg2ImgPipeline)
    SCHEDULED
    return pipeline.to(device)
""",
    ("class", "schedulers to choose from"): """
def load(model, device):
    pipeline = DiffusionPipeline.from_pretrained(model, dtype=torch.bfloat16)
    def scheduled(Scheduler):
        return Scheduler.from_config(pipeline.scheduler.config)
    fast = scheduled(DPMSolverMultistepScheduler)
    setattr(pipeline, "scheduler", fast)
    return pipeline.to(device)
""",
    ("text", "a pipeline of one's own"): """
class FastPipeline(StableDiffusionPipeline):
    pass
class TunedScheduler(DPMSolverMultistepScheduler):
    pass
def load(model, device):
    pipeline = FastPipeline.from_pretrained(model, dtype=torch.bfloat16)
    pipeline.scheduler = TunedScheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(device)
""",
    ("text", "a wrapper with a pipeline's name"): """
class FastPipeline:
    def __init__(self, pipeline):
        self.pipeline = pipeline
    @classmethod
    def from_pretrained(cls, model):
        return cls(DiffusionPipeline.from_pretrained(model, dtype=torch.bfloat16))
def load(model, device):
    pipeline = FastPipeline.from_pretrained(model).pipeline
    SCHEDULED
    return pipeline.to(device)
""",
    ("text", "a scheduler of two"): """
try:
    from diffusers import DPMSolverSDEScheduler as Scheduler
except ImportError:
    Scheduler = DPMSolverMultistepScheduler
def load(model, device):
    Scheduler = DPMSolverMultistepScheduler
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.bfloat16)
    pipeline.scheduler = Scheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(device)
""",
    ("class", "by its class"): """
from diffusers import DiTPipeline
def load(model, device):
    pipeline = DiTPipeline.from_pretrained(model, dtype=torch.bfloat16)
    SCHEDULED
    return pipeline.to(device)
""",
    ("class", "the general pipeline"): """
def load(model, device):
    pipeline = DiffusionPipeline.from_pretrained(model, dtype=torch.bfloat16)
    SCHEDULED
    return pipeline.to(device)
""",
    ("PixArt", "parts first"): """
from diffusers import PixArtSigmaPipeline, PixArtTransformer2DModel
def load(model, device):
    transformer = PixArtTransformer2DModel.from_pretrained(model, subfolder="transformer", dtype=torch.bfloat16)
    pipeline = PixArtSigmaPipeline.from_pretrained(model, transformer=transformer, dtype=torch.bfloat16)
    SCHEDULED
    return pipeline.to(device)
""",
}
USES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "image": ("sd15", {"strength": 0.6}),
    "text": ("sd15", {}),
    "class": ("dit", {}),
    "PixArt": ("pixart_sigma", {}),
}
GENERATES: Final = {
    "everything by keyword": """
def generate(pipeline, requests):
    return pipeline(num_inference_steps=20, guidance_scale=7.5, prompt=[r.prompt for r in requests]).images
""",
    "a constant": """
NUM_INFERENCE_STEPS = 20
def generate(pipeline, requests):
    return pipeline([r.prompt for r in requests], num_inference_steps=NUM_INFERENCE_STEPS).images
""",
    "a dictionary": """
CONFIG = {"num_inference_steps": 20, "guidance_scale": 7.5}
def generate(pipeline, requests):
    return pipeline([r.prompt for r in requests], **CONFIG).images
""",
    "a dictionary that is filled": """
def generate(pipeline, requests):
    options = {}
    options["num_inference_steps"] = 20
    return pipeline([r.prompt for r in requests], **options).images
""",
    "functools.partial": """
def generate(pipeline, requests):
    call = functools.partial(pipeline, num_inference_steps=20)
    return call([r.prompt for r in requests]).images
""",
    "a lambda": """
call = lambda pipeline, prompts: pipeline(prompts, num_inference_steps=20)
def generate(pipeline, requests):
    return call(pipeline, [r.prompt for r in requests]).images
""",
    "one by one": """
def generate(pipeline, requests):
    images = []
    for request in requests:
        generator = torch.Generator().manual_seed(request.seed)
        images.append(pipeline(request.prompt, num_inference_steps=20, generator=generator).images[0])
    return images
""",
    "a helper with a default": """
def draw(pipeline, prompts, steps=20):
    return pipeline(prompts, num_inference_steps=steps).images

def generate(pipeline, requests):
    return draw(pipeline, [r.prompt for r in requests])
""",
    "a helper with an argument": """
def draw(pipeline, prompts, steps):
    return pipeline(prompts, num_inference_steps=steps).images

def generate(pipeline, requests):
    return draw(pipeline, [r.prompt for r in requests], 20)
""",
    "arithmetic": """
def generate(pipeline, requests):
    return pipeline([r.prompt for r in requests], num_inference_steps=requests[0].num_inference_steps * 2 // 5).images
""",
    "an attribute of a class": """
class Settings:
    steps = 20

def generate(pipeline, requests):
    return pipeline([r.prompt for r in requests], num_inference_steps=Settings.steps).images
""",
    "a data class": """
import dataclasses

@dataclasses.dataclass(frozen=True)
class Settings:
    num_inference_steps: int = 20

def generate(pipeline, requests):
    return pipeline([r.prompt for r in requests], **dataclasses.asdict(Settings())).images
""",
    "int()": """
def generate(pipeline, requests):
    return pipeline([r.prompt for r in requests], num_inference_steps=int(20)).images
""",
    "a walrus": """
def generate(pipeline, requests):
    if (steps := 20) > 0:
        return pipeline([r.prompt for r in requests], num_inference_steps=steps).images
""",
    "a warm-up with fewer": """
def generate(pipeline, requests):
    if not getattr(pipeline, "warm", False):
        pipeline(["warm up"], num_inference_steps=2)
        pipeline.warm = True
    return pipeline([r.prompt for r in requests], num_inference_steps=20).images
""",
    "inference mode": """
@torch.inference_mode()
def generate(pipeline, requests):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return pipeline([r.prompt for r in requests], num_inference_steps=20).images
""",
    "__call__": """
def generate(pipeline, requests):
    return pipeline.__call__([r.prompt for r in requests], num_inference_steps=20).images
""",
    "one's own loop": """
def generate(pipeline, requests):
    pipeline.scheduler.set_timesteps(20)
    latents = torch.randn(len(requests), 4, 64, 64)
    for timestep in pipeline.scheduler.timesteps:
        noise = pipeline.unet(latents, timestep, encoder_hidden_states=None).sample
        latents = pipeline.scheduler.step(noise, timestep, latents).prev_sample
    return pipeline.image_processor.postprocess(pipeline.vae.decode(latents).sample)
""",
}
PLAIN_LOAD = LOAD.replace("bfloat16", "float32").replace(
    "    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)\n", ""
)
APPLIED: Final = {
    ("deepcache", "a with statement"): """
from diffagent.methods import deepcache
def generate(pipeline, requests):
    with deepcache(pipeline, interval=3):
        return pipeline([r.prompt for r in requests]).images
""",
    ("deepcache", "by position"): """
from diffagent import methods
def generate(pipeline, requests):
    with methods.deepcache(pipeline, 3):
        return pipeline([r.prompt for r in requests]).images
""",
    ("deepcache", "an exit stack"): """
import contextlib
from diffagent.methods import deepcache as cache
def generate(pipeline, requests):
    with contextlib.ExitStack() as stack:
        stack.enter_context(cache(pipeline, interval=3, branch=0))
        return pipeline([r.prompt for r in requests]).images
""",
    ("deepcache", "the published package"): """
from DeepCache import DeepCacheSDHelper
def generate(pipeline, requests):
    helper = DeepCacheSDHelper(pipe=pipeline)
    helper.set_params(cache_interval=3, cache_branch_id=0)
    helper.enable()
    images = pipeline([r.prompt for r in requests]).images
    helper.disable()
    return images
""",
    ("deepcache", "the published package, by position"): """
import DeepCache
def generate(pipeline, requests):
    helper = DeepCache.DeepCacheSDHelper(pipeline)
    helper.set_params(3, 0)
    helper.enable()
    return pipeline([r.prompt for r in requests]).images
""",
    ("deepcache", "a constant"): """
from diffagent.methods import deepcache
INTERVAL = 3
def generate(pipeline, requests):
    with deepcache(pipeline, interval=INTERVAL):
        return pipeline([r.prompt for r in requests]).images
""",
    ("deepcache", "written by hand"): """
def generate(pipeline, requests):
    kept = {}
    whole = pipeline.unet.forward
    def forward(sample, timestep, *args, **kwargs):
        return whole(sample, timestep, *args, **kwargs)
    pipeline.unet.forward = forward
    return pipeline([r.prompt for r in requests]).images
""",
    ("token_merging", "a with statement"): """
from diffagent.methods import token_merging
def generate(pipeline, requests):
    with token_merging(pipeline, ratio=0.5):
        return pipeline([r.prompt for r in requests]).images
""",
    ("token_merging", "the published package"): """
import tomesd
def generate(pipeline, requests):
    tomesd.apply_patch(pipeline, ratio=0.5)
    return pipeline([r.prompt for r in requests]).images
""",
    ("token_merging", "the published package at its default"): """
from tomesd import apply_patch
def generate(pipeline, requests):
    apply_patch(pipeline)
    return pipeline([r.prompt for r in requests]).images
""",
    ("token_merging", "keywords in a dictionary"): """
import tomesd
OPTIONS = {"ratio": 0.5, "use_rand": False}
def generate(pipeline, requests):
    tomesd.apply_patch(pipeline, **OPTIONS)
    return pipeline([r.prompt for r in requests]).images
""",
    ("guidance_window", "a with statement"): """
from diffagent.methods import guidance_window
def generate(pipeline, requests):
    with guidance_window(pipeline, start=0.0, stop=0.6):
        return pipeline([r.prompt for r in requests]).images
""",
    ("guidance_window", "by position"): """
import diffagent.methods as fast
def generate(pipeline, requests):
    with fast.guidance_window(pipeline, 0.0, 0.6):
        return pipeline([r.prompt for r in requests]).images
""",
    ("guidance_window", "a callback that ends guidance"): """
def generate(pipeline, requests):
    def cut(pipe, step, timestep, kept):
        if step == int(pipe.num_timesteps * 0.6):
            pipe._guidance_scale = 0.0
            kept["prompt_embeds"] = kept["prompt_embeds"].chunk(2)[-1]
        return kept
    return pipeline([r.prompt for r in requests], callback_on_step_end=cut,
                    callback_on_step_end_tensor_inputs=["prompt_embeds"]).images
""",
    ("block_reuse", "a with statement"): """
from diffagent.methods import block_reuse
def generate(pipeline, requests):
    with block_reuse(pipeline, warm_up=4, interval=2):
        return pipeline([r.prompt for r in requests]).images
""",
    ("block_reuse", "blocks that remember"): """
def generate(pipeline, requests):
    for block in pipeline.unet.mid_block.attentions[0].transformer_blocks:
        whole = block.forward
        block.forward = lambda *args, _whole=whole, **kwargs: _whole(*args, **kwargs)
    return pipeline([r.prompt for r in requests]).images
""",
    ("tgate", "a with statement"): """
from diffagent.methods import tgate
def generate(pipeline, requests):
    with tgate(pipeline, gate_step=10):
        return pipeline([r.prompt for r in requests]).images
""",
    ("tgate", "the published package"): """
from tgate import TgateSDLoader
def generate(pipeline, requests):
    gated = TgateSDLoader(pipeline, gate_step=10, num_inference_steps=50)
    return gated.tgate([r.prompt for r in requests], gate_step=10, num_inference_steps=50).images
""",
    ("tgate", "a processor of one's own"): """
class Gated:
    def __call__(self, attn, hidden_states, **kwargs):
        return hidden_states

def generate(pipeline, requests):
    pipeline.unet.set_attn_processor(Gated())
    return pipeline([r.prompt for r in requests]).images
""",
}
PARAMETERS: Final = {
    "deepcache": {"interval": 3},
    "token_merging": {"ratio": 0.5},
    "tgate": {"gate_step": 10},
    "guidance_window": {"start": 0.0, "stop": 0.6},
    "block_reuse": {"interval": 2, "warm_up": 4},
}


def _checked(source: str, use: str = "text", /, **declared: object) -> None:
    model, more = USES[use]
    task = Task(model, level=2 if len(declared) == 1 else 3, methods=declared, **more)
    check(
        source,
        resolve(
            task,
            Markers(),
            task_id="it",
            summary="Do it.",
            folder=Path(),
            known_models={model.name: model for model in FAMILIES},
            known_methods=KNOWN,
        ),
    )


def test_there_are_sixty() -> None:
    """Beside those of `test_static_check`, which are read in detail."""
    assert len(LOADS) + len(LOADS_ELSEWHERE) + len(GENERATES) + len(APPLIED) >= 60


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_ways_to_load(load: str) -> None:
    """Pipeline, model, scheduler and dtype."""
    _checked(HEAD + load + GENERATE, dpm_solver={"steps": 20}, half_precision={"dtype": "bfloat16"})


@pytest.mark.parametrize(
    ("use", "load"), [(use, each) for (use, _), each in LOADS_ELSEWHERE.items()], ids=map("-".join, LOADS_ELSEWHERE)
)
def test_ways_to_load_elsewhere(use: str, load: str) -> None:
    """With an image to begin with, by class, PixArt; and names that mislead who goes by their ending."""
    source = HEAD + load.replace("SCHEDULED", SCHEDULED) + GENERATE
    _checked(source, use, dpm_solver={"steps": 20}, half_precision={"dtype": "bfloat16"})


@pytest.mark.parametrize("generate", GENERATES.values(), ids=GENERATES)
def test_ways_to_generate(generate: str) -> None:
    """The steps."""
    _checked(HEAD + LOAD + generate, dpm_solver={"steps": 20}, half_precision={"dtype": "bfloat16"})


@pytest.mark.parametrize(
    ("name", "generate"), [(name, each) for (name, _), each in APPLIED.items()], ids=map("-".join, APPLIED)
)
def test_ways_to_apply_a_method(name: str, generate: str) -> None:
    """The project's own functions, the published packages, and by hand."""
    _checked(HEAD + PLAIN_LOAD + generate, **{name: PARAMETERS[name]})
