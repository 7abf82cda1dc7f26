"""Read any source on another grid: windowed resampling that knows NaN, dB and footprints.

Each window asked is cut into parts whose footprint in the source stays small; each part is read from the source and
warped by GDAL in memory, float32 with NaN as nodata, so that an invalid neighbour never takes part in a mean.
"""

import math
from typing import Any, Literal

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import Resampling, reproject

from tocsin.errors import NotCoveringError, UsageError
from tocsin.grid import Grid, Window
from tocsin.raster.pixelmap import PixelMap, Tile, footprint
from tocsin.raster.source import BandArray, ClosingSource, Source

Method = Literal["nearest", "bilinear", "power"]
METHODS = ("nearest", "bilinear", "power")

# A part's footprint in the source, pixels: bounds memory when the source is much finer than the grid.
MAX_FOOTPRINT = 2**22
# At this ratio of pixel sizes a mean over the footprint replaces interpolation, which would skip source pixels.
SHRINKING = 1.5
# Two grids of one CRS whose pixels nowhere lie further apart than this share of a pixel are read as they are.
SAME_GRID_PX = 1e-3
# Pixels are warped in pixel coordinates; GDAL wants some CRS, the same on both sides, without a wrap.
PIXEL_CRS = CRS.from_epsg(3857)


class Aligned(ClosingSource):
    """A source seen on another grid. Made by `align`.

    Attributes
    ----------
    grid
        The new grid.
    method
        How values are resampled.
    """

    def __init__(self, source: Source, grid: Grid, method: Method) -> None:
        self.grid = grid
        self.method = method
        self._source = source
        self._map = PixelMap(source.grid, grid)
        self._same = _is_same(source.grid, grid)
        self._resampling, ratio = _resampling(source.grid, grid, method)
        # Two source pixels for the kernel of an interpolation, one target pixel for a mean.
        self._margin = 3 + math.ceil(ratio)
        self._bands = source.read(Window(0, 0, 1, 1)).shape[0]

    def read(self, window: Window) -> BandArray:
        """Return the source's values on the new grid.

        Parameters
        ----------
        window
            In pixels of the new grid; may reach outside it.

        Returns
        -------
        ndarray
            float32 [band, row, col], unit of the source; NaN where invalid, outside the source and outside the grid.
        """
        out = np.full((self._bands, *window.shape), np.nan, dtype=np.float32)
        inside = window.intersection(self.grid.window)
        if inside is None:
            return out
        row, col = inside.row - window.row, inside.col - window.col
        target = out[:, row : row + inside.height, col : col + inside.width]
        if self._same:
            target[:] = self._source.read(inside)
        else:
            with rasterio.Env():
                self._fill(inside, target)
        return out

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _fill(self, window: Window, out: BandArray) -> None:
        """Warp a window into ``out`` [band, row, col], halving it while its footprint is too large."""
        tiles = self._map.tiles(window)
        if not tiles:
            return
        reaches = np.array([tile.reach() for tile in tiles])
        reach = (*reaches[:, :2].min(axis=0).tolist(), *reaches[:, 2:].max(axis=0).tolist())
        found = [(footprint(reach, shift, self._margin, self._source.grid), shift) for shift in self._map.shifts()]
        places = [(place, shift) for place, shift in found if place is not None]
        size = sum(place.height * place.width for place, _ in places)
        if size > MAX_FOOTPRINT and max(window.shape) > 1:
            for half in _halves(window):
                row, col = half.row - window.row, half.col - window.col
                self._fill(half, out[:, row : row + half.height, col : col + half.width])
            return
        for place, shift in places:
            values = self._source.read(place)
            if self.method == "power":
                values = np.asarray(np.power(np.float32(10.0), values / 10), dtype=np.float32)
            for tile in tiles:
                self._warp(tile, window, (values, place, shift), out)

    def _warp(self, tile: Tile, window: Window, read: tuple[BandArray, Window, float], out: BandArray) -> None:
        """Warp one tile from what was read of the source (values, their place, the turn of longitude)."""
        values, place, shift = read
        near = footprint(tile.reach(), shift, self._margin, self._source.grid)
        near = near and near.intersection(place)
        if near is None:
            return
        rows = slice(near.row - place.row, near.row_stop - place.row)
        cols = slice(near.col - place.col, near.col_stop - place.col)
        at = tile.to_source
        to_near = Affine(at.a, at.b, at.c + shift - near.col, at.d, at.e, at.f - near.row)
        warped = np.full((values.shape[0], *tile.window.shape), np.nan, dtype=np.float32)
        # GDAL would guess a kernel's scale from the sizes of the two arrays, margins included; say it instead.
        scale: dict[str, Any] = {} if self._resampling == Resampling.average else {"XSCALE": 1, "YSCALE": 1}
        reproject(
            values[:, rows, cols],
            warped,
            src_transform=~to_near,
            src_crs=PIXEL_CRS,
            src_nodata=np.nan,
            dst_transform=Affine.identity(),
            dst_crs=PIXEL_CRS,
            dst_nodata=np.nan,
            resampling=self._resampling,
            UNIFIED_SRC_NODATA="NO",  # each band has its own validity
            **scale,
        )
        if self.method == "power":
            with np.errstate(divide="ignore", invalid="ignore"):
                warped = np.asarray(10 * np.log10(warped), dtype=np.float32)
            warped[~np.isfinite(warped)] = np.nan
        row, col = tile.window.row - window.row, tile.window.col - window.col
        target = out[:, row : row + tile.window.height, col : col + tile.window.width]
        np.copyto(target, warped, where=np.isnan(target))


def align(source: Source, grid: Grid, method: Method) -> Aligned:
    """Return a source seen on another grid; closing it closes the source.

    Parameters
    ----------
    source
        Any source.
    grid
        Grid to see it on, in any CRS.
    method
        ``nearest`` for classes; ``bilinear`` for continuous values; ``power`` for dB, averaged in linear power. The
        last two take the mean over the footprint where the grid's pixels are 1.5 times larger or more.

    Raises
    ------
    UsageError
        An unknown method.
    NotCoveringError
        The source does not touch the grid.
    """
    if method not in METHODS:
        raise UsageError(f"resampling method {method!r}", f"one of {METHODS}", "choose one of them")
    if not PixelMap(source.grid, grid).meets():
        raise NotCoveringError(
            f"a raster with bounds {source.grid.bounds} in {source.grid.crs_name}",
            f"one that covers {grid.bounds} in {grid.crs_name}",
            "pass a raster of the same place, or cut the scene to the common area",
        )
    return Aligned(source, grid, method)


def _is_same(one: Grid, two: Grid) -> bool:
    """Whether pixels coincide, so that reading is enough."""
    if one.crs != two.crs:
        return False
    corner = abs(one.transform.c - two.transform.c) + abs(one.transform.f - two.transform.f)
    growth = abs(one.transform.a - two.transform.a) * two.width + abs(one.transform.e - two.transform.e) * two.height
    return bool(corner + growth < SAME_GRID_PX * min(abs(one.transform.a), abs(one.transform.e)))


def _resampling(source: Grid, grid: Grid, method: Method) -> tuple[Resampling, float]:
    """Return GDAL's method, and how many source pixels lie along a pixel of the grid."""
    fine_x, fine_y = source.pixel_size_m()
    coarse_x, coarse_y = grid.pixel_size_m()
    ratio = max(coarse_x / fine_x, coarse_y / fine_y)
    if method == "nearest":
        return Resampling.nearest, ratio
    return (Resampling.average if ratio >= SHRINKING else Resampling.bilinear), ratio


def _halves(window: Window) -> tuple[Window, Window]:
    if window.height >= window.width:
        half = window.height // 2
        return (
            Window(window.row, window.col, half, window.width),
            Window(window.row + half, window.col, window.height - half, window.width),
        )
    half = window.width // 2
    return (
        Window(window.row, window.col, window.height, half),
        Window(window.row, window.col + half, window.height, window.width - half),
    )
