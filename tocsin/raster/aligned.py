"""Read any source on another grid: windowed resampling that knows NaN, dB and footprints."""

from typing import Literal

from tocsin.grid import Grid, Window
from tocsin.raster.source import BandArray, ClosingSource, Source

Method = Literal["nearest", "bilinear", "power"]


class Aligned(ClosingSource):
    """A source seen on another grid."""

    grid: Grid

    def read(self, window: Window) -> BandArray:
        """Return float32 [band, row, col] on the new grid, NaN where invalid or outside the source."""
        raise NotImplementedError


def align(source: Source, grid: Grid, method: Method) -> Aligned:
    """Return a source seen on another grid; closing it closes the source."""
    raise NotImplementedError
