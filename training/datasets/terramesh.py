"""Co-registered sites in the layout of TerraMesh (Blumenstiel et al. 2025): Sentinel-1 RTC beside a land-cover map.

``S1RTC/ID.tif`` (VV, VH, dB, 10 m) and ``LULC/ID.tif`` (classes of the Esri 10 m map, Karra et al. 2021: 1 is water).
The map was not made for the day of the acquisition, so that it is a weak label, good for land covers that flood data
lack.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from tocsin.errors import UsageError
from tocsin.grid import Window
from tocsin.raster import open_raster
from training.datasets.chip import IGNORE, LabelledChip

WATER: Final = 1
FLOODED_VEGETATION: Final = 3


class TerraMeshSites:
    """The sites below a folder.

    Raises
    ------
    UsageError
        When the folder holds no ``S1RTC`` and ``LULC``.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not all((self.folder / part).is_dir() for part in ("S1RTC", "LULC")):
            raise UsageError(
                given=f"{self.folder}, which holds no S1RTC and LULC",
                expected="TerraMesh sites as folders of GeoTIFFs",
                todo="pass the folder that holds S1RTC and LULC",
            )

    def chips(self) -> Iterator[LabelledChip]:
        """Read every site; flooded vegetation is not judged, since nobody knows its state on that day."""
        for path in sorted((self.folder / "S1RTC").glob("*.tif")):
            with open_raster(path) as raster:
                window = Window(0, 0, raster.grid.height, raster.grid.width)
                s1_db = raster.read(window)
            with open_raster(self.folder / "LULC" / path.name) as raster:
                cover = raster.read(window)[0]
            judged = np.isfinite(s1_db).any(axis=0) & np.isfinite(cover) & (cover != FLOODED_VEGETATION)
            label = np.where(judged, cover == WATER, IGNORE).astype(np.int16)
            yield LabelledChip(path.stem, f"terramesh {path.stem}", s1_db, label)
