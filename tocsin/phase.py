"""Wrapped phase: wrapping, averaging in the complex plane, and the step from line-of-sight motion to phase.

Sign convention, that of LiCSAR: phase grows with the range, so that ground which moves away from the satellite gets
positive phase, and motion toward the satellite (positive in the metres of LiCSBAS and LiCSAlert series) gets negative
phase. Measured: a DeepCube S1 picture of frame 014A_07688_131313 (2016-10-31 to 2017-02-04) correlates with minus the
re-wrapped series of that frame at 0.974, with plus it at 0.47, which is chance.
"""

import math
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

WAVELENGTH_M: Final = 0.0555
"""Sentinel-1 C band, as the published series were wrapped."""

RAD_PER_METRE: Final = 4 * math.pi / WAVELENGTH_M
"""Two-way phase of one metre along the line of sight."""

TAU: Final = 2 * math.pi
# A share of a pixel below it is rounding of the window's edges, not a measurement.
SLIVER: Final = 1e-9

Real = TypeVar("Real", np.float32, np.float64)


def wrap(phase: NDArray[Real]) -> NDArray[Real]:
    """Return phase in (-pi, pi].

    Parameters
    ----------
    phase
        float32 or float64, any shape, rad; NaN and infinity become NaN.

    Returns
    -------
    ndarray
        Same shape and dtype. float32 holds no pi: its neighbour below (1.5e-7 rad less) stands for pi, so that the
        interval is kept whoever compares, in whatever precision.
    """
    # float64 inside: 1,000 rad in float32 is good to 6e-5 rad only.
    exact = np.where(np.isfinite(phase), phase, np.nan).astype(np.float64)
    turned = exact - TAU * np.ceil((exact - math.pi) / TAU)
    highest = np.nextafter(np.float32(math.pi), np.float32(0)) if phase.dtype == np.float32 else np.float64(math.pi)
    # Rounding may leave a value at -pi itself, which is the same direction as pi.
    return np.where(turned <= -highest, highest, np.minimum(turned, highest)).astype(phase.dtype)


def of_motion(toward_m: NDArray[Real]) -> NDArray[Real]:
    """Return the wrapped phase of motion along the line of sight: phi = -4 pi / lambda * motion, wrapped.

    Parameters
    ----------
    toward_m
        Any shape, m, positive toward the satellite, NaN where unknown.

    Returns
    -------
    ndarray
        Same shape and dtype, rad, (-pi, pi], NaN where unknown.
    """
    radians = -RAD_PER_METRE * toward_m.astype(np.float64)
    # Twice: rounding to float32 can step over pi again.
    return wrap(wrap(radians).astype(toward_m.dtype))


@dataclass(frozen=True)
class Averaged:
    """Phase averaged over footprints.

    Attributes
    ----------
    phase
        float32 [row, col], rad, (-pi, pi], NaN where too little was measured or where directions cancel.
    resultant
        float32 [row, col], length of the mean unit vector, 0..1: 1 where all phases agree, near 0 in noise; NaN where
        phase is. A footprint's fringes shorten it as noise does.
    """

    phase: NDArray[np.float32]
    resultant: NDArray[np.float32]


def resample(
    phase: NDArray[np.float32],
    factor: tuple[float, float],
    shape: tuple[int, int] | None = None,
    least_valid: float = 0.5,
) -> Averaged:
    """Return phase on a coarser or finer grid that shares the upper left corner, averaged as unit vectors.

    Averages of exp(i phi) know no wrap: 3.1 and -3.1 rad give pi, never 0 (Jammalamadaka and SenGupta 2001, sec. 1.3).
    Where pixels grow, each old pixel counts with the area that it shares with the new one; where they shrink, the four
    neighbours are blended bilinearly.

    Parameters
    ----------
    phase
        [row, col], rad, NaN where missing.
    factor
        New pixel size over the old one, along rows and columns: 3 for a third of the resolution.
    shape
        Rows and columns of the result; by default all that the old grid touches.
    least_valid
        Share of a new pixel that must be measured, 0..1.

    Returns
    -------
    Averaged
        New pixel (i, j) covers old rows i * factor to (i + 1) * factor, and columns likewise.
    """
    touched = [math.ceil(old / step - SLIVER) for old, step in zip(phase.shape, factor, strict=True)]
    rows, cols = touched if shape is None else shape
    measured = np.isfinite(phase)
    angle = np.where(measured, phase, 0).astype(np.float64)
    # Real, imaginary part and validity take the same weights, so that what is missing weighs nothing.
    layers = np.stack([np.cos(angle) * measured, np.sin(angle) * measured, measured])
    layers = _along(layers, 1, _taps(phase.shape[0], rows, factor[0]))
    cosine, sine, share = _along(layers, 2, _taps(phase.shape[1], cols, factor[1]))
    length = np.hypot(cosine, sine) / np.maximum(share, SLIVER)
    known = (share >= max(least_valid, SLIVER)) & (length > SLIVER)
    mean = wrap(np.where(known, np.arctan2(sine, cosine), np.nan).astype(np.float32))
    return Averaged(mean, np.where(known, np.minimum(length, 1), np.nan).astype(np.float32))


@dataclass(frozen=True)
class _Taps:
    """Old pixels and their weights for each new pixel, both [new, tap]; a weight of 0 where a tap lies outside."""

    index: NDArray[np.intp]
    weight: NDArray[np.float64]


def _taps(old: int, new: int, factor: float) -> _Taps:
    """Return the taps along one axis; the weights inside the old grid are shares of the new pixel."""
    start = np.arange(new)[:, None] * factor
    if factor >= 1:
        index = np.floor(start + SLIVER).astype(np.intp) + np.arange(math.ceil(factor) + 1)
        overlap = np.minimum(index + 1, start + factor) - np.maximum(index, start)
        weight = np.maximum(overlap, 0) / factor
    else:
        centre = start + factor / 2 - 0.5
        # Half a pixel inside the border there is one neighbour only; it is held, since it covers that place.
        centre = np.where((start >= 0) & (start < old), np.clip(centre, 0, old - 1), centre)
        index = np.floor(centre).astype(np.intp) + np.arange(2)
        weight = np.maximum(1 - np.abs(index - centre), 0)
    inside = (index >= 0) & (index < old)
    return _Taps(np.clip(index, 0, old - 1), np.where(inside, weight, 0))


def _along(layers: NDArray[Any], axis: int, taps: _Taps) -> NDArray[np.float64]:
    """Return weighted sums along one axis of [layer, row, col]."""
    shape = [1, 1, 1]
    shape[axis] = -1
    total = np.zeros(1)
    for tap in range(taps.index.shape[1]):
        total = total + layers.take(taps.index[:, tap], axis=axis) * taps.weight[:, tap].reshape(shape)
    return total
