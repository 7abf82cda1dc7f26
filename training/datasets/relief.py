"""Real relief to simulate interferograms and landslides on: crops of SRTM3 tiles at any pixel spacing."""

import math
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from tocsin.errors import UsageError
from tocsin.grid import Window
from tocsin.raster import open_raster

DEGREE_M: Final = 111_320.0
TRIES: Final = 20
LEAST_LAND: Final = 0.3
"""Share of a crop above sea level, below which another is drawn."""


class ReliefTiles:
    """SRTM3 tiles (NASA, public domain) below a folder.

    Parameters
    ----------
    folder
        Holds ``*.hgt`` of 1 x 1 degree.
    names
        Tiles to take, such as N42E012; all when empty.

    Raises
    ------
    UsageError
        When there is none.
    """

    def __init__(self, folder: Path, names: tuple[str, ...] = ()) -> None:
        self._tiles: list[tuple[NDArray[np.float32], float, float]] = []
        for path in sorted(path for path in folder.glob("*.hgt") if not names or path.stem in names):
            with open_raster(path) as raster:
                height_m = raster.read(Window(0, 0, *raster.grid.shape))[0]
                left, bottom, right, top = raster.grid.bounds
            north_m = (top - bottom) / len(height_m) * DEGREE_M
            east_m = (right - left) / height_m.shape[1] * DEGREE_M * math.cos(math.radians((top + bottom) / 2))
            # A void has the height of the sea: a crop of the interferogram that shows nothing there.
            self._tiles.append((np.nan_to_num(height_m), north_m, east_m))
        if not self._tiles:
            raise UsageError(
                f"{folder} without *.hgt", "SRTM3 tiles of 1 x 1 degree", "name the folder that holds them"
            )

    def crop(self, random: np.random.Generator, pixel_m: float, size_px: int) -> NDArray[np.float32] | None:
        """Return heights of a drawn place, mirrored at times: float32 [size, size], m, 0 or less is water.

        Parameters
        ----------
        random
            Where to draw from.
        pixel_m
            Pixel spacing of the crop, m.
        size_px
            Rows and columns.

        Returns
        -------
        ndarray or None
            None when no tile holds so much land in so large a crop.
        """
        for _ in range(TRIES):
            height_m, north_m, east_m = self._tiles[int(random.integers(len(self._tiles)))]
            rows, cols = (size_px * pixel_m / step for step in (north_m, east_m))
            if rows >= len(height_m) - 1 or cols >= height_m.shape[1] - 1:
                continue
            top = random.uniform(0, len(height_m) - 1 - rows)
            left = random.uniform(0, height_m.shape[1] - 1 - cols)
            steps = np.arange(size_px) / size_px
            places = np.meshgrid(top + steps * rows, left + steps * cols, indexing="ij")
            crop = map_coordinates(height_m, places, order=1).astype(np.float32)
            if (crop > 0).mean() >= LEAST_LAND:
                return np.ascontiguousarray(crop[:, ::-1]) if random.random() < 0.5 else crop
        return None
