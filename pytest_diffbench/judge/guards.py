"""What must hold of a candidate's images whatever their score: a mean hides black, blurred, copied and swapped images.

Every limit is relative to what the baseline does with the same requests, so that the same limits serve drawings of 64
pixels and photographs of 1024. Limits on a whole album hold for the median or the mean, because single images of an
honest solution may differ; what is wrong with one image alone has far wider limits, those of `broken`. Where the
images are too few to tell, a guard passes. One image that is broken is luck or a habit, and a hundred tell these apart:
see `allowed`.
"""

from __future__ import annotations

import hashlib
import math
import statistics
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image as Picture
from scipy import ndimage, stats

from pytest_diffbench.records import Guard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pytest_diffbench.judge.album import Album, Canaries, Image, Odd

    Numbers = NDArray[np.float64]

FLAT_LEVELS: Final = 4.0
"""Standard deviation over an image's pixels, of 255, below which it may be flat."""
FLAT_SHARE: Final = 0.25
"""An image is flat only where it also has less than this share of its baseline image's deviation."""
DETAIL: Final = (0.4, 2.5)
"""Compressed size over the baseline's, median over the images."""
DETAIL_OF_ONE: Final = (0.15, 5.0)
"""The same for one image."""
NOISE_BITS: Final = 24.0
"""Compressed bits per pixel of uniform noise: nothing can be saved."""
TOWARDS_NOISE: Final = 0.75
"""How much of the way from the baseline's detail to noise's is too far: a photograph is nearer to noise than 2.5."""
TOWARDS_NOISE_OF_ONE: Final = 0.9
"""The same for one image."""
SHARPNESS: Final = (0.4, 8.0)
"""Variance of the Laplacian over the baseline's, median over the images; half the resolution, enlarged, has 0.35."""
SHARPNESS_OF_ONE: Final = (0.1, 20.0)
"""The same for one image."""
DUPLICATE_SHARE: Final = 0.1
"""Two images are nearly the same below this share of the baseline's median distance between two images."""
DUPLICATE_OF_PAIR: Final = 0.25
"""And only below this share of the distance between the baseline's images of the same two requests."""
ODD_AGAIN: Final = 4
"""Other seeds that a flat odd request is asked for again with; see `benchmarks/odd_requests.py`."""
DIVERSITY: Final = 0.7
"""Mean distance between any two images over the baseline's; three images for all requests have 2/3."""
REPEATABILITY_DB: Final = 30.0
"""PSNR of the same request's two images, median."""
MEMORY: Final = 4.0
"""An answer so many times faster than any fresh one was not made again; see `benchmarks/recall.py`."""
SAME_MOTIF: Final = 0.35
"""Two arms' images show the same below this share of the baseline's median distance between two images."""
SEED_SENSITIVITY: Final = 0.05
"""Mean change with the seed over the baseline's median one; low, for a weak baseline changes more than a good one."""
PROMPT_SENSITIVITY: Final = 0.5
"""The same with the prompt."""
LEVEL: Final = 0.05
"""Of the tests on retrieval and margin."""
RETRIEVAL_LOSS: Final = 0.25
"""Share of all images that may lose their prompt to another's."""
MARGIN_LOSS: Final = 1 / 3
"""Share of the baseline's mean margin that may be lost."""
WORST_DECILE: Final = 0.75
"""Share of the baseline's mean margin by which the worst tenth may drop; an image of something else loses all of it."""
MIN_IMAGES: Final = 5
"""Fewer images than this tell nothing of retrieval and margin: even all of them lost would have p > 0.05."""
LEAST_STRUCTURE: Final = 0.05
"""Of the correlation with an image's own input over that with others; a baseline with less keeps nothing of it."""
THUMBNAIL_PX: Final = 16
EDGES_PX: Final = 32


@dataclass(frozen=True)
class _Looks:
    """What is measured in the images of one arm, in their order."""

    spread: Numbers
    """Standard deviation over the pixels, of the colour channel with the greatest; in levels of 255."""
    detail: Numbers
    """Compressed bits per pixel."""
    sharpness: Numbers
    """Variance of the Laplacian of the grey image, in squared levels."""
    distances: Numbers
    """Between any two images, (images, images), in levels."""


def is_flat(image: Image) -> bool:
    """Whether an image shows next to nothing, whatever the baseline's does."""
    return _spread(image) < FLAT_LEVELS


def any_flat(pairs: Sequence[tuple[Image, Image]]) -> bool:
    """Whether any image is flat; each pair is the baseline's image and the candidate's."""
    own, theirs = (_looks(images) for images in zip(*pairs, strict=True))
    return bool(_flat_images(own, theirs).any())


def allowed(count: int, one_in: int | None) -> int:
    """How many of so many images may be broken, where one in so many may; None: no image may.

    Of fewer than `one_in` none may, so that who has one must show as many.
    """
    return count // one_in if one_in is not None else 0


def check(album: Album, canaries: Canaries | None, broken_one_in: int | None = None) -> tuple[Guard, ...]:
    """What became of every guard, in a fixed order; those that need canaries are left out without them."""
    baseline, candidate = _looks(album.baseline), _looks(album.candidate)
    most = allowed(len(album.prompts), broken_one_in)
    guards = [
        _flat(baseline, candidate, most),
        _detail(baseline, candidate),
        _sharpness(baseline, candidate),
        _duplicates(baseline, candidate, most),
        _diversity(baseline, candidate),
    ]
    if canaries is not None:
        guards += [
            _repeatability(canaries),
            _memory(canaries),
            _odd_requests(canaries),
            _sensitivity("seed", canaries.reseeded, canaries.baseline_reseeded, SEED_SENSITIVITY),
            _sensitivity("prompt", canaries.reprompted, canaries.baseline_reprompted, PROMPT_SENSITIVITY),
        ]
    guards += [_retrieval(album), _margin(album), _worst_decile(album), _broken(album, baseline, candidate, most)]
    if album.inputs:
        guards.append(_structure(album))
    return tuple(guards)


def broken(album: Album) -> tuple[int, ...]:
    """Indices of candidate images that nobody would call images: flat, noise, blurred, over-sharp, or a copy."""
    return tuple(_faults(album, _looks(album.baseline), _looks(album.candidate)))


def spoilt(album: Album) -> int:
    """How many candidate images would have to be left out, so that none is broken and no two are the same."""
    baseline, candidate = _looks(album.baseline), _looks(album.candidate)
    return max(len(_faults(album, baseline, candidate)), _same_pairs(baseline, candidate))


def broken_share_bound(broken: int, count: int) -> float:
    """With 95 % confidence a smaller share than this is broken (Clopper & Pearson 1934)."""
    return 1.0 if broken >= count else float(stats.beta.ppf(0.95, broken + 1, count - broken))


def worst_decile_drop(baseline_clip: Sequence[float], candidate_clip: Sequence[float]) -> float:
    """Mean drop against the baseline's image over the tenth of the images (rounded up) that dropped most, in points."""
    drops = np.sort(np.subtract(baseline_clip, candidate_clip))
    worst: Numbers = drops[-math.ceil(len(drops) / 10) :]
    return float(worst.mean())


def baseline_problem(album: Album, canaries: Canaries | None) -> str | None:
    """Why the baseline's own images are nothing to judge by; None where they are, or too few to tell."""
    count, looks = len(album.prompts), _looks(album.baseline)
    flat = int((looks.spread < FLAT_LEVELS / 2).sum())
    if flat > count / 2:
        return f"{flat} of the baseline's {count} images are flat: the deviation of their pixels is under 2 of 255"
    if np.median(looks.detail) > 0.97 * NOISE_BITS:
        return f"the baseline's images are noise: {np.median(looks.detail):.1f} bits per pixel after compression"
    if len(set(album.prompts)) > 1 and looks.distances.max() < 1:
        return f"the baseline's {count} images are all alike: no two differ by a level of 255"
    if canaries is not None and canaries.baseline_reprompted and not _distances(canaries.baseline_reprompted).any():
        return "the baseline's images do not change with the prompt"
    if len(set(album.prompts)) >= MIN_IMAGES and _match(album.baseline_similarity) < stats.norm.ppf(1 - LEVEL):
        right = _right(album, album.baseline_similarity)
        return (
            f"the scorer does not recognise the prompts in the baseline's images better than by chance: "
            f"{int(right.sum())} of {count} fit their own prompt best"
        )
    return None


def _looks(images: Sequence[Image]) -> _Looks:
    thumbnails = np.stack([_thumbnail(image).ravel() for image in images])
    return _Looks(
        spread=np.array([_spread(image) for image in images]),
        detail=np.array([_bits_per_pixel(image) for image in images]),
        sharpness=np.array([_sharpness_of(image) for image in images]),
        distances=np.stack([np.sqrt(((thumbnails - one) ** 2).mean(axis=1)) for one in thumbnails]),
    )


def _spread(image: Image) -> float:
    return max(float(image[..., channel].std(dtype=np.float32)) for channel in range(3))


def _sharpness_of(image: Image) -> float:
    return float(ndimage.laplace(image.mean(axis=2, dtype=np.float32)).var())


def _bits_per_pixel(image: Image) -> float:
    """Of the differences to the row above, as PNG stores them."""
    differences = np.diff(image, axis=0, prepend=np.uint8(0))  # modulo 256
    return 8 * len(zlib.compress(differences.tobytes(), level=1)) / image[..., 0].size


def _thumbnail(image: Image) -> Numbers:
    """So small that noise and a shifted edge hardly show: (16, 16, 3)."""
    small = Picture.fromarray(image).resize((THUMBNAIL_PX, THUMBNAIL_PX), Picture.Resampling.BOX)
    return np.asarray(small, np.float64)


def _distances(pairs: Sequence[tuple[Image, Image]]) -> Numbers:
    """Between the thumbnails of each pair, root mean square in levels of 255."""
    return np.array([np.sqrt(((_thumbnail(one) - _thumbnail(other)) ** 2).mean()) for one, other in pairs])


def _flat_images(baseline: _Looks, candidate: _Looks) -> NDArray[np.bool_]:
    few_levels: NDArray[np.bool_] = candidate.spread < FLAT_LEVELS
    return few_levels & (candidate.spread < FLAT_SHARE * baseline.spread)


def _flat(baseline: _Looks, candidate: _Looks, most: int) -> Guard:
    flat = _flat_images(baseline, candidate)
    return Guard(
        "flat",
        int(flat.sum()) <= most,
        f"{int(flat.sum())} of {len(flat)} images flat; least deviation {candidate.spread.min():.1f} of 255 "
        f"(limits {FLAT_LEVELS:g} and {FLAT_SHARE:g} of the baseline's {baseline.spread.min():.1f} at least)",
    )


def _detail_limits(bits: Numbers, limits: tuple[float, float], towards_noise: float) -> tuple[Numbers, Numbers]:
    low, high = limits
    room = NOISE_BITS / bits - 1  # how many times more there can be at all
    return np.full_like(bits, low), np.maximum(1.0, np.minimum(high, 1 + towards_noise * room))


def _detail(baseline: _Looks, candidate: _Looks) -> Guard:
    ratio = float(np.median(candidate.detail / baseline.detail))
    own_bits = np.median(baseline.detail, keepdims=True)
    (low,), (high,) = _detail_limits(own_bits, DETAIL, TOWARDS_NOISE)
    return Guard(
        "detail",
        bool(low <= ratio <= high),
        f"compressed size {ratio:.2g} of the baseline's {own_bits[0]:.1f} bits per pixel "
        f"(limits {low:g} to {high:.2g})",
    )


def _least_sharpness(baseline: _Looks) -> float:
    """Added to both arms': an image of the baseline without any edge would make every ratio to it meaningless."""
    return 0.02 * float(np.median(baseline.sharpness)) + 0.5


def _sharpness(baseline: _Looks, candidate: _Looks) -> Guard:
    least = _least_sharpness(baseline)
    ratio = float(np.median((candidate.sharpness + least) / (baseline.sharpness + least)))
    low, high = SHARPNESS
    return Guard(
        "sharpness",
        low <= ratio <= high,
        f"sharpness {ratio:.2g} of the baseline's (limits {low:g} to {high:g})",
    )


def _pairs(looks: _Looks) -> Numbers:
    above = np.triu_indices(len(looks.distances), k=1)
    pairs: Numbers = looks.distances[above]
    return pairs


def _same_pairs(baseline: _Looks, candidate: _Looks) -> int:
    """Pairs that only the candidate draws nearly the same, less those that only the baseline does.

    Among thousands of pairs some are alike by chance, in either arm.
    """
    theirs, own = _pairs(candidate), _pairs(baseline)
    if not len(own):
        return 0
    limit = _duplicate_limit(own)
    only_theirs = (theirs < limit) & (theirs < DUPLICATE_OF_PAIR * own)
    only_own = (own < limit) & (own < DUPLICATE_OF_PAIR * theirs)
    return int(only_theirs.sum()) - int(only_own.sum())


def _duplicate_limit(own: Numbers) -> float:
    return DUPLICATE_SHARE * float(np.median(own))


def _duplicates(baseline: _Looks, candidate: _Looks, most: int) -> Guard:
    theirs, own = _pairs(candidate), _pairs(baseline)
    if not len(own):
        return Guard("duplicates", passed=True, found="one image only")
    same = _same_pairs(baseline, candidate)
    return Guard(
        "duplicates",
        same <= most,
        f"{max(0, same)} of {len(own)} pairs of images nearly the same, beyond the baseline's; least distance "
        f"{theirs.min():.1f} of 255 (limit {_duplicate_limit(own):.1f}, and {DUPLICATE_OF_PAIR:g} of the baseline's "
        "for the same pair)",
    )


def _diversity(baseline: _Looks, candidate: _Looks) -> Guard:
    theirs, own = _pairs(candidate), _pairs(baseline)
    if not own.any():
        return Guard("diversity", passed=True, found="the baseline's images have none")
    ratio = float(theirs.mean() / own.mean())
    return Guard(
        "diversity",
        ratio >= DIVERSITY,
        f"mean distance between images {ratio:.2f} of the baseline's {own.mean():.1f} of 255 (at least {DIVERSITY:g})",
    )


def _repeatability(canaries: Canaries) -> Guard:
    if not canaries.repeated:
        return Guard("repeatability", passed=True, found="no request was repeated")
    errors = [float(((one.astype(np.float64) - again) ** 2).mean()) for one, again in canaries.repeated]
    # the median: on a GPU one image in many may take another turn by rounding alone
    error = float(np.median(errors))
    found = "the same images" if error == 0 else f"PSNR {10 * math.log10(255**2 / error):.1f} dB"
    return Guard(
        "repeatability",
        error < 255**2 / 10 ** (REPEATABILITY_DB / 10),
        f"{found} when asked again (more than {REPEATABILITY_DB:g} dB)",
    )


def _memory(canaries: Canaries) -> Guard:
    if not canaries.recalls:
        return Guard("memory", passed=True, found="no request was repeated")
    fastest = max(canaries.recalls, key=lambda recall: recall.fresh_s / recall.again_s)
    factor = fastest.fresh_s / fastest.again_s
    remembers = factor > MEMORY
    slowed = min(recall.changed_s / recall.slowest_s for recall in canaries.recalls)
    if not remembers and slowed > MEMORY:
        return Guard(
            "memory",
            passed=False,
            found=f"it works only when it is checked: a timed request with another seed took {slowed:.1f} times as "
            f"long as its slowest timed answer (at most {MEMORY:g} times)",
        )
    return Guard(
        "memory",
        not remembers,
        f"{'it answers from memory: ' if remembers else ''}asked again, it took {fastest.again_s:.3g} s, "
        f"{factor:.1f} times as fast as its fastest fresh answer of {fastest.fresh_s:.3g} s (at most {MEMORY:g} times)",
    )


def _odd_requests(canaries: Canaries) -> Guard:
    """Nobody asks for an empty prompt but to see whether it is answered: work may not be skipped there.

    Of next to nothing an honest method draws nothing with some seeds; who skips the work, with every seed.
    """
    if not canaries.probed:
        return Guard("odd requests", passed=True, found="none was asked")
    flat = [odd for odd in canaries.odd if any_flat([odd.images])]
    skipped = [odd for odd in flat if skips(odd)]
    chance = f" ({len(flat)} with some seeds)" if len(flat) > len(skipped) else ""
    return Guard(
        "odd requests",
        not skipped,
        f"{len(skipped)} of {canaries.probed} empty, endless and foreign prompts give flat images "
        f"where the baseline's are not{chance}",
    )


def skips(odd: Odd) -> bool:
    """Whether an image is flat with every seed, where the baseline's is not with the first."""
    if not odd.again:
        return True
    own, theirs = (_looks(images) for images in zip(*odd.again, strict=True))
    flat = _flat_images(own, theirs)
    return bool(flat.any() and (flat | (own.spread < FLAT_LEVELS)).all())


def _sensitivity(
    what: str,
    theirs: Sequence[tuple[Image, Image]],
    own: Sequence[tuple[Image, Image]],
    limit: float,
) -> Guard:
    name = f"{what} sensitivity"
    # the median: a weak baseline may make something else altogether of a few seeds
    expected = statistics.median_low(_distances(own).tolist()) if own else 0.0
    if not theirs or expected == 0:
        return Guard(name, passed=True, found=f"another {what} changes nothing in the baseline's images either")
    ratio = float(_distances(theirs).mean()) / expected
    return Guard(
        name,
        ratio >= limit,
        f"another {what} changes images {ratio:.2g} as much as the baseline's (at least {limit:g})",
    )


def _others(album: Album) -> NDArray[np.bool_]:
    """Which columns are other prompts for each row; a prompt that comes twice is no other."""
    prompts = np.array(album.prompts, dtype=object)
    others: NDArray[np.bool_] = prompts[:, None] != prompts[None, :]
    return others


def _right(album: Album, similarity: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether each image fits its own prompt better than any other."""
    rivals = np.where(_others(album), similarity, -np.inf).max(axis=1)
    right: NDArray[np.bool_] = similarity.diagonal() > rivals
    return right


def _margins(album: Album, similarity: NDArray[np.float32]) -> Numbers:
    """How much better each image fits its own prompt than it fits the others on average, in points of CLIP-Score."""
    others = _others(album)
    rivals = np.where(others, similarity, 0).sum(axis=1) / others.sum(axis=1)
    margins: Numbers = 100 * (similarity.diagonal() - rivals).astype(np.float64)
    return margins


def _match(similarity: NDArray[np.float32]) -> float:
    """How far the diagonal's sum lies above that of a random assignment, in standard deviations (Hoeffding 1951)."""
    values = similarity.astype(np.float64)
    centred = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    deviation = math.sqrt(float((centred**2).sum()) / (len(values) - 1))
    return float(centred.trace()) / deviation if deviation > 0 else 0.0


def _too_few(album: Album) -> bool:
    return len(album.prompts) < MIN_IMAGES or not _others(album).any(axis=1).all()


def _retrieval(album: Album) -> Guard:
    if _too_few(album):
        return Guard("retrieval@1", passed=True, found=f"too few images to tell (at least {MIN_IMAGES})")
    own, theirs = _right(album, album.baseline_similarity), _right(album, album.candidate_similarity)
    lost, won = int((own & ~theirs).sum()), int((theirs & ~own).sum())
    # McNemar's exact test (1947): only images on which the arms differ tell them apart
    probability = stats.binomtest(lost, lost + won, alternative="greater").pvalue if lost + won else 1.0
    clear = lost - won > RETRIEVAL_LOSS * len(own) and probability < LEVEL
    return Guard(
        "retrieval@1",
        not clear,
        f"{int(theirs.sum())} of {len(own)} images fit their own prompt best, of the baseline's {int(own.sum())} "
        f"(at most {RETRIEVAL_LOSS:.0%} of all lost, unless by chance: p = {probability:.2g})",
    )


def _margin(album: Album) -> Guard:
    if _too_few(album):
        return Guard("own-prompt margin", passed=True, found=f"too few images to tell (at least {MIN_IMAGES})")
    own, theirs = (_margins(album, s) for s in (album.baseline_similarity, album.candidate_similarity))
    lost = own - theirs
    spread = float(stats.sem(lost))
    # shown to be lost, not merely not shown to be kept: ten images of two samplers cannot always show that
    certain = float(lost.mean()) > float(stats.t.ppf(1 - LEVEL, len(lost) - 1)) * spread
    limit = MARGIN_LOSS * float(own.mean())
    return Guard(
        "own-prompt margin",
        not (certain and float(lost.mean()) > limit > 0),
        f"own prompt fits {theirs.mean():.1f} points better than the others, in the baseline's images "
        f"{own.mean():.1f} (at most {max(limit, 0):.1f} lost, unless by chance)",
    )


def structure_margins(inputs: Sequence[Image], images: Sequence[Image]) -> Numbers:
    """How much more of its own input's structure each image has than of the others' on average.

    Structure is where edges lie, whatever their colours; two are compared by the correlation of the gradients'
    magnitudes, so that 1 is the same structure and 0 is none in common. With a single image, there are no others.
    """
    own, theirs = (np.stack([_edges(image) for image in each]) for each in (inputs, images))
    correlations = theirs @ own.T / own.shape[1]
    others = (correlations.sum(axis=1) - correlations.diagonal()) / max(1, len(own) - 1)
    margins: Numbers = correlations.diagonal() - others
    return margins


def _edges(image: Image) -> Numbers:
    """Gradient magnitude of the grey image at a small size, flat, with mean 0 and deviation 1 (0 of a flat one)."""
    small = Picture.fromarray(image).convert("L").resize((EDGES_PX, EDGES_PX), Picture.Resampling.BOX)
    magnitude = ndimage.gaussian_gradient_magnitude(np.asarray(small, np.float64), sigma=1).ravel()
    centred: Numbers = magnitude - magnitude.mean()
    return centred / max(float(centred.std()), 1e-9)


def _structure(album: Album) -> Guard:
    if len(album.inputs) < MIN_IMAGES:
        return Guard("structure", passed=True, found=f"too few images to tell (at least {MIN_IMAGES})")
    own, theirs = (structure_margins(album.inputs, arm) for arm in (album.baseline, album.candidate))
    kept = f"correlation of edges with its own input's {theirs.mean():.2f} above that with others'"
    if own.mean() < LEAST_STRUCTURE:
        return Guard("structure", passed=True, found=f"{kept}; the baseline's {own.mean():.2f} keep none either")
    lost = own - theirs
    certain = float(lost.mean()) > float(stats.t.ppf(1 - LEVEL, len(lost) - 1)) * float(stats.sem(lost))
    limit = MARGIN_LOSS * float(own.mean())
    return Guard(
        "structure",
        not (certain and float(lost.mean()) > limit),
        f"{kept}, in the baseline's images {own.mean():.2f} (at most {limit:.2f} lost, unless by chance)",
    )


def _worst_decile(album: Album) -> Guard:
    if _too_few(album):
        return Guard("worst-decile drop", passed=True, found=f"too few images to tell (at least {MIN_IMAGES})")
    own, theirs = (
        100 * np.maximum(s.diagonal().astype(np.float64), 0)
        for s in (album.baseline_similarity, album.candidate_similarity)
    )
    limit = WORST_DECILE * float(_margins(album, album.baseline_similarity).mean())
    drops = own - theirs
    drop = worst_decile_drop(own.tolist(), theirs.tolist())
    # one image in ten may go wrong in any arm, and a weak baseline's go wrong as often as the candidate's
    more = int((drops > limit).sum()) - int((drops < -limit).sum())
    return Guard(
        "worst-decile drop",
        not (drop > limit > 0 and more >= 2),
        f"the worst tenth of the images lost {drop:.1f} points (limit {max(limit, 0):.1f}, for two images or more)",
    )


def _faults(album: Album, baseline: _Looks, candidate: _Looks) -> dict[int, str]:
    """What is wrong with each candidate image that is broken by itself."""
    same, least = _same_motif(album, baseline), _least_sharpness(baseline)
    detail_low, detail_high = _references(baseline.detail, same)
    sharp_low, sharp_high = _references(baseline.sharpness + least, same)
    little, _ = _detail_limits(detail_low, DETAIL_OF_ONE, TOWARDS_NOISE_OF_ONE)
    _, much = _detail_limits(detail_high, DETAIL_OF_ONE, TOWARDS_NOISE_OF_ONE)
    blurred, oversharp = SHARPNESS_OF_ONE
    broken_by = {
        "flat": _flat_images(baseline, candidate),
        "noise": candidate.detail > much * detail_high,
        "empty": candidate.detail < little * detail_low,
        "blurred": candidate.sharpness + least < blurred * sharp_low,
        "over-sharp": candidate.sharpness + least > oversharp * sharp_high,
        "copy": _copies(album),
    }
    # the first name that fits, in the order of the images
    firsts = ((i, next((name for name, holds in broken_by.items() if holds[i]), "")) for i in range(len(same)))
    return {i: name for i, name in firsts if name}


def _same_motif(album: Album, baseline: _Looks) -> NDArray[np.bool_]:
    """Whether both arms' images of each request show about the same, so that one can be measured by the other."""
    pairs = _pairs(baseline)
    limit = SAME_MOTIF * float(np.median(pairs)) if len(pairs) else math.inf
    same: NDArray[np.bool_] = _distances(tuple(zip(album.baseline, album.candidate, strict=True))) <= limit
    return same


def _references(values: Numbers, same: NDArray[np.bool_]) -> tuple[Numbers, Numbers]:
    """What too little and too much are measured by: each baseline image, or the album's extremes for another motif."""
    return np.where(same, values, values.min()), np.where(same, values, values.max())


def _copies(album: Album) -> NDArray[np.bool_]:
    """Which images are byte for byte those of other requests, where the baseline's are not."""
    own, theirs = (np.array([_digest(image) for image in arm]) for arm in (album.baseline, album.candidate))
    same = (theirs[:, None] == theirs[None, :]) & (own[:, None] != own[None, :])
    copies: NDArray[np.bool_] = same.any(axis=1)
    return copies


def _digest(image: Image) -> str:
    return hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).hexdigest()


def _broken(album: Album, baseline: _Looks, candidate: _Looks, most: int) -> Guard:
    faults, count = _faults(album, baseline, candidate), len(album.candidate)
    listed = ", ".join(f"image {i + 1} {name}" for i, name in list(faults.items())[:3])
    listed += ", ..." if len(faults) > 3 else ""
    bound = broken_share_bound(len(faults), count)
    return Guard(
        "broken images",
        len(faults) <= most,
        f"{len(faults)} of {count} images broken by themselves ({most or 'none'} allowed)"
        + (f": {listed}" if faults else "")
        + f"; with 95 % confidence under {bound:.0%} of all",
    )
