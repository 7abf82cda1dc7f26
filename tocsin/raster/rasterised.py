"""Polygons (areas of interest, exclusions) burnt onto a grid, window by window."""

from pathlib import Path

from tocsin.grid import Grid, Window
from tocsin.raster.source import BandArray, ClosingSource


class Rasterised(ClosingSource):
    """A `Source` of one band: 1 inside a polygon, 0 outside all of them, NaN outside the grid.

    Attributes
    ----------
    empty
        True when no polygon touches the grid.
    """

    grid: Grid
    empty: bool

    def read(self, window: Window) -> BandArray:
        """Return float32 [1, row, col]: 1 inside, 0 outside, NaN outside the grid."""
        raise NotImplementedError


def rasterise(vector_path: str | Path, grid: Grid, *, all_touched: bool = False) -> Rasterised:
    """Open a vector file of polygons in any CRS (GeoJSON, GeoPackage, Shapefile, FlatGeobuf)."""
    raise NotImplementedError
