"""Degenerate: nothing is generated, every image is black."""

from PIL import Image


def load(model, device):
    return None


def generate(pipeline, requests):
    return [Image.new("RGB", (request.width, request.height)) for request in requests]
