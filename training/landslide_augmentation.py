"""What may happen to a landslide pair: fewer acquisitions, despeckling, a lost band, no heights, holes, mirrors.

Mirrors turn rows or columns of backscatter and heights together. East and west exchanged, an ascending pass looks like
a descending one, which exists; north and south exchanged keeps the side that radar looks to. A quarter turn would look
along the orbit, which no satellite does, and is left out.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from tocsin.hazards.landslide import ACQUISITIONS
from training.datasets.burst_chips import LandslideChip, three
from training.landslide_recipe import LandslideAugmentation

FloatArray = NDArray[np.float32]

SMOOTHING_PX: Final = (2, 7)
"""Half sides of the windows that speckle is smoothed in, from and below; pixels of the model."""

SMOOTHED_DB2: Final = (0.5, 10.0)
"""Variances below which differences count as speckle, dB squared."""


def augment_pair(
    chip: LandslideChip, settings: LandslideAugmentation, random: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray, NDArray[np.bool_]]:
    """Return a changed pair with its mask.

    Parameters
    ----------
    chip
        With all of its acquisitions.
    settings
        How often, and how much.
    random
        Where to draw from.

    Returns
    -------
    pre_db, post_db, dem, mask
        float32 [3, 2, H, W] twice and [H, W], bool [H, W].
    """
    pre, post = (_fewer(side, settings, random) for side in (chip.pre_db, chip.post_db))
    if random.random() < settings.smoothed_share:
        pre, post = _smooth((pre, post), random)
    dem = chip.dem
    if random.random() < settings.no_dem_share:
        dem = np.full_like(dem, np.nan)
    if random.random() < settings.lost_band_share:
        _lose_a_band((pre, post), random)
    if random.random() < settings.hole_share:
        _punch((pre, post), random)
    rows, cols = (slice(None, None, 1 if random.random() < 0.5 else -1) for _ in range(2))
    pre, post, dem = (np.ascontiguousarray(each[..., rows, cols]) for each in (pre, post, dem))
    return pre, post, dem, np.ascontiguousarray(chip.mask[rows, cols])


def _fewer(side: FloatArray, settings: LandslideAugmentation, random: np.random.Generator) -> FloatArray:
    """Keep one to three acquisitions in any order, each with an offset of its own."""
    number = ACQUISITIONS if random.random() < settings.all_acquisitions_share else int(random.integers(1, 3))
    offsets_db = random.normal(0, settings.offset_db, (number, 1, 1, 1)).astype(np.float32)
    return three(side[random.permutation(len(side))[:number]] + offsets_db)


def _smooth(sides: tuple[FloatArray, FloatArray], random: np.random.Generator) -> tuple[FloatArray, ...]:
    """Despeckle all acquisitions alike: edges stay, as after total variation, and what is missing stays missing.

    The guided filter of each band by itself (He, Sun, Tang 2013, Guided image filtering, equations 5 to 8).
    """
    size = (1, 1, *(2 * int(random.integers(*SMOOTHING_PX)) + 1,) * 2)
    speckle_db2 = float(np.exp(random.uniform(*np.log(SMOOTHED_DB2))))
    given = np.concatenate(sides)
    there = np.isfinite(given)
    number = uniform_filter(there.astype(np.float32), size)

    def mean(values: FloatArray) -> FloatArray:
        """Return the mean over the valid pixels of each window."""
        summed: FloatArray = uniform_filter(np.where(there, values, 0), size)
        return np.where(there, summed / np.maximum(number, 1e-6), 0)

    level = mean(given)
    variance = np.maximum(mean(given**2) - level**2, 0)
    kept = variance / (variance + speckle_db2)
    smoothed = mean(kept) * given + mean((1 - kept) * level)
    pre, post = np.split(smoothed.astype(np.float32), [len(sides[0])])
    return pre, post


def _lose_a_band(sides: tuple[FloatArray, FloatArray], random: np.random.Generator) -> None:
    """Take away VV, or at times VH, of all acquisitions, or now and then of one alone."""
    band = int(random.random() < 0.3)
    if random.random() < 0.85:
        for side in sides:
            side[:, band] = np.nan
    else:
        sides[int(random.integers(2))][int(random.integers(ACQUISITIONS)), band] = np.nan


def _punch(sides: tuple[FloatArray, FloatArray], random: np.random.Generator) -> None:
    """Take away a rectangle of one acquisition, of one side or of both."""
    rows, cols = sides[0].shape[2:]
    top, left = int(random.integers(rows)), int(random.integers(cols))
    hole = (..., slice(top, top + int(random.integers(8, rows))), slice(left, left + int(random.integers(8, cols))))
    kind = random.random()
    if kind < 0.3:
        sides[int(random.integers(2))][int(random.integers(ACQUISITIONS))][hole] = np.nan
    elif kind < 0.6:
        sides[int(random.integers(2))][hole] = np.nan
    else:
        for side in sides:
            side[hole] = np.nan
