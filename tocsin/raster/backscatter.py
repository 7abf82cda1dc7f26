"""Sentinel-1 backscatter as one source of two bands, VV and VH, in dB."""

from pathlib import Path
from typing import Literal

from tocsin.grid import Grid, Window
from tocsin.raster.acquired import Acquired
from tocsin.raster.opening import Raster
from tocsin.raster.source import BandArray, ClosingSource, Limits

Units = Literal["db", "linear"]


class Backscatter(ClosingSource):
    """An acquisition: a `Source` of [VV, VH] in dB.

    Attributes
    ----------
    files
        The rasters behind it (one or two), for provenance: ``href``, ``path``, ``sha256()``.
    scene_id
        Name of the scene, from the file or folder name without the polarisation.
    """

    files: tuple[Raster, ...]
    grid: Grid
    scene_id: str

    @property
    def acquired(self) -> Acquired | None:
        """Acquisition time, None when unknown."""
        raise NotImplementedError

    def read(self, window: Window) -> BandArray:
        """Return float32 [2, row, col]: VV, VH in dB, NaN where invalid or outside."""
        raise NotImplementedError


def open_backscatter(spec: str | Path, units: Units = "db", limits: Limits | None = None) -> Backscatter:
    """Open an acquisition given as one file, a folder (OPERA, HyP3) or ``VV.tif;VH.tif``."""
    raise NotImplementedError
