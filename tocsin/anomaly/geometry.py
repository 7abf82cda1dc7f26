"""From a series' grid to the encoder's chip, to cells, and back: matrices, so that numpy and a graph do the same.

A grid smaller than the chip is padded with no data in equal parts; a larger one is averaged down to fit (motion in
metres is a number, not an angle, so that its mean is right), at most by `LARGEST_FACTOR`.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tocsin.errors import TooLargeError, UsageError

FloatArray = NDArray[np.float64]

CHIP: Final = 224
"""Side of the encoder's chip, pixels."""

CELLS: Final = 28
"""Side of the grid of cells, one Gaussian each: PaDiM's half of its finest maps, whose full grid holds 4 times as many
values and says no more about deformation that is kilometres wide."""

CELL_PX: Final = CHIP // CELLS
LARGEST_FACTOR: Final = 3.0
"""Beyond it a pixel of the chip would be coarser than any that the encoder was trained on."""

SMALLEST: Final = 32
"""Fewest rows and columns of a series: four cells."""


@dataclass(frozen=True)
class Geometry:
    """Weights along both axes; every value of the chip or the grid is a sum of few old ones.

    Attributes
    ----------
    rows, cols
        float64 [chip, grid row], [chip, grid col]: share of each grid pixel in a chip pixel, 0 outside the grid.
    up_rows, up_cols
        float64 [grid row, cell], [grid col, cell]: linear interpolation between centres of cells.
    """

    rows: FloatArray
    cols: FloatArray
    up_rows: FloatArray
    up_cols: FloatArray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the series' grid."""
        return self.rows.shape[1], self.cols.shape[1]


def factor_of(shape: tuple[int, int]) -> float:
    """Return how many grid pixels a chip pixel is long: 1 where the grid fits, more where it is averaged down.

    Raises
    ------
    UsageError
        The grid is too small.
    TooLargeError
        It is too large.
    """
    if min(shape) < SMALLEST:
        raise UsageError(f"a series of {shape[0]} x {shape[1]} px", f"at least {SMALLEST} x {SMALLEST} px", "widen it")
    factor = max(1.0, max(shape) / CHIP)
    if factor > LARGEST_FACTOR:
        most = int(CHIP * LARGEST_FACTOR)
        raise TooLargeError(
            f"a series of {shape[0]} x {shape[1]} px", f"at most {most} x {most} px", "cut out the volcano"
        )
    return factor


def geometry_of(shape: tuple[int, int]) -> Geometry:
    """Return the geometry of a grid of some rows and columns.

    Raises
    ------
    UsageError, TooLargeError
        As `factor_of`.
    """
    factor = factor_of(shape)
    (rows, up_rows), (cols, up_cols) = (_axis(size, factor) for size in shape)
    return Geometry(rows, cols, up_rows, up_cols)


def _axis(size: int, factor: float) -> tuple[FloatArray, FloatArray]:
    """Return the weights down to the chip [chip, size] and up from cells [size, cell] along one axis."""
    start = float((CHIP - size) // 2) if factor == 1 else (CHIP - size / factor) / 2
    left = (np.arange(CHIP)[:, None] - start) * factor
    pixel = np.arange(size)[None]
    down = np.clip(np.minimum(pixel + 1, left + factor) - np.maximum(pixel, left), 0, None) / factor
    centre = np.clip((start + (np.arange(size) + 0.5) / factor) / CELL_PX - 0.5, 0, CELLS - 1)
    up = np.clip(1 - np.abs(centre[:, None] - np.arange(CELLS)[None]), 0, None)
    return down, up


def gaussian_weights(size: int, sigma: float) -> FloatArray:
    """Return a Gaussian kernel between all places of an axis, float64 [size, size], 1 on the diagonal."""
    apart = np.arange(size)[:, None] - np.arange(size)[None]
    return np.asarray(np.exp(-0.5 * (apart / sigma) ** 2))


def along_both(left: FloatArray, values: FloatArray, right: FloatArray) -> FloatArray:
    """Return ``left @ values @ right.T`` over the last two axes of values [..., row, col]."""
    return np.asarray(left @ values @ right.T)


def cell_shares(measured: NDArray[np.bool_]) -> FloatArray:
    """Return the measured share of each cell, float64 [N, row, col], of bool [N, chip, chip]."""
    blocks = measured.reshape(len(measured), CELLS, CELL_PX, CELLS, CELL_PX)
    return np.asarray(blocks.mean(axis=(2, 4)))
