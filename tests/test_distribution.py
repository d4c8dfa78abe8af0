"""Distances between sets of images: what the definitions say, symmetric, zero for equal sets, affordable, checked."""

from __future__ import annotations

import importlib
import socketserver
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, stats

from pytest_diffbench.errors import SetupError
from pytest_diffbench.judge.distribution import (
    BATCH,
    KERNEL_ROWS,
    Features,
    compare,
    frechet_distance,
    inception_features,
    kernel_distance,
    psnr_db,
    scorer_features,
    ssim,
)
from pytest_diffbench.zoo.weights import TINY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SEEDS = st.integers(0, 2**32 - 1)
ROWS = st.integers(2, 12)
COLUMNS = st.integers(1, 12)
SCALES = st.floats(0.01, 100)


def sample(seed: int, rows: int, columns: int, shift: float = 0.0) -> NDArray[np.float64]:
    """Gaussian features whose columns have different means and depend on each other."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((columns, columns)) + np.eye(columns)
    return rng.standard_normal((rows, columns)) @ mixing + np.arange(columns) + shift


def rotation(seed: int, columns: int) -> NDArray[np.float64]:
    """A random orthogonal matrix."""
    return np.asarray(np.linalg.qr(np.random.default_rng(seed).standard_normal((columns, columns))).Q)


def textbook_frechet(x1: NDArray[np.float64], x2: NDArray[np.float64]) -> float:
    """As Heusel et al. write it, with the square root of a matrix."""
    first, second = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (x1, x2))
    root = np.asarray(linalg.sqrtm(first @ second))
    shift = x1.mean(axis=0) - x2.mean(axis=0)
    return float(shift @ shift + np.trace(first) + np.trace(second) - 2 * np.trace(root).real)


def textbook_kernel(x1: NDArray[np.float64], x2: NDArray[np.float64], *, paired: bool = False) -> float:
    """As Binkowski et al. write it, term by term."""

    def mean(x: NDArray[np.float64], y: NDArray[np.float64], *, diagonal: bool) -> float:
        terms = [
            (float(a @ b) / len(a) + 1) ** 3 for i, a in enumerate(x) for j, b in enumerate(y) if diagonal or i != j
        ]
        return sum(terms) / len(terms)

    return mean(x1, x1, diagonal=False) + mean(x2, x2, diagonal=False) - 2 * mean(x1, x2, diagonal=not paired)


def picture(seed: int, side: int = 16) -> NDArray[np.uint8]:
    """Noise."""
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


class Colours:
    """Features that anyone can compute: an image's mean colour."""

    name = "mean colour"

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """One row an image."""
        return np.stack([image.mean(axis=(0, 1), dtype=np.float32) for image in images])


class Broken:
    """An extractor that gives whatever it was made with."""

    name = "broken extractor"

    def __init__(self, answer: Callable[[int], NDArray[np.float32]]) -> None:
        self._answer = answer

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """The answer for so many images."""
        return self._answer(len(images))


@pytest.mark.parametrize("columns", [1, 2, 5, 16])
@pytest.mark.parametrize("rows", [(40, 40), (40, 25), (17, 90)], ids=str)
def test_frechet_is_the_textbooks(rows: tuple[int, int], columns: int) -> None:
    """With more rows than columns, the distance of the definition with its matrix root, to ten digits."""
    for seed in range(5):
        x1, x2 = sample(seed, rows[0], columns), sample(seed + 100, rows[1], columns, shift=0.3)
        assert frechet_distance(x1, x2) == pytest.approx(textbook_frechet(x1, x2), rel=1e-10)


@pytest.mark.parametrize("rows", [(4, 4), (4, 9), (7, 30)], ids=str)
def test_frechet_is_the_textbooks_with_few_images(rows: tuple[int, int]) -> None:
    """With fewer rows than columns covariances are singular, and the matrix root is only good to a few digits."""
    x1, x2 = sample(1, rows[0], 12), sample(2, rows[1], 12)

    assert frechet_distance(x1, x2) == pytest.approx(textbook_frechet(x1, x2), rel=1e-5)


@given(SEEDS, ROWS, ROWS, COLUMNS)
@settings(deadline=None)
def test_distances_are_symmetric(seed: int, rows: int, others: int, columns: int) -> None:
    """Which set is called the baseline must not matter."""
    x1, x2 = sample(seed, rows, columns), sample(seed + 1, others, columns)

    assert frechet_distance(x1, x2) == pytest.approx(frechet_distance(x2, x1), abs=1e-9)
    assert kernel_distance(x1, x2) == pytest.approx(kernel_distance(x2, x1), abs=1e-6)


@given(SEEDS, ROWS, COLUMNS)
@settings(deadline=None)
def test_a_set_is_no_distance_from_itself(seed: int, rows: int, columns: int) -> None:
    """A candidate that changes nothing is at 0, by both distances, to rounding."""
    x = sample(seed, rows, columns)

    assert frechet_distance(x, x.copy()) >= 0
    assert frechet_distance(x, x.copy()) == pytest.approx(0, abs=1e-9 * np.square(x).sum())
    assert kernel_distance(x, x.copy(), paired=True) == pytest.approx(0, abs=1e-6)


@given(SEEDS, ROWS, COLUMNS, st.floats(-5, 5))
@settings(deadline=None)
def test_frechet_of_a_shift_is_its_square(seed: int, rows: int, columns: int, shift: float) -> None:
    """Equal covariances: what is left is the squared distance of the means."""
    x = sample(seed, rows, columns)

    assert frechet_distance(x, x + shift) == pytest.approx(columns * shift**2, rel=1e-9, abs=1e-8)


@given(SEEDS, ROWS, ROWS)
@settings(deadline=None)
def test_frechet_in_one_dimension_is_means_and_deviations(seed: int, rows: int, others: int) -> None:
    """(m1 - m2)^2 + (s1 - s2)^2, Frechet's own result of 1957."""
    x1, x2 = sample(seed, rows, 1), sample(seed + 1, others, 1, shift=2.0)
    expected = (x1.mean() - x2.mean()) ** 2 + (x1.std(ddof=1) - x2.std(ddof=1)) ** 2

    assert frechet_distance(x1, x2) == pytest.approx(expected, abs=1e-9)


@given(SEEDS, ROWS, COLUMNS, SCALES)
@settings(deadline=None)
def test_frechet_goes_with_the_square_of_the_scale(seed: int, rows: int, columns: int, scale: float) -> None:
    """Features in other units give the same distance in the square of those units."""
    x1, x2 = sample(seed, rows, columns), sample(seed + 1, rows, columns, shift=1.0)

    expected = scale**2 * frechet_distance(x1, x2)
    assert frechet_distance(scale * x1, scale * x2) == pytest.approx(expected, rel=1e-6, abs=1e-8 * scale**2)


@given(SEEDS, ROWS, COLUMNS)
@settings(deadline=None)
def test_rotated_features_are_as_far_apart(seed: int, rows: int, columns: int) -> None:
    """No direction of the features counts more than another."""
    x1, x2 = sample(seed, rows, columns), sample(seed + 1, rows, columns, shift=0.5)
    turn = rotation(seed, columns)

    assert frechet_distance(x1 @ turn, x2 @ turn) == pytest.approx(frechet_distance(x1, x2), rel=1e-7, abs=1e-8)
    for paired in (False, True):
        expected = kernel_distance(x1, x2, paired=paired)
        assert kernel_distance(x1 @ turn, x2 @ turn, paired=paired) == pytest.approx(expected, rel=1e-7, abs=1e-5)


@given(SEEDS, ROWS, COLUMNS, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_the_images_does_not_matter(seed: int, rows: int, columns: int, random: Any) -> None:
    """A set has no order; where rows are pairs, both arms are put in another order alike."""
    x1, x2 = sample(seed, rows, columns), sample(seed + 1, rows, columns)
    order = list(range(rows))
    random.shuffle(order)

    assert frechet_distance(x1[order], x2) == pytest.approx(frechet_distance(x1, x2), abs=1e-8)
    assert kernel_distance(x1[order], x2) == pytest.approx(kernel_distance(x1, x2), abs=1e-6)
    expected = kernel_distance(x1, x2, paired=True)
    assert kernel_distance(x1[order], x2[order], paired=True) == pytest.approx(expected, abs=1e-6)


@given(SEEDS, ROWS, ROWS, COLUMNS)
@settings(deadline=None)
def test_the_kernel_distance_is_the_textbooks(seed: int, rows: int, others: int, columns: int) -> None:
    """Every kernel value, summed one by one."""
    x1, x2 = sample(seed, rows, columns), sample(seed + 1, others, columns, shift=0.2)

    assert kernel_distance(x1, x2) == pytest.approx(textbook_kernel(x1, x2), abs=1e-6)
    expected = textbook_kernel(x1, x1 + 0.2, paired=True)
    assert kernel_distance(x1, x1 + 0.2, paired=True) == pytest.approx(expected, abs=1e-6)


def test_many_rows_are_summed_whole() -> None:
    """More rows than are held at once, and no multiple of them, lose none."""
    rows = 2 * KERNEL_ROWS + 3
    x1, x2 = sample(1, rows, 3), sample(2, rows, 3)
    within = [np.power(x @ x.T / 3 + 1, 3) for x in (x1, x2)]
    across = np.power(x1 @ x2.T / 3 + 1, 3)
    expected = sum((k.sum() - np.trace(k)) / (rows * (rows - 1)) for k in within) - 2 * across.mean()

    assert kernel_distance(x1, x2) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0])
def test_the_kernel_distance_of_shifted_gaussians_is_known(shift: float) -> None:
    """In one dimension 3 (m1 - m1')^2 + 3 (m2 - m2')^2 + (m3 - m3')^2 of the raw moments; small samples hit it too."""
    expected = 3 * shift**2 + 3 * shift**4 + (shift**3 + 3 * shift) ** 2
    rng = np.random.default_rng(3)
    draws = [kernel_distance(rng.normal(0, 1, (20, 1)), rng.normal(shift, 1, (20, 1))) for _ in range(2000)]

    assert abs(np.mean(draws) - expected) < 4 * stats.sem(draws)


def test_pairs_that_resemble_each_other_do_not_pull_the_kernel_distance_down() -> None:
    """Images of the same request are alike: counted as strangers they hide a difference, as pairs they do not."""
    rng = np.random.default_rng(4)
    strangers, pairs = [], []
    for _ in range(1000):
        shared = rng.normal(0, 1, (20, 1))
        x1, x2 = (0.9 * shared + np.sqrt(0.19) * rng.normal(0, 1, (20, 1)) for _ in range(2))
        strangers.append(kernel_distance(x1, x2))
        pairs.append(kernel_distance(x1, x2, paired=True))

    assert abs(np.mean(pairs)) < 4 * stats.sem(pairs)
    assert np.mean(strangers) < -10 * stats.sem(strangers)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((1, 3), (5, 3)), "at least 2 of each"),
        (((5, 3), (5, 4)), "cannot be compared"),
        (((5,), (5,)), "cannot be compared"),
    ],
    ids=["one row", "columns", "vectors"],
)
def test_samples_without_a_distance_are_refused(
    distance: Callable[..., float], shapes: tuple[tuple[int, ...], tuple[int, ...]], message: str
) -> None:
    """One image has no spread, and unlike features no distance."""
    with pytest.raises(ValueError, match=message):
        distance(np.zeros(shapes[0]), np.zeros(shapes[1]))


def test_pairs_need_as_many_of_both() -> None:
    """Three images and four are no pairs."""
    with pytest.raises(ValueError, match="no pairs"):
        kernel_distance(np.zeros((3, 2)), np.zeros((4, 2)), paired=True)


@given(SEEDS, st.integers(1, 255))
def test_psnr_is_the_errors_level_below_the_peak(seed: int, error: int) -> None:
    """20 log10(255 / e) where every value is off by e, however the bytes wrap."""
    image = np.where(picture(seed) > 127, 255, 0).astype(np.uint8)
    other = np.where(image == 255, 255 - error, error).astype(np.uint8)

    assert psnr_db(image, other) == pytest.approx(20 * np.log10(255 / error))
    assert psnr_db(other, image) == psnr_db(image, other)


def test_psnr_ends_at_100() -> None:
    """Identical images, and those that differ in one value of a large one, are at the cap."""
    large = np.zeros((512, 512, 3), np.uint8)
    touched = large.copy()
    touched[0, 0, 0] = 1

    assert psnr_db(large, large) == 100
    assert psnr_db(large, touched) == 100


@given(SEEDS, st.integers(11, 40))
@settings(deadline=None)
def test_ssim_of_an_image_with_itself_is_1(seed: int, side: int) -> None:
    """Whatever it shows; and the order of two images does not matter."""
    image, other = picture(seed, side), picture(seed + 1, side)

    assert ssim(image, image) == 1
    assert ssim(image, other) == pytest.approx(ssim(other, image), abs=1e-6)
    assert -1 <= ssim(image, other) < 1


def test_ssim_and_psnr_are_scikit_images() -> None:
    """What scikit-image 0.26.0 says with the paper's window (sigma 1.5, no sample covariance) of these two images."""
    row, column, channel = np.indices((24, 20, 3))
    ramps = row * 7 + column * 11 + channel * 29
    image, other = (ramps % 256).astype(np.uint8), ((ramps + row * column % 23) % 256).astype(np.uint8)

    assert ssim(image, other) == pytest.approx(0.5878635653134548, abs=1e-6)
    assert psnr_db(image, other) == pytest.approx(13.470111008985409, abs=1e-9)


def test_ssim_is_the_papers_window_by_window() -> None:
    """Equation 13 of Wang et al. in every 11 x 11 window, with its weighted moments, written out."""
    image, other = picture(1, 14), picture(2, 14)
    offsets = np.arange(11) - 5
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for top, left, channel in np.ndindex(4, 4, 3):
        x, y = (picture[top : top + 11, left : left + 11, channel].astype(float) for picture in (image, other))
        mx, my = (weights * x).sum(), (weights * y).sum()
        vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
        cov = (weights * (x - mx) * (y - my)).sum()
        values.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))

    assert ssim(image, other) == pytest.approx(np.mean(values), abs=1e-6)


@pytest.mark.parametrize(("dark", "light"), [(0, 255), (7, 250), (250, 249), (3, 4)])
def test_ssim_of_flat_images_is_their_light(dark: int, light: int) -> None:
    """Without any structure only brightness is left: (2ab + C1) / (aa + bb + C1), to five digits at either end."""
    a, b = (np.full((32, 32, 3), value, np.uint8) for value in (dark, light))
    c1 = (0.01 * 255) ** 2

    assert ssim(a, b) == pytest.approx((2 * dark * light + c1) / (dark**2 + light**2 + c1), abs=1e-6)


def test_more_noise_is_less_similar() -> None:
    """Similarity falls with every step of added noise."""
    row, column, channel = np.indices((64, 64, 3))
    image = (2 * row + column + 20 * channel).astype(np.uint8)
    noise = np.random.default_rng(5).standard_normal(image.shape)
    values = [ssim(image, np.clip(image + strength * noise, 0, 255).astype(np.uint8)) for strength in (0, 2, 8, 32)]

    assert values == sorted(values, reverse=True)
    assert values[0] > values[1] + 0.01


def test_pictures_that_cannot_be_compared_are_refused() -> None:
    """Another size, or one that no window fits into."""
    with pytest.raises(ValueError, match="pixel by pixel"):
        psnr_db(picture(1, 16), picture(1, 17))
    with pytest.raises(ValueError, match="pixel by pixel"):
        ssim(picture(1, 16), picture(1, 17))
    with pytest.raises(ValueError, match="smaller than"):
        ssim(picture(1, 10), picture(2, 10))


def test_compare_puts_it_all_together() -> None:
    """Each figure is that of its own function over all pairs, and the features have a name."""
    baseline, candidate = [picture(seed) for seed in range(40)], [picture(seed) for seed in range(50, 90)]
    found = compare(baseline, candidate, Colours())
    x1, x2 = Colours()(baseline), Colours()(candidate)

    assert (found.images, found.features) == (40, "mean colour")
    assert found.fid == pytest.approx(frechet_distance(x1, x2))
    assert found.kid == pytest.approx(kernel_distance(x1, x2, paired=True))
    assert found.psnr_db == pytest.approx(np.mean([psnr_db(*pair) for pair in zip(baseline, candidate, strict=True)]))
    assert found.ssim == pytest.approx(np.mean([ssim(*pair) for pair in zip(baseline, candidate, strict=True)]))


def test_a_candidate_that_changes_nothing_is_perfect() -> None:
    """No distance, all of the similarity."""
    images = [picture(seed) for seed in range(20)]
    found = compare(images, images, Colours())

    assert found.fid == pytest.approx(0, abs=1e-9)
    assert found.kid == pytest.approx(0, abs=1e-6)
    assert (found.psnr_db, found.ssim) == (100, 1)


def test_images_come_a_few_at_a_time() -> None:
    """Of iterators no more is drawn than one batch ahead of what is measured: memory does not grow with the images."""
    drawn, seen = 0, 0

    def images(offset: int) -> Iterator[NDArray[np.uint8]]:
        nonlocal drawn
        for seed in range(5 * BATCH + 1):
            drawn += 1
            yield picture(seed + offset, 11)

    class Watching(Colours):
        def __call__(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
            nonlocal seen
            assert len(images) <= BATCH
            assert drawn - seen <= 2 * BATCH
            seen += len(images)
            return super().__call__(images)

    assert compare(images(0), images(1000), Watching()).images == 5 * BATCH + 1
    assert drawn == seen == 2 * (5 * BATCH + 1)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_have_no_distribution(count: int) -> None:
    """None, or one: refused with the number that would do."""
    images = [picture(seed) for seed in range(count)]

    with pytest.raises(SetupError, match=f"of {count} image.* at least 2 of each arm"):
        compare(images, images, Colours())


def test_arms_of_unequal_length_are_no_pairs() -> None:
    """An image that has no partner is an error of the caller's, not left out in silence."""
    images = [picture(seed) for seed in range(4)]

    with pytest.raises(ValueError, match="shorter"):
        compare(images, images[:-1], Colours())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda n: np.full((n, 4), np.nan, np.float32), "no numbers: are its weights damaged"),
        (lambda n: np.full((n, 4), np.inf, np.float32), "no numbers: are its weights damaged"),
        (lambda n: np.zeros((n - 1, 4), np.float32), r"shape \(2, 4\) for 3 image.*one row an image"),
        (lambda n: np.zeros((n, 4, 1), np.float32), r"shape \(3, 4, 1\).*one row an image"),
    ],
    ids=["nan", "infinity", "rows", "dimensions"],
)
def test_a_broken_extractor_is_named(answer: Callable[[int], NDArray[np.float32]], message: str) -> None:
    """Features that are no numbers, or not one row an image, are our trouble, with the extractor's name."""
    images = [picture(seed) for seed in range(3)]

    with pytest.raises(SetupError, match=f"broken extractor gave features .*{message}"):
        compare(images, images, Broken(answer))


@pytest.fixture(scope="module")
def embeddings() -> Features:
    """The zoo's own scorer as an extractor."""
    from pytest_diffbench.judge.clip import ClipScorer

    return scorer_features(ClipScorer(TINY / "scorer"))


def test_a_scorers_embeddings_are_its_directions(embeddings: Features) -> None:
    """One row an image, of mean square 1, that points where the scorer's own embedding does, in any batch."""
    from pytest_diffbench.judge.clip import ClipScorer

    images = [picture(seed, 64) for seed in range(3)]
    found = embeddings(images)
    own, _ = ClipScorer(TINY / "scorer").embed(["a red star"], images)

    assert found.dtype == np.float32
    assert np.square(found).mean(axis=1) == pytest.approx(np.ones(3), rel=1e-5)
    assert found / np.linalg.norm(found, axis=1, keepdims=True) == pytest.approx(own.numpy(), abs=1e-5)
    assert embeddings(images[1:2])[0] == pytest.approx(found[1], abs=1e-4)


def test_the_zoos_scorer_sees_a_lost_colour(embeddings: Features) -> None:
    """Images gone grey lie further from the baseline's than images with a little noise."""
    colours = np.random.default_rng(6).integers(0, 256, (60, 2, 2, 3), dtype=np.uint8)
    baseline = [colour.repeat(32, axis=0).repeat(32, axis=1) for colour in colours]
    noise = np.random.default_rng(7).integers(0, 5, (64, 64, 3), dtype=np.uint8)
    noisy = [np.minimum(image, 250) + noise for image in baseline]
    grey = [image.mean(axis=2, keepdims=True).astype(np.uint8).repeat(3, axis=2) for image in baseline]
    near, far = compare(baseline, noisy, embeddings), compare(baseline, grey, embeddings)

    assert 0 <= near.fid < far.fid
    assert near.kid < far.kid
    assert far.features == "CLIP image embeddings"


STAND_IN = {
    "__init__": "",
    "resize": """
import numpy as np
from PIL import Image
def make_resizer(library, quantize_after, filter, output_size):
    assert (library, quantize_after, filter, output_size) == ("PIL", False, "bicubic", (299, 299))
    return lambda image: np.asarray(Image.fromarray(image).resize(output_size), np.float32)
""",
    "inception_torchscript": """
import os, torch, warnings
class InceptionV3W(torch.nn.Module):
    def __init__(self, path, download=True, resize_inside=False):
        super().__init__()
        assert not download and not resize_inside
        warnings.warn("`torch.jit.load` is deprecated", DeprecationWarning)
        self.weight = torch.nn.Parameter(torch.ones(1))
        with open(os.path.join(path, "inception-2015-12-05.pt"), "rb") as file:
            if file.read() != b"weights":
                raise RuntimeError("not a ZIP archive")
    def forward(self, x):
        assert x.shape[1:] == (3, 299, 299) and x.dtype == torch.float32 and x.max() > 1
        return self.weight * x.mean(dim=(2, 3)).repeat(1, 8)
""",
}
"""Stands for clean-fid, which is an extra: what we call of 0.1.35, with the same signatures."""


@pytest.fixture
def clean_fid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A stand-in for clean-fid; its weights lie in the file that is returned, and are asked for by a file: URL."""
    remote = tmp_path / "remote" / "inception-2015-12-05.pt"
    remote.parent.mkdir()
    remote.write_bytes(b"weights")
    package = tmp_path / "site" / "cleanfid"
    package.mkdir(parents=True)
    for name, source in STAND_IN.items():
        (package / f"{name}.py").write_text(source)
    (package / "downloads_helper.py").write_text(f"inception_url = {remote.as_uri()!r}\n")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    _forget_clean_fid()
    monkeypatch.syspath_prepend(str(package.parent))
    yield remote
    _forget_clean_fid()


def _forget_clean_fid() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cleanfid"]:
        del sys.modules[name]
    importlib.invalidate_caches()


def _cached(tmp_path: Path) -> Path:
    return tmp_path / "torch" / "hub" / "checkpoints" / "inception-2015-12-05.pt"


def test_inception_gets_images_as_clean_fid_makes_them(clean_fid: Path) -> None:
    """Resized to 299 x 299, channels first, 0 to 255; one row of features comes back for each image, whatever size."""
    features = inception_features("cpu")
    images = [np.full((side, side, 3), (200, 100, 50), np.uint8) for side in (64, 299, 512)]
    found = features(images)

    assert found.shape == (3, 24)
    assert found.dtype == np.float32
    assert found[:, :3] == pytest.approx(np.tile((200, 100, 50), (3, 1)), abs=1e-3)
    assert "clean-fid" in compare(images[:1] * 2, images[:1] * 2, features).features


def test_the_weights_are_fetched_once(clean_fid: Path, tmp_path: Path) -> None:
    """They lie where torch keeps such files, nothing beside them, and are not asked for again."""
    inception_features("cpu")
    clean_fid.unlink()
    inception_features("cpu")

    assert [path.name for path in _cached(tmp_path).parent.iterdir()] == ["inception-2015-12-05.pt"]


def test_weights_that_cannot_be_had_are_named(clean_fid: Path, tmp_path: Path) -> None:
    """The message holds the address, and the place where the file would be looked for; no half file is left."""
    clean_fid.unlink()

    with pytest.raises(SetupError, match="cannot fetch the weights") as caught:
        inception_features("cpu")
    assert clean_fid.as_uri() in str(caught.value)
    assert str(_cached(tmp_path)) in str(caught.value)
    assert list(_cached(tmp_path).parent.iterdir()) == []


class _HalfAnswer(socketserver.StreamRequestHandler):
    ANSWER: ClassVar = b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\nwei"

    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        self.wfile.write(self.ANSWER)


def test_a_download_that_breaks_off_leaves_nothing(clean_fid: Path, tmp_path: Path) -> None:
    """A connection that ends too soon is an error now, not a damaged file for ever."""
    with socketserver.TCPServer(("127.0.0.1", 0), _HalfAnswer) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/inception-2015-12-05.pt"
        (tmp_path / "site" / "cleanfid" / "downloads_helper.py").write_text(f"inception_url = {url!r}\n")
        with pytest.raises(SetupError, match=r"cannot fetch the weights.*IncompleteRead"):
            inception_features("cpu")
    assert list(_cached(tmp_path).parent.iterdir()) == []


def test_damaged_weights_say_how_to_mend_them(clean_fid: Path, tmp_path: Path) -> None:
    """The file is named, and that it may be removed."""
    clean_fid.write_bytes(b"half")

    with pytest.raises(SetupError, match=r"not a ZIP archive.*remove it") as caught:
        inception_features("cpu")
    assert str(_cached(tmp_path)) in str(caught.value)


@pytest.mark.parametrize("device", ["no-such-device", "cuda"])
def test_a_device_that_is_not_there_is_named(clean_fid: Path, device: str) -> None:
    """A torch without that device is our trouble too."""
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SetupError, match=rf"Inception network .* to {device}"):
        inception_features(device)


def test_loading_the_network_warns_of_nothing(clean_fid: Path) -> None:
    """That clean-fid's file is TorchScript, which torch calls deprecated, is nothing that a user can mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inception_features("cpu")


def test_without_clean_fid_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is the command that installs it."""
    _forget_clean_fid()
    monkeypatch.setitem(sys.modules, "cleanfid", None)
    monkeypatch.setattr(sys, "path", [])

    with pytest.raises(SetupError, match="pip install --no-deps clean-fid requests"):
        inception_features("cpu")


@pytest.mark.parametrize("fault", ["RuntimeError", "AttributeError", "ImportError"])
def test_a_torchvision_for_another_torch_says_how_to_mend_it(clean_fid: Path, tmp_path: Path, fault: str) -> None:
    """Where clean-fid's import stumbles over torchvision, the message holds torch's own words and where to get it."""
    source = f"raise {fault}('operator torchvision::nms does not exist')\n"
    (tmp_path / "site" / "cleanfid" / "resize.py").write_text(source)

    with pytest.raises(SetupError, match=r"torchvision::nms does not exist.* from the index that torch came from"):
        inception_features("cpu")


def test_torchvision_is_left_alone(clean_fid: Path, tmp_path: Path) -> None:
    """Of clean-fid only those modules are imported that do without it: its `features` is not."""
    (tmp_path / "site" / "cleanfid" / "features.py").write_text("import torchvision\n")
    inception_features("cpu")

    loaded = {name for name in sys.modules if name.partition(".")[0] == "cleanfid"}
    assert loaded == {"cleanfid", "cleanfid.resize", "cleanfid.downloads_helper", "cleanfid.inception_torchscript"}
