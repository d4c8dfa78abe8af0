"""Degenerate: nothing is generated, every image is uniform noise drawn from the request's seed."""

import numpy as np
from PIL import Image


def load(model, device):
    return None


def generate(pipeline, requests):
    return [noise(request) for request in requests]


def noise(request):
    rng = np.random.default_rng(request.seed)
    return Image.fromarray(rng.integers(0, 256, (request.height, request.width, 3), dtype=np.uint8))
