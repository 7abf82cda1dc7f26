"""From motion in metres to what the encoder sees: the steps of Popescu et al. (2024), their constants ours.

Missing pixels are masked, then interpolated by normalised convolution (Knutsson and Westin 1993) with a Gaussian of
`FILL_SIGMA_PX`; the image's mean is subtracted; the rest is scaled. The scale is one constant of the whole fit set, so
that what is larger than anything fitted stays larger: dividing each image by its own range would hide it. The encoder
takes phase, so that [-1, 1] becomes [-pi, pi]; what exceeds it wraps into fringes, which the encoder knows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from tocsin.anomaly.geometry import CHIP, Geometry, along_both, gaussian_weights
from tocsin.phase import RAD_PER_METRE

Scaling = Literal["scaled", "wrapped"]

MEASURABLE_M: Final = 100.0
"""Motion beyond +-100 m is no measurement."""

LEAST_SHARE: Final = 0.5
"""Share of a chip pixel that must be measured, and of fit epochs in which a pixel must be, to be observable."""

FILL_SIGMA_PX: Final = 8.0
FILL_LEAST: Final = 1e-2
"""Sum of weights below which nothing measured is near enough to interpolate from."""

TINY: Final = 1e-6
LEAST_SCALE_M: Final = 1e-4


@dataclass(frozen=True)
class Preparation:
    """What the fit set fixed.

    Attributes
    ----------
    geometry
        To the chip and back.
    observable
        bool [row, col] on the series' grid; what lies outside is never judged.
    rad_per_m
        Phase of one metre toward the satellite, rad; negative.
    """

    geometry: Geometry
    observable: NDArray[np.bool_]
    rad_per_m: float

    @property
    def observable_chip(self) -> NDArray[np.bool_]:
        """Pixels of the chip that are observable, bool [chip, chip]."""
        there = along_both(self.geometry.rows, self.observable.astype(float), self.geometry.cols)
        return np.asarray(there >= LEAST_SHARE)


@dataclass(frozen=True)
class Prepared:
    """A batch as the encoder sees it.

    Attributes
    ----------
    phase
        float32 [N, 1, chip, chip], rad, not wrapped (the encoder takes its cosine and sine), NaN where nothing is near.
    measured
        bool [N, chip, chip]: measured, not interpolated.
    valid
        bool [N, row, col] on the series' grid.
    """

    phase: NDArray[np.float32]
    measured: NDArray[np.bool_]
    valid: NDArray[np.bool_]

    def part(self, places: NDArray[np.int64]) -> "Prepared":
        """Return some images of the batch."""
        return Prepared(self.phase[places], self.measured[places], self.valid[places])

    @classmethod
    def joined(cls, parts: Sequence["Prepared"]) -> "Prepared":
        """Return batches as one."""
        return cls(
            np.concatenate([each.phase for each in parts]),
            np.concatenate([each.measured for each in parts]),
            np.concatenate([each.valid for each in parts]),
        )


def observable_of(motion: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which pixels [row, col] were measured in enough epochs of motion [N, row, col], m."""
    return np.asarray(measured_pixels(motion).mean(axis=0) >= LEAST_SHARE)


def measured_pixels(motion: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where motion, m, is a measurement; every comparison with NaN is false."""
    return np.asarray(np.abs(motion) <= MEASURABLE_M)


def fit_preparation(motion: NDArray[np.float32], geometry: Geometry, scaling: Scaling, quantile: float) -> Preparation:
    """Return the preparation that a fit set fixes.

    Parameters
    ----------
    motion
        [N, row, col], m toward the satellite, NaN where missing.
    geometry
        Of the grid.
    scaling
        ``scaled``: the quantile of all deviations from each image's mean becomes pi; ``wrapped``: the true phase.
    quantile
        0 to 1; not the largest value, which one bad pixel would rule.
    """
    observable = observable_of(motion)
    if scaling == "wrapped":
        return Preparation(geometry, observable, -RAD_PER_METRE)
    valid = measured_pixels(motion) & observable
    parts = [np.abs(image[seen] - image[seen].mean()) for image, seen in zip(motion, valid, strict=True) if seen.any()]
    largest = float(np.quantile(np.concatenate(parts), quantile))
    return Preparation(geometry, observable, -np.pi / max(largest, LEAST_SCALE_M))


def prepare(motion: NDArray[np.float32], fixed: Preparation) -> Prepared:
    """Return motion [N, row, col], m, as the encoder sees it."""
    geometry = fixed.geometry
    valid = measured_pixels(motion) & fixed.observable
    share = along_both(geometry.rows, valid.astype(float), geometry.cols)
    total = along_both(geometry.rows, np.where(valid, motion, 0).astype(float), geometry.cols)
    measured = share >= LEAST_SHARE
    known = np.where(measured, total / np.maximum(share, TINY), 0)
    kernel = gaussian_weights(CHIP, FILL_SIGMA_PX)
    near = along_both(kernel, measured.astype(float), kernel)
    filled = np.where(measured, known, along_both(kernel, known, kernel) / np.maximum(near, TINY))
    mean = known.sum(axis=(1, 2), keepdims=True) / np.maximum(measured.sum(axis=(1, 2), keepdims=True), 1)
    there = measured | ((near >= FILL_LEAST) & fixed.observable_chip)
    phase = np.where(there, (filled - mean) * fixed.rad_per_m, np.nan)
    return Prepared(phase[:, None].astype(np.float32), measured, valid)
