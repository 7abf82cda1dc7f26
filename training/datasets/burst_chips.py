"""Chips of real bursts with scars laid into half of them: real speckle, real seasons, and a known answer.

Scars are laid in at the 30 m of the product, which is then resampled to the model's pixels in linear power, as a scene
is when it is scored. The relief under a burst is drawn, not measured: no heights of these places are at hand.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from tocsin.hazards.landslide import ACQUISITIONS, CHIP, GSD_M
from tocsin.simulate import LandslideSettings, NumpyRandom, ScarSettings, inject_landslides
from tocsin.simulate.landslide import slide_relief
from training.datasets.opera_rtc import BurstSeries, OperaRtc, Split
from training.datasets.relief import ReliefTiles

PIXEL_M: Final = 30.0
FINER: Final = round(PIXEL_M / GSD_M)
SMALL_PX: Final = 48
"""Side of the piece of a burst that a chip is cut from, pixels of 30 m."""
LARGE_PX: Final = 96
"""The same for a large scar, of which a chip may show a part."""
LARGE_M2: Final = (2e4, 1e6)
RELIEF_SHARE: Final = 0.3
"""Share of chips on tiles of real relief; much of it is too flat to slide."""
MEAN_SLOPE_DEG: Final = (10.0, 32.0)

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class LandslideChip:
    """A pair of stacks of the size of the model's chip, with its answer.

    Attributes
    ----------
    pre_db, post_db
        float32 [3, 2, 128, 128]: VV and VH, dB, NaN where missing.
    dem
        float32 [128, 128], m; NaN where unknown.
    mask
        bool [128, 128]: where at least half of a pixel slid.
    heads
        Landslides whose highest point lies in the chip.
    """

    pre_db: FloatArray
    post_db: FloatArray
    dem: FloatArray
    mask: NDArray[np.bool_]
    heads: int


class Chips(Protocol):
    """Chips that can be drawn by number."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __getitem__(self, index: int, /) -> LandslideChip:
        """Return one of them."""


@dataclass(frozen=True)
class Scarred:
    """How scars are drawn for a chip.

    Attributes
    ----------
    size_px
        Side of the piece that they are drawn in, pixels.
    settings
        Number and sizes.
    around
        Whether the chip is cut around a pixel that slid, wherever in the chip that may lie.
    """

    size_px: int
    settings: ScarSettings
    around: bool = False


class BurstChips:
    """Bursts in memory.

    Parameters
    ----------
    series
        What to cut chips from.
    relief
        Tiles for a part of the relief; None: all is simulated.
    """

    def __init__(self, series: Sequence[BurstSeries], relief: ReliefTiles | None) -> None:
        self._stacks = [each.read() for each in series]
        self._splits = [list(each.combinations()) for each in series]
        self._relief = relief

    def draw(self, seed: int, scarred: Scarred) -> LandslideChip:
        """Return the chip of a seed: a burst, dates in the order of time, relief, scars and the place of the chip."""
        random, source = np.random.default_rng((seed, 2)), NumpyRandom(seed)
        number = int(random.integers(len(self._stacks)))
        split = self._splits[number][int(random.integers(len(self._splits[number])))]
        return self._cut(self._stacks[number], split, scarred, random, source)

    def _cut(
        self, stack: FloatArray, split: Split, scarred: Scarred, random: np.random.Generator, source: NumpyRandom
    ) -> LandslideChip:
        size = scarred.size_px
        row, col = (int(random.integers(length - size + 1)) for length in stack.shape[2:])
        piece = stack[:, :, row : row + size, col : col + size]
        real = self._relief is not None and random.random() < RELIEF_SHARE
        dem = self._relief.crop(random, PIXEL_M, size) if real and self._relief is not None else None
        if dem is None:
            steep = LandslideSettings(pixel_m=PIXEL_M, mean_slope_deg=MEAN_SLOPE_DEG)
            dem = np.asarray(slide_relief(source, (size, size), steep))
        pre, post = (piece[list(side)] for side in split)
        slid = inject_landslides(source, (pre, post), dem, scarred.settings)
        start = place_of(slid.mask, random, around=scarred.around, scale=FINER)
        return LandslideChip(
            finer(pre, start),
            finer(np.asarray(slid.post_db), start),
            _interpolated(dem[None], start)[0],
            _interpolated(np.asarray(slid.scars.coverage)[None], start)[0] >= 0.5,
            heads_within(np.asarray(slid.heads) * FINER + (FINER - 1) / 2, start),
        )


def read_bursts(folder: Path, names: Sequence[str]) -> list[BurstSeries]:
    """Return the series of some bursts, as delivered."""
    data = OperaRtc(folder)
    return [data.one(name) for name in names]


def injected(random: np.random.Generator, share: float) -> Scarred:
    """Draw how scars are laid into one chip of a burst: mostly small ones, at times a large one, often none."""
    if random.random() < 0.2 * share / 0.5:
        return Scarred(
            LARGE_PX,
            ScarSettings(
                pixel_m=PIXEL_M,
                landslide_share=1.0,
                large_share=1.0,
                large_m2=LARGE_M2,
                density_per_km2=(0.15, 15.0),
                contrast=float(random.uniform(0.8, 1.4)),
            ),
            around=True,
        )
    return Scarred(SMALL_PX, ScarSettings(pixel_m=PIXEL_M, landslide_share=0.75 * share))


def place_of(mask: NDArray[np.bool_], random: np.random.Generator, *, around: bool, scale: int = 1) -> tuple[int, int]:
    """Draw the upper left corner of a chip, in pixels of the model.

    Parameters
    ----------
    mask
        bool [H, W]: where something slid.
    random
        Where to draw from.
    around
        Whether one pixel that slid lies in the chip, if there is any.
    scale
        Pixels of the model along one of the mask.
    """
    last = [scale * size - CHIP for size in mask.shape]
    places = np.argwhere(mask)
    if not around or not len(places):
        return int(random.integers(last[0] + 1)), int(random.integers(last[1] + 1))
    at = places[int(random.integers(len(places)))] * scale - random.integers(CHIP, size=2)
    return int(np.clip(at[0], 0, last[0])), int(np.clip(at[1], 0, last[1]))


def heads_within(heads: FloatArray, start: tuple[int, int]) -> int:
    """Count heads [n, 2], row and column in pixels of the model, in the chip whose upper left corner is given."""
    inside = (heads >= np.array(start) - 0.5) & (heads < np.array(start) + CHIP - 0.5)
    return int(inside.all(axis=1).sum())


def finer(backscatter_db: FloatArray, start: tuple[int, int]) -> FloatArray:
    """Return one chip of a 30 m stack on the model's pixels, bilinear in linear power.

    Parameters
    ----------
    backscatter_db
        float32 [acquisition, 2, H, W], dB, NaN where missing.
    start
        Upper left corner of the chip, in pixels of the model from the corner of the stack.

    Returns
    -------
    numpy.ndarray
        float32 [acquisition, 2, 128, 128]; NaN where the nearest pixels are mostly missing.
    """
    first = tuple(max(0, place // FINER - 1) for place in start)
    rows, cols = (slice(place, place + CHIP // FINER + 4) for place in first)
    start = start[0] - first[0] * FINER, start[1] - first[1] * FINER
    near_db = backscatter_db[..., rows, cols]
    valid = np.isfinite(near_db)
    power = np.where(valid, 10 ** (near_db / 10), 0)
    total, weight = _interpolated(power, start), _interpolated(valid.astype(np.float32), start)
    with np.errstate(divide="ignore", invalid="ignore"):
        out_db = 10 * np.log10(total / weight)
    return np.asarray(np.where(weight >= 0.5, out_db, np.nan), dtype=np.float32)


def _interpolated(values: FloatArray, start: tuple[int, int]) -> FloatArray:
    """Return [..., H, W] of 30 m at the centres of the model's pixels of a chip; beyond the edge the edge repeats."""
    rows, cols = (_weights(size, first) for size, first in zip(values.shape[-2:], start, strict=True))
    return np.asarray(rows @ values @ cols.T, dtype=np.float32)


def _weights(size: int, first: int) -> FloatArray:
    """Return the bilinear weights of pixels of 30 m, [128, size]."""
    at = np.clip((first + np.arange(CHIP) + 0.5) / FINER - 0.5, 0, size - 1)
    return np.asarray(np.clip(1 - np.abs(at[:, None] - np.arange(size)), 0, None), dtype=np.float32)


def three(backscatter_db: FloatArray) -> FloatArray:
    """Return acquisitions [1 to 3, 2, H, W] with absent ones added as NaN, [3, 2, H, W]."""
    missing = np.full((ACQUISITIONS - len(backscatter_db), *backscatter_db.shape[1:]), math.nan, np.float32)
    return np.concatenate([backscatter_db, missing], dtype=np.float32)
