"""Pure geometry of chips: where windows lie, how they taper, and how their results become one mosaic.

Nothing here reads or writes a file. Arrays are (band, row, col), float32, NaN where nothing is known.

The mosaic is a running weighted mean, first along a row of windows, then down the scene. Per axis, window ``k`` enters
with ``alpha_k = w_k / (w_0 + ... + w_k)``, so that the weights of all windows over a pixel sum to one (a partition of
unity) and ``mean += alpha * (value - mean)`` leaves a pixel on which all windows agree untouched, bit for bit, in any
unit. NaN needs no rule of its own: it propagates. Blending always happens in row-major order, whatever the order of
arrival.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

from tocsin.grid import Window

FloatArray = npt.NDArray[np.float32]
QuantisedArray = npt.NDArray[np.uint16]

PROBABILITY_SCALE = 1e-4
PROBABILITY_NODATA = 65535


@dataclass(frozen=True, slots=True)
class Strip:
    """Some full rows of a scored scene, as quantised probability.

    Attributes
    ----------
    row : int
        First row of the strip in the scene; strips come in ascending order without gaps.
    probability : numpy.ndarray
        uint16 [height, width], units of 1e-4, 65535 = no data.
    pre_probability : numpy.ndarray or None
        The same for the pre-event scene, None when none was given.
    """

    row: int
    probability: QuantisedArray
    pre_probability: QuantisedArray | None = None


def quantise(probability: FloatArray) -> QuantisedArray:
    """Probability as it is stored: what decides a class is what a reader of the file sees.

    Parameters
    ----------
    probability : numpy.ndarray
        float32, any shape, 0 to 1, NaN = no data.

    Returns
    -------
    numpy.ndarray
        uint16 of the same shape, units of 1e-4, 0 to 10000, 65535 = no data.
    """
    scaled = probability * np.float32(1 / PROBABILITY_SCALE)
    np.rint(scaled, out=scaled)
    np.clip(scaled, 0, round(1 / PROBABILITY_SCALE), out=scaled)
    np.nan_to_num(scaled, copy=False, nan=PROBABILITY_NODATA)
    return scaled.astype(np.uint16)


def dequantise(stored: QuantisedArray) -> FloatArray:
    """Inverse of `quantise`: float32 probability, NaN where 65535 was stored."""
    probability = stored.astype(np.float32)
    probability *= np.float32(PROBABILITY_SCALE)
    probability[stored == PROBABILITY_NODATA] = np.nan
    return probability


@dataclass(frozen=True, slots=True)
class ChipPlan(Sequence[Window]):
    """The windows of a scene, row by row from its origin; what reaches outside the scene is NaN when read.

    Attributes
    ----------
    height, width : int
        Scene size, pixels.
    chip : int
        Side of a window, pixels.
    overlap : int
        Pixels that neighbouring windows share, 0 <= overlap < chip.
    """

    height: int
    width: int
    chip: int
    overlap: int

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.chip) < 1 or not 0 <= self.overlap < self.chip:
            msg = f"given {self}; expected sizes of at least 1 px and 0 <= overlap < chip; do choose others"
            raise ValueError(msg)

    @property
    def step(self) -> int:
        """Distance between the origins of neighbouring windows, pixels."""
        return self.chip - self.overlap

    @property
    def rows(self) -> int:
        """Number of rows of windows."""
        return self._count(self.height)

    @property
    def cols(self) -> int:
        """Number of windows in a row."""
        return self._count(self.width)

    def _count(self, size: int) -> int:
        return 1 + max(0, -(-(size - self.chip) // self.step))

    def __len__(self) -> int:
        """Return the number of windows."""
        return self.rows * self.cols

    @overload
    def __getitem__(self, index: int) -> Window: ...

    @overload
    def __getitem__(self, index: slice) -> list[Window]: ...

    def __getitem__(self, index: int | slice) -> Window | list[Window]:
        """Window number `index` in row-major order."""
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        row, col = divmod(index % len(self), self.cols)
        return Window(row * self.step, col * self.step, self.chip, self.chip)

    def number(self, window: Window) -> int:
        """Place of `window` in row-major order; ValueError when it is none of this plan's windows."""
        row, row_rest = divmod(window.row, self.step)
        col, col_rest = divmod(window.col, self.step)
        on_plan = not row_rest and not col_rest and 0 <= row < self.rows and 0 <= col < self.cols
        if not on_plan or (window.height, window.width) != (self.chip, self.chip):
            msg = f"given {window}; expected a window of {self}; do take windows from the plan"
            raise ValueError(msg)
        return row * self.cols + col


def plan(shape: tuple[int, int], chip: int, overlap: int) -> ChipPlan:
    """Windows that cover a scene of `shape` (height, width) with chips of `chip` px that share `overlap` px."""
    return ChipPlan(shape[0], shape[1], chip, overlap)


def taper(chip: int, overlap: int) -> npt.NDArray[np.float64]:
    """Weight of a chip along one axis before normalisation: a squared-sine rise over the overlap, 1 between.

    Returns
    -------
    numpy.ndarray
        float64 [chip], in (0, 1], symmetric. Never 0, so that every pixel has a weight.
    """
    position = np.arange(chip, dtype=np.float64)
    edge = np.minimum(position, position[::-1]) + 1
    rise: npt.NDArray[np.float64] = np.sin(0.5 * np.pi * np.minimum(edge / (overlap + 1), 1.0)) ** 2
    return rise


def entry_weights(count: int, chip: int, overlap: int) -> FloatArray:
    """Weight with which each window of an axis enters the running mean over its first `overlap` px.

    Parameters
    ----------
    count : int
        Number of windows along the axis.
    chip, overlap : int
        Pixels.

    Returns
    -------
    numpy.ndarray
        float32 [count, overlap]; row k is ``w_k / (w_0 + ... + w_k)`` at the pixels that earlier windows cover too.
    """
    weight = taper(chip, overlap)
    step = chip - overlap
    entries = np.ones((count, overlap), dtype=np.float32)
    total = weight[step:].copy()
    for window in range(1, count):
        total += weight[:overlap]
        entries[window] = weight[:overlap] / total
        total = np.concatenate([total, weight[overlap:]])[step:]
    return entries


class Mosaic:
    """Results of windows, in any order, become finished rows of the scene in ascending order.

    Holds width x (chip + overlap) pixels a band while windows arrive row by row; a window that comes early waits.

    Parameters
    ----------
    windows : ChipPlan
        The plan; every window of it must be added once.
    bands : int
        Bands of the results.
    """

    def __init__(self, windows: ChipPlan, bands: int = 1) -> None:
        self._plan = windows
        self._bands = bands
        self._columns = entry_weights(windows.cols, windows.chip, windows.overlap)
        self._rows = entry_weights(windows.rows, windows.chip, windows.overlap)
        self._waiting: dict[int, FloatArray | None] = {}
        self._next = 0
        self._band = self._empty()
        self._carry = self._band[:, :0]

    def _empty(self) -> FloatArray:
        return np.empty((self._bands, self._plan.chip, self._plan.width), dtype=np.float32)

    @property
    def finished(self) -> bool:
        """Whether every window was added, so that every row came out."""
        return self._next == len(self._plan)

    def add(self, window: Window, values: FloatArray | None) -> Iterator[tuple[int, FloatArray]]:
        """Take one window's result and return the rows that it finished.

        Parameters
        ----------
        window : Window
            One of the plan's.
        values : numpy.ndarray or None
            float32 [band, chip, chip], NaN = no data; None = all no data (the window was not run).

        Returns
        -------
        iterator of (int, numpy.ndarray)
            First row and float32 [band, rows, width]; empty until a row of windows is complete.

        Raises
        ------
        ValueError
            The window is none of the plan's, came twice, or its result has another shape.
        """
        number = self._plan.number(window)
        expected = (self._bands, self._plan.chip, self._plan.chip)
        if number < self._next or number in self._waiting:
            msg = f"given {window} twice; expected every window once; do add each window of the plan once"
            raise ValueError(msg)
        if values is not None and values.shape != expected:
            msg = f"given a result of shape {values.shape}; expected {expected}; do return one value a pixel"
            raise ValueError(msg)
        self._waiting[number] = values
        return iter(self._advance())

    def _advance(self) -> list[tuple[int, FloatArray]]:
        finished = []
        while self._next in self._waiting:
            row, col = divmod(self._next, self._plan.cols)
            self._blend(col, self._waiting.pop(self._next))
            self._next += 1
            if col == self._plan.cols - 1:
                finished.append(self._finish(row))
        return finished

    def _blend(self, col: int, values: FloatArray | None) -> None:
        start = col * self._plan.step
        stop = min(start + self._plan.chip, self._plan.width)
        shared = min(start + self._plan.overlap if col else start, stop)
        if values is None:
            self._band[:, :, start:stop] = np.nan
            return
        if shared > start:
            mean = self._band[:, :, start:shared]
            mean += (values[:, :, : shared - start] - mean) * self._columns[col, : shared - start]
        self._band[:, :, shared:stop] = values[:, :, shared - start : stop - start]

    def _finish(self, row: int) -> tuple[int, FloatArray]:
        start = row * self._plan.step
        shared = self._carry.shape[1]
        if shared:
            mean = self._carry
            mean += (self._band[:, :shared] - mean) * self._rows[row, :shared, None]
            self._band[:, :shared] = mean
        if row == self._plan.rows - 1:
            done = self._band[:, : self._plan.height - start]
            self._band = self._band[:, :0]
            self._carry = self._carry[:, :0]
            return start, done
        done = self._band[:, : self._plan.step]
        self._carry = self._band[:, self._plan.step :].copy()
        self._band = self._empty()
        return start, done
