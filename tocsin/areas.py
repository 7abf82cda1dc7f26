"""How much of each class there is: true areas, counted while rows pass."""

import math

import numpy as np
import numpy.typing as npt
from affine import Affine

from tocsin.grid import Grid
from tocsin.hazards.classes import NO_DATA, ClassArray
from tocsin.polygons import WEIGHT_CELL


class ClassAreas:
    """True areas of classes, exact in whole units, so that no order of strips or polygons changes a sum.

    Parameters
    ----------
    grid : Grid
        Of the class raster; without a CRS only pixels are counted, a unit each.
    codes : tuple of int
        Every code of the class raster, 255 (no data) among them.
    """

    def __init__(self, grid: Grid, codes: tuple[int, ...]) -> None:
        self.units = dict.fromkeys(codes, 0)
        self.pixels = dict.fromkeys(codes, 0)
        self.unit_km2 = math.nan
        self._cells: Grid | None = None
        if not grid.crs:
            return
        size_x, size_y = grid.pixel_size_m()
        # About 2**26 units a pixel: exact to 1e-8 of a pixel, and 1e9 pixels still fit 64 bits.
        self._cells = Grid(
            grid.crs, grid.transform @ Affine.scale(WEIGHT_CELL, 1), grid.height, -(-grid.width // WEIGHT_CELL)
        )
        self.unit_km2 = size_x * size_y / 1e6 / 2**26

    def weights(self, row: int, height: int) -> npt.NDArray[np.float64]:
        """Area of a pixel in whole units, one value for `WEIGHT_CELL` pixels of a row, or for all of it.

        Parameters
        ----------
        row, height : int
            Rows of the scene.

        Returns
        -------
        numpy.ndarray
            float64 [height, ceil(width / WEIGHT_CELL)], or [height, 1] where all pixels of a row have one area.
        """
        if self._cells is None:
            return np.ones((height, 1))
        # A map projection changes a pixel's area by less than 1e-5 over a cell, and the cell's mean is right anyway.
        area = self._cells.pixel_area_km2(row, height) / WEIGHT_CELL
        # Where a projection has no inverse there is no ground to measure.
        whole: npt.NDArray[np.float64] = np.nan_to_num(np.rint(area / self.unit_km2))
        return whole

    def add(self, codes: ClassArray, weights: npt.NDArray[np.float64]) -> None:
        """Count some rows: uint8 [height, width] with their `weights`."""
        rest = codes.size
        firsts = np.arange(0, codes.shape[1], WEIGHT_CELL if weights.shape[1] > 1 else codes.shape[1])
        for code in self.units:
            here = codes == code
            pixels = int(np.count_nonzero(here)) if rest else 0
            if not pixels:
                continue
            rest -= pixels
            self.pixels[code] += pixels
            counts = np.add.reduceat(here.view(np.uint8), firsts, axis=1, dtype=np.int32)
            self.units[code] += int(np.vdot(weights, counts))

    def km2(self, *codes: int) -> float:
        """Area of some classes together, km2; NaN without a CRS."""
        return round(sum(self.units[code] for code in codes) * self.unit_km2, 10)

    @property
    def valid_fraction(self) -> float:
        """Share of pixels that are not no data, 0-1."""
        total = sum(self.pixels.values())
        return 1 - self.pixels[NO_DATA] / total if total else 0.0
