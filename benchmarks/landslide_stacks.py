"""Stacks of acquisitions in memory, judged as a scoring judges files: resampled, in chips that overlap, in cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tocsin.chips import PROBABILITY_NODATA, PROBABILITY_SCALE
from tocsin.grid import Grid, Window
from tocsin.hazards.landslide import ACQUISITIONS, BANDS, GSD_M, NO_DATA, cell_grid
from tocsin.inference import Chip
from tocsin.landslide_cells import CellGround, Cells, decided
from tocsin.landslide_inference import LandslideInference, on_scene
from tocsin.raster import Method, align
from tocsin.raster.source import ClosingSource
from tocsin.runtimes import Runtime
from tocsin.scene_files import model_grid_of

FloatArray = NDArray[np.float32]

SIDE: Final = ACQUISITIONS * len(BANDS)
BATCH: Final = 4


class Held(ClosingSource):
    """Layers in memory as a source.

    Parameters
    ----------
    grid
        Where they lie.
    layers
        float32 [layer, row, col], NaN where missing.
    """

    def __init__(self, grid: Grid, layers: FloatArray) -> None:
        self.grid, self._layers = grid, layers

    def read(self, window: Window) -> FloatArray:
        """Return a window, NaN outside."""
        out = np.full((len(self._layers), *window.shape), np.nan, np.float32)
        inside = window.intersection(self.grid.window)
        if inside is not None:
            rows, cols = inside.row - window.row, inside.col - window.col
            out[:, rows : rows + inside.height, cols : cols + inside.width] = self._layers[
                :, inside.row : inside.row_stop, inside.col : inside.col_stop
            ]
        return out


def model_grid(grid: Grid) -> Grid:
    """Return the grid of the model's pixels over a grid."""
    return model_grid_of(grid, (GSD_M, GSD_M), GSD_M)


def resampled(values: FloatArray, grid: Grid, target: Grid, method: Method) -> FloatArray:
    """Return values [..., row, col] of a grid on another one, as a scoring resamples: `power` for dB."""
    with align(Held(grid, values.reshape(-1, *grid.shape)), target, method) as source:
        return source.read(target.window).reshape(*values.shape[:-2], *target.shape)


@dataclass(frozen=True)
class Judged:
    """What a model says of a stack.

    Attributes
    ----------
    cells
        Decided.
    mask
        float32 [row, col] on the model's grid: P(landslide), NaN where a side was not seen.
    """

    cells: Cells
    mask: FloatArray


@dataclass(frozen=True)
class StackJudge:
    """A model that judges stacks.

    Attributes
    ----------
    runtime
        What runs it.
    threshold
        Probability from which a class is reached.
    """

    runtime: Runtime
    threshold: float

    def judge(self, sides: Sequence[FloatArray], grid: Grid, dem: FloatArray | None = None) -> Judged:
        """Judge acquisitions before and after, [1 to 3, 2, row, col] each on the model's grid, in dB."""
        layers = np.full((2 * SIDE + 1, *grid.shape), np.nan, np.float32)
        for start, side in zip((0, SIDE), sides, strict=True):
            layers[start : start + len(BANDS) * len(side)] = side.reshape(-1, *grid.shape)
        if dem is not None:
            layers[-1] = dem
        held = Held(grid, layers)
        inference = LandslideInference(self.runtime, grid, BATCH)
        chips = (Chip(window, (held.read(on_scene(window)),)) for window in inference.windows)
        mask = np.full(grid.shape, np.nan, np.float32)
        for strip in inference.strips(inference.results(chips)):
            stored = strip.probability
            values = np.where(stored == PROBABILITY_NODATA, np.nan, stored * PROBABILITY_SCALE)
            mask[strip.row : strip.row + len(stored)] = values
        ground = CellGround(grid, cell_grid(grid))
        ground.add(0, np.where(np.isnan(mask), NO_DATA, mask >= self.threshold).astype(np.uint8))
        return Judged(decided(inference.answers, ground, self.threshold), mask)
