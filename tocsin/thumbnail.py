"""Scenes in small: what strips and windows leave behind for a picture, in memory that does not grow with the scene."""

import math
from abc import ABC, abstractmethod
from typing import Final

import numpy as np
import numpy.typing as npt

from tocsin.grid import Grid, Window

CELLS: Final = 880
"""Largest number of cells along either axis."""
_SAMPLES: Final = 3
"""Samples taken along each axis of a cell, about: a picture needs no more."""

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


class _Cells:
    """Square cells of whole pixels over a raster of some shape."""

    def __init__(self, shape: tuple[int, int]) -> None:
        smallest = max(1, math.ceil(max(shape) / CELLS))
        self._step = max(1, smallest // _SAMPLES)
        # A whole number of steps: then every cell, also a cut one at the edge, begins with a sample.
        self.pixels = self._step * math.ceil(smallest / self._step)
        self.shape = (math.ceil(shape[0] / self.pixels), math.ceil(shape[1] / self.pixels))

    def samples(self, first: int, size: int) -> tuple[slice, IntArray, IntArray]:
        """Which of `size` pixels from `first` on to look at, where cells start among them, and which cells."""
        start = -first % self._step
        cell = (np.arange(start, size, self._step) + first) // self.pixels
        starts = np.flatnonzero(np.diff(cell, prepend=-1))
        return slice(start, None, self._step), starts, cell[starts]


class ClassThumbnail:
    """Share of each code in every cell.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the scene.
    codes : tuple of int
        Codes of the class raster.
    """

    def __init__(self, shape: tuple[int, int], codes: tuple[int, ...]) -> None:
        self._cells = _Cells(shape)
        self._codes = codes
        self._counts = np.zeros((len(codes), *self._cells.shape), dtype=np.uint32)

    def add(self, row: int, codes: npt.NDArray[np.uint8]) -> None:
        """Take some rows of the class raster: uint8 [height, width]."""
        rows, row_starts, row_cells = self._cells.samples(row, codes.shape[0])
        cols, col_starts, col_cells = self._cells.samples(0, codes.shape[1])
        seen = codes[rows, cols]
        if not seen.size:
            return
        place = (row_cells[:, None], col_cells)
        for index, code in enumerate(self._codes):
            here = seen == code
            if here.any():
                across = np.add.reduceat(here.view(np.uint8), col_starts, axis=1, dtype=np.uint32)
                self._counts[index][place] += np.add.reduceat(across, row_starts, axis=0)

    def shares(self) -> dict[int, npt.NDArray[np.float32]]:
        """Share of each code, float32 [row, col], 0-1; a cell without a sample counts for none."""
        total = np.maximum(1, self._counts.sum(axis=0)).astype(np.float32)
        return {code: counts / total for code, counts in zip(self._codes, self._counts, strict=True)}


class _WindowSums(ABC):
    """Sums of layers in every cell; windows may come in any order and overlap."""

    def __init__(self, layers: int) -> None:
        self._cells: _Cells | None = None
        self._sums = np.zeros((layers, 0, 0), dtype=np.float32)
        self._count = np.zeros((0, 0), dtype=np.float32)

    @abstractmethod
    def _layers(self, seen: FloatArray) -> tuple[FloatArray, ...]:
        """Return what is summed of valid samples."""

    def add(self, grid: Grid, window: Window, values: FloatArray) -> None:
        """Take a window of `grid`: float32 [height, width], NaN = no data; what lies outside the grid is left out."""
        if self._cells is None:
            self._cells = _Cells(grid.shape)
            self._sums = np.zeros((len(self._sums), *self._cells.shape), dtype=np.float32)
            self._count = np.zeros(self._cells.shape, dtype=np.float32)
        inside = window.intersection(grid.window)
        if inside is None:
            return
        rows, row_starts, row_cells = self._cells.samples(inside.row, inside.height)
        cols, col_starts, col_cells = self._cells.samples(inside.col, inside.width)
        top, left = inside.row - window.row, inside.col - window.col
        seen = values[top : top + inside.height, left : left + inside.width][rows, cols]
        if not seen.size:
            return
        known = np.isfinite(seen)
        place = (row_cells[:, None], col_cells)
        amounts = (np.where(known, layer, 0) for layer in self._layers(seen))
        for target, amount in (*zip(self._sums, amounts, strict=True), (self._count, known.astype(np.float32))):
            across = np.add.reduceat(amount, col_starts, axis=1)
            target[place] += np.add.reduceat(across, row_starts, axis=0)

    def _means(self) -> FloatArray | None:
        """Mean of each layer, float32 [layer, row, col], NaN where nothing valid came; None when nothing came."""
        if not self._count.any():
            return None
        means = np.full(self._sums.shape, np.nan, dtype=np.float32)
        np.divide(self._sums, self._count, out=means, where=self._count > 0)
        return means


class Backdrop(_WindowSums):
    """Mean backscatter in every cell."""

    def __init__(self) -> None:
        super().__init__(1)

    def _layers(self, seen: FloatArray) -> tuple[FloatArray, ...]:
        return (seen,)

    def mean(self) -> FloatArray | None:
        """Mean of each cell, float32 [row, col], NaN where nothing valid came; None when nothing came at all."""
        means = self._means()
        return None if means is None else means[0]


class PhaseBackdrop(_WindowSums):
    """Mean direction of wrapped phase in every cell: averaged as unit vectors, so never across the wrap."""

    def __init__(self) -> None:
        super().__init__(2)

    def _layers(self, seen: FloatArray) -> tuple[FloatArray, ...]:
        return np.cos(seen), np.sin(seen)

    def mean(self) -> FloatArray | None:
        """Mean cosine and sine of each cell, float32 [2, row, col], NaN where nothing valid came; None without any."""
        return self._means()
