"""How far the candidate's images as a set lie from the baseline's: FID, KID, and each pair's PSNR and SSIM."""

from __future__ import annotations

import math
import tempfile
import warnings
from dataclasses import dataclass
from http.client import HTTPException
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from pytest_diffbench.errors import SetupError
from pytest_diffbench.records import Distribution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from pytest_diffbench.judge.clip import ClipScorer

BATCH: Final = 16
"""Images of each arm that are in memory at once, where they come from an iterator."""
KERNEL_ROWS: Final = 512
"""Rows of a kernel matrix that are in memory at once."""
PSNR_CAP_DB: Final = 100.0
FETCH_TIMEOUT_S: Final = 60.0
"""Of silence on the line, not of the whole download."""

_WINDOW_SIDE: Final = 11
_WINDOW_DEVIATION: Final = 1.5
_C1: Final = (0.01 * 255) ** 2
_C2: Final = (0.03 * 255) ** 2


class Features(Protocol):
    """What turns images into vectors whose distribution is compared."""

    @property
    def name(self) -> str:
        """What the report calls them: the figures mean nothing without it."""

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """One row for each image, of shape (height, width, 3): (n, d)."""


def compare(
    baseline_images: Iterable[NDArray[np.uint8]],
    candidate_images: Iterable[NDArray[np.uint8]],
    features: Features,
) -> Distribution:
    """All that `Distribution` holds, of images that come in the order of their requests.

    Iterators are read once, a few images at a time. SetupError where there are fewer than two pairs or `features`
    fails at its part; ValueError where one arm has more images than the other, or a pair is not of one size.
    """
    pairs = zip(baseline_images, candidate_images, strict=True)
    rows: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]] = ([], [])
    noise_db: list[float] = []
    similarity: list[float] = []
    while batch := tuple(islice(pairs, BATCH)):
        for arm, images in zip(rows, zip(*batch, strict=True), strict=True):
            arm.append(_extracted(features, images))
        noise_db.extend(psnr_db(*pair) for pair in batch)
        similarity.extend(ssim(*pair) for pair in batch)
    count = len(noise_db)
    if count < 2:
        raise SetupError(
            f"diffbench: a distribution of {count} image(s) has no spread: "
            "compare at least 2 of each arm, and a thousand for figures that mean something"
        )
    baseline, candidate = (np.concatenate(arm) for arm in rows)
    return Distribution(
        images=count,
        fid=frechet_distance(baseline, candidate),
        kid=kernel_distance(baseline, candidate, paired=True),
        psnr_db=math.fsum(noise_db) / count,
        ssim=math.fsum(similarity) / count,
        features=features.name,
    )


def frechet_distance(x1: NDArray[np.floating[Any]], x2: NDArray[np.floating[Any]]) -> float:
    """The squared Frechet distance of two Gaussians with the samples' means and covariances (Heusel et al. 2017).

    Samples are (n1, d) and (n2, d); ValueError where they are not, or hold fewer than two rows.
    """
    first, second = _samples(x1, x2)
    shift = first.mean(axis=0) - second.mean(axis=0)
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    freedom = len(first) - 1, len(second) - 1
    # Tr sqrt(S1 S2) without a square root of a matrix: S1 S2's eigenvalues are the squared singular values of X1 X2'
    overlap = np.linalg.norm(_short(first) @ _short(second).T, ord="nuc") / math.sqrt(freedom[0] * freedom[1])
    spread = np.square(first).sum() / freedom[0] + np.square(second).sum() / freedom[1]
    return max(0.0, float(shift @ shift + spread - 2 * overlap))


def kernel_distance(x1: NDArray[np.floating[Any]], x2: NDArray[np.floating[Any]], *, paired: bool = False) -> float:
    """The squared maximum mean discrepancy under the kernel (x.y / d + 1)^3, unbiased (Binkowski et al. 2018).

    Samples are (n1, d) and (n2, d), all of them used: no subsets are drawn. Unbiased means that it is negative for
    about half of all equal distributions. `paired` says that row i of both comes of the same request, so that only
    different rows are independent: these pairs are left out (Gretton et al. 2012, eq. 4), the same sample twice is 0.
    ValueError where the shapes do not fit, or there are fewer than two rows.
    """
    first, second = _samples(x1, x2)
    if paired and len(first) != len(second):
        raise ValueError(f"samples of {len(first)} and {len(second)} rows are no pairs: both must have as many")
    within = _kernel_mean(first, first, diagonal=False) + _kernel_mean(second, second, diagonal=False)
    return within - 2 * _kernel_mean(first, second, diagonal=not paired)


def psnr_db(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two images of one shape in decibel, at most 100, which identical ones have."""
    _same_shape(a, b)
    error = float(np.mean(np.square(np.subtract(a, b, dtype=np.float64))))
    return PSNR_CAP_DB if error == 0 else min(PSNR_CAP_DB, 10 * math.log10(255**2 / error))


def ssim(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Structural similarity, mean over all windows and channels; 1 for identical images (Wang et al. 2004).

    Windows are the paper's: Gaussian, 11 x 11 pixels, deviation 1.5, those only that lie inside the image. Images are
    (height, width, 3) of the same shape, at least 11 pixels high and wide: ValueError where they are not.
    """
    _same_shape(a, b)
    if min(a.shape[:2]) < _WINDOW_SIDE:
        raise ValueError(f"an image of shape {a.shape} is smaller than SSIM's window of {_WINDOW_SIDE} pixels")
    # variances do not change with what is subtracted, and single precision holds them best around 0
    grey_x, grey_y = (np.float32(round(float(image.mean()))) for image in (a, b))
    x, y = np.subtract(a, grey_x, dtype=np.float32), np.subtract(b, grey_y, dtype=np.float32)
    mean_x, mean_y = _windows(x), _windows(y)
    covariance = _windows(x * y) - mean_x * mean_y
    variances = _windows(x * x + y * y) - (mean_x * mean_x + mean_y * mean_y)
    mean_x, mean_y = mean_x + grey_x, mean_y + grey_y
    light = (2 * mean_x * mean_y + _C1) / (mean_x * mean_x + mean_y * mean_y + _C1)
    structure = (2 * covariance + _C2) / (variances + _C2)
    return float(np.mean(light * structure, dtype=np.float64))


def inception_features(device: str) -> Features:
    """The 2048 features of FID: clean-fid's resizing and its Inception network, on torch's `device`.

    The weights lie among torch.hub's (`TORCH_HOME` moves them) and are fetched once, from where clean-fid has them.
    SetupError where clean-fid or the weights are not to be had, or are damaged.
    """
    # torch takes seconds, and clean-fid is installed by few: only who asks for this distance pays for them
    import torch

    resize, downloads, network = map(_clean_fid, ("resize", "downloads_helper", "inception_torchscript"))
    url = str(downloads.inception_url)
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.exists():
        _fetch(url, path)
    return _Inception(resize.make_resizer("PIL", False, "bicubic", (299, 299)), _network(network, path, device), device)


def scorer_features(scorer: ClipScorer, name: str = "CLIP image embeddings") -> Features:
    """A loaded scorer's image embeddings, brought to a mean square of 1, so that the kernel's x.y / d is a cosine."""
    return _Embeddings(scorer, name)


@dataclass(frozen=True)
class _Inception:
    resize: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    """From (height, width, 3) to (299, 299, 3), still 0 to 255, not rounded to whole numbers."""
    network: Any
    device: str
    name: str = "Inception v3 (clean-fid)"

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        import torch  # as in `inception_features`

        pixels = torch.from_numpy(np.stack([self.resize(image) for image in images])).permute(0, 3, 1, 2)
        with torch.no_grad():
            found: NDArray[np.float32] = self.network(pixels.to(self.device)).float().cpu().numpy()
        return found


@dataclass(frozen=True)
class _Embeddings:
    scorer: ClipScorer
    name: str

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        # the scorer reads a text with every batch; an empty one costs least, and is not looked at
        embeds, _ = self.scorer.embed([""], images)
        unit: NDArray[np.float32] = embeds.numpy()
        return unit * np.float32(math.sqrt(unit.shape[1]))


def _samples(
    x1: NDArray[np.floating[Any]], x2: NDArray[np.floating[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both in double precision, checked."""
    if x1.ndim != 2 or x2.ndim != 2 or x1.shape[1] != x2.shape[1]:
        raise ValueError(f"samples of shapes {x1.shape} and {x2.shape} cannot be compared: (n1, d) and (n2, d) can")
    if min(len(x1), len(x2)) < 2:
        raise ValueError(f"samples of {len(x1)} and {len(x2)} rows: a spread needs at least 2 of each")
    return x1.astype(np.float64), x2.astype(np.float64)


def _short(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows with the same products X'X, at most as many as there are columns: ten thousand images stay affordable."""
    if len(centred) <= centred.shape[1]:
        return centred
    # numpy's stubs promise Q and R in every mode
    return np.asarray(np.linalg.qr(centred, mode="r"), np.float64)


def _kernel_mean(x: NDArray[np.float64], y: NDArray[np.float64], *, diagonal: bool) -> float:
    """The mean of the kernel over all rows of `x` with all rows of `y`, or with all but the row of its own index."""
    total = math.fsum(
        float(_kernel(x[start : start + KERNEL_ROWS] @ y.T, x.shape[1]).sum())
        for start in range(0, len(x), KERNEL_ROWS)
    )
    if diagonal:
        return total / (len(x) * len(y))
    own = float(_kernel(np.einsum("ij,ij->i", x, y), x.shape[1]).sum())
    return (total - own) / (len(x) * (len(x) - 1))


def _kernel(products: NDArray[np.float64], dimensions: int) -> NDArray[np.float64]:
    base = products / dimensions + 1
    return base * base * base  # an order of magnitude faster than a power


def _same_shape(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> None:
    if a.shape != b.shape:
        raise ValueError(f"images of shapes {a.shape} and {b.shape} cannot be compared pixel by pixel")


def _windows(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The Gaussian mean of every window that lies inside: 10 rows and 10 columns fewer."""
    weights = np.exp(-0.5 * np.square((np.arange(_WINDOW_SIDE) - _WINDOW_SIDE // 2) / _WINDOW_DEVIATION))
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in (0, 1):
        count = values.shape[axis] - _WINDOW_SIDE + 1
        source = np.moveaxis(values, axis, 0)
        total = weights[0] * source[:count]
        for offset in range(1, _WINDOW_SIDE):
            total += weights[offset] * source[offset : offset + count]
        values = np.moveaxis(total, 0, axis)
    return values


def _extracted(features: Features, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Features of these images, checked."""
    found = features(images)
    if found.ndim != 2 or len(found) != len(images):
        raise SetupError(
            f"diffbench: {features.name} gave features of shape {found.shape} for {len(images)} image(s): "
            "it must give one row an image"
        )
    if not np.isfinite(found).all():
        raise SetupError(f"diffbench: {features.name} gave features that are no numbers: are its weights damaged?")
    return found


def _clean_fid(module: str) -> Any:
    """A module of clean-fid's; those that are asked for leave torchvision alone, where its `features` would not."""
    try:
        return import_module(f"cleanfid.{module}")
    except ModuleNotFoundError as error:
        raise SetupError(
            f"diffbench: FID needs clean-fid, and {error.name} is not installed: pip install --no-deps clean-fid "
            "requests (its dependency torchvision is not needed, and the index's does not load beside a CPU torch)"
        ) from error
    except (ImportError, RuntimeError, AttributeError) as error:
        # torchvision for CUDA beside a torch for the CPU: "operator torchvision::nms does not exist"
        raise SetupError(
            f"diffbench: clean-fid is installed but cannot be imported: {error}; where this is about torchvision, "
            "install it from the index that torch came from"
        ) from error


def _fetch(url: str, path: Path) -> None:
    """Download to `path`, whole or not at all."""
    # only who asks for this distance loads the client
    from urllib.request import urlopen

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # clean-fid's own download leaves half a file when interrupted, never gives up, and trusts what lies in /tmp
        with (
            tempfile.TemporaryDirectory(dir=path.parent) as folder,
            urlopen(url, timeout=FETCH_TIMEOUT_S) as response,  # noqa: S310 (clean-fid's constant)
        ):
            part = Path(folder) / path.name
            part.write_bytes(response.read())  # in one piece: piece by piece, an early end of the answer goes unnoticed
            part.replace(path)
    except (OSError, HTTPException) as error:
        raise SetupError(
            f"diffbench: cannot fetch the weights of FID's Inception network: {error}; "
            f"fetch {url} on a machine that can, and put it at {path}"
        ) from error


def _network(module: Any, path: Path, device: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript, which clean-fid and its file are
            return module.InceptionV3W(str(path.parent), download=False).to(device).eval()
    except (RuntimeError, AssertionError, ValueError, OSError) as error:  # an assertion: torch without that device
        raise SetupError(
            f"diffbench: cannot load FID's Inception network from {path} to {device}: {error}; "
            "if the file is damaged, remove it, and it is fetched again"
        ) from error
