"""From the pixels of one grid to those of another, by tiles within which the map is affine.

GDAL's own warper interpolates coordinates to an eighth of a pixel along a whole row; here the error is bounded by
`TOLERANCE_PX`, and a pixel maps to the same place whichever window asks for it.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from affine import Affine

from tocsin.grid import FloatArray, Grid, Window, project

# Largest error of a position, in source pixels (or target pixels, when these are larger).
TOLERANCE_PX = 0.004
TILE_SIDES = (256, 128, 64, 32, 16)
# Tiles per axis on which the side is chosen.
PROBES = 5
# Lattice per axis on which the whole grid is projected, to see whether two grids meet.
OUTLINE = 33


@dataclass(frozen=True)
class Tile:
    """A window of the target grid and its affine map: (col, row) from the window's corner to source pixels."""

    window: Window
    to_source: Affine

    def reach(self) -> tuple[float, float, float, float]:
        """Return the first row, first column, last row and last column in the source, as fractions."""
        at, (height, width) = self.to_source, self.window.shape
        cols = [at.c, at.c + at.a * width, at.c + at.b * height, at.c + at.a * width + at.b * height]
        rows = [at.f, at.f + at.d * width, at.f + at.e * height, at.f + at.d * width + at.e * height]
        return (min(rows), min(cols), max(rows), max(cols))


@dataclass(frozen=True)
class PixelMap:
    """Map from the pixels of ``target`` to those of ``source``."""

    source: Grid
    target: Grid

    @property
    def turn_px(self) -> float | None:
        """Source columns of a full turn of longitude, None for a projected source."""
        if not self.source.crs.is_geographic:
            return None
        return float(2 * math.pi / float(self.source.crs.units_factor[1]) / self.source.transform.a)

    @cached_property
    def side(self) -> int | None:
        """Side of a tile in target pixels, None when the two CRSs are one and the map is affine throughout."""
        if self.source.crs == self.target.crs:
            return None
        size, fine = max(self.target.pixel_size_m()), min(self.source.pixel_size_m())
        tolerance = TOLERANCE_PX * max(1.0, size / fine)
        for side in TILE_SIDES:
            rows = np.linspace(0, max(0, self.target.height - side), PROBES)[:, None] + np.linspace(0, side, 3)
            cols = np.linspace(0, max(0, self.target.width - side), PROBES)[:, None] + np.linspace(0, side, 3)
            found = [_fit(*self._positions(row, col), side) for row in rows for col in cols]
            if np.nanmax([error for _, error in found], initial=0.0) <= tolerance:
                return side
        return TILE_SIDES[-1]

    def tiles(self, window: Window) -> list[Tile]:
        """Return the tiles that make up a window; those that have no place in the source's CRS are left out."""
        side = self.side
        if side is None:
            source, at = self.source.transform, self.target.crop(window).transform
            origin = ((at.c - source.c) / source.a, (at.f - source.f) / source.e)
            return [Tile(window, Affine(at.a / source.a, 0.0, origin[0], 0.0, at.e / source.e, origin[1]))]
        first_row, first_col = window.row // side, window.col // side
        down, across = -(-window.row_stop // side) - first_row, -(-window.col_stop // side) - first_col
        rows = (first_row + np.arange(2 * down + 1) / 2) * side
        cols = (first_col + np.arange(2 * across + 1) / 2) * side
        src_cols, src_rows = self._positions(rows, cols)
        out = []
        for i in range(down):
            for j in range(across):
                nodes = np.s_[2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
                at, _ = _fit(src_cols[nodes], src_rows[nodes], side)
                whole = Window((first_row + i) * side, (first_col + j) * side, side, side)
                part = whole.intersection(window)
                if part is not None and math.isfinite(at.c + at.f):
                    right, down_by = part.col - whole.col, part.row - whole.row
                    origin = (at.c + at.a * right + at.b * down_by, at.f + at.d * right + at.e * down_by)
                    out.append(Tile(part, Affine(at.a, at.b, origin[0], at.d, at.e, origin[1])))
        return out

    def meets(self) -> bool:
        """Whether the two grids overlap, judged by the bounding box of the target in source pixels."""
        rows = np.linspace(0, self.target.height, OUTLINE)
        cols = np.linspace(0, self.target.width, OUTLINE)
        src_cols, src_rows = self._positions(rows, cols)
        good = np.isfinite(src_cols)
        if not good.any():
            return False
        reach = (src_rows[good].min(), src_cols[good].min(), src_rows[good].max(), src_cols[good].max())
        return any(footprint(reach, shift, 0, self.source) is not None for shift in self.shifts())

    def shifts(self) -> tuple[float, ...]:
        """Columns to add to a position: a geographic source may be met a turn of longitude away."""
        turn = self.turn_px
        return (0.0,) if turn is None else (0.0, turn, -turn)

    def _positions(self, rows: FloatArray, cols: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return source (col, row) of a lattice, each [len(rows), len(cols)], longitudes without a jump."""
        row, col = np.meshgrid(rows, cols, indexing="ij")
        at, source = self.target.transform, self.source.transform
        xs, ys = project(self.target.crs, self.source.crs, at.c + at.a * col, at.f + at.e * row)
        src_cols, src_rows = (xs - source.c) / source.a, (ys - source.f) / source.e
        turn = self.turn_px
        if turn is not None and np.isfinite(src_cols).any():
            middle = src_cols[np.isfinite(src_cols)][0]
            src_cols = middle + (src_cols - middle + turn / 2) % turn - turn / 2
        return src_cols, src_rows


def footprint(reach: tuple[float, float, float, float], shift: float, margin: int, source: Grid) -> Window | None:
    """Return the window of the source under a reach moved by ``shift`` columns, None when it lies outside."""
    row, col = math.floor(reach[0]) - margin, math.floor(reach[1] + shift) - margin
    row_stop, col_stop = math.ceil(reach[2]) + margin, math.ceil(reach[3] + shift) + margin
    return Window(row, col, row_stop - row, col_stop - col).intersection(source.window)


def _fit(src_cols: FloatArray, src_rows: FloatArray, side: int) -> tuple[Affine, float]:
    """Return the least-squares affine map of 3 x 3 nodes over a tile, and its largest residual in source pixels."""
    half = side / 2
    step = np.array([-half, 0.0, half])
    terms = []
    worst = 0.0
    for values in (src_cols, src_rows):
        middle = values.mean()
        by_col = float((values * step[None, :]).sum() / (6 * half**2))
        by_row = float((values * step[:, None]).sum() / (6 * half**2))
        residual = values - (middle + by_col * step[None, :] + by_row * step[:, None])
        worst = max(worst, float(np.abs(residual).max())) if np.isfinite(middle) else math.nan
        terms += [by_col, by_row, float(middle - by_col * half - by_row * half)]
    return Affine(*terms), worst
