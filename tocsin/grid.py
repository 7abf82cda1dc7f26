"""Where pixels lie on Earth: windows, grids and true areas. Pure geometry, nothing is opened.

A grid is north-up and unrotated: column grows eastwards, row grows southwards. All lengths and areas are measured on
the WGS 84 ellipsoid, whatever the CRS, so that figures from two products of the same place agree.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

FloatArray = NDArray[np.float64]

# WGS 84 defining constants (EPSG:7030).
SEMI_MAJOR_M = 6378137.0
FLATTENING = 1 / 298.257223563
ECCENTRICITY2 = FLATTENING * (2 - FLATTENING)

# Between nodes of the area lattice a projection's scale is taken as linear: at 20 km the error stays under 1e-5.
NODE_SPACING_M = 20_000.0
# Continents and hemispheres get wider spacing (12,000 km: 47 km, error 5e-5), so that the lattice stays small.
MAX_NODES = 257
# A projection true to scale within 1 % (UTM: 0.1 %) keeps its nominal pixel size: "10 m" stays 10 m.
NOMINAL_TOLERANCE = 0.01


def project(source: CRS, target: CRS, xs: FloatArray, ys: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return points of one CRS in another, x (or longitude) first in both.

    Parameters
    ----------
    source, target
        Coordinate reference systems.
    xs, ys
        float64, any one shape, in the source's units.

    Returns
    -------
    tuple of arrays
        Same shape, in the target's units; NaN where a point has no place in the target.
    """
    from rasterio._err import CPLE_BaseError
    from rasterio.warp import transform  # loads GDAL's warper: only when another CRS is in play

    if source == target:
        return xs, ys
    try:
        out = transform(source, target, xs.ravel(), ys.ravel())
    except CPLE_BaseError:
        # One point outside a projection's domain fails the whole call in GDAL; PROJ alone marks that point.
        from pyproj import Transformer

        moved = Transformer.from_crs(source.to_wkt(), target.to_wkt(), always_xy=True)
        out = moved.transform(xs.ravel(), ys.ravel())
    x, y = (np.asarray(values, dtype=np.float64).reshape(xs.shape) for values in out)
    bad = ~(np.isfinite(x) & np.isfinite(y))
    return np.where(bad, np.nan, x), np.where(bad, np.nan, y)


@dataclass(frozen=True)
class Window:
    """Pixel rectangle of a scene; it may reach outside the scene on any side.

    Parameters
    ----------
    row, col
        Upper left pixel, may be negative.
    height, width
        Size in pixels.
    """

    row: int
    col: int
    height: int
    width: int

    @property
    def row_stop(self) -> int:
        """First row below the window."""
        return self.row + self.height

    @property
    def col_stop(self) -> int:
        """First column right of the window."""
        return self.col + self.width

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (self.height, self.width)

    def intersection(self, other: "Window") -> "Window | None":
        """Return the part shared with another window, None when there is none."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        height = min(self.row_stop, other.row_stop) - row
        width = min(self.col_stop, other.col_stop) - col
        return Window(row, col, height, width) if height > 0 and width > 0 else None


@dataclass(frozen=True)
class Grid:
    """CRS, affine transform and size of a raster.

    Parameters
    ----------
    crs
        Coordinate reference system, geographic or projected.
    transform
        Pixel corner (col, row) to CRS coordinates.
    height, width
        Size in pixels.
    """

    crs: CRS
    transform: Affine
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (self.height, self.width)

    @property
    def window(self) -> Window:
        """The whole grid as a window."""
        return Window(0, 0, self.height, self.width)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Outer edges (left, bottom, right, top) in CRS units."""
        at = self.transform
        xs = (float(at.c), float(at.c + at.a * self.width))
        ys = (float(at.f), float(at.f + at.e * self.height))
        return (min(xs), min(ys), max(xs), max(ys))

    @property
    def crs_name(self) -> str:
        """``EPSG:n`` where the CRS has a code, else its WKT."""
        return str(self.crs.to_string())

    @cached_property
    def _nominal_m(self) -> tuple[float, float]:
        factor = float(self.crs.units_factor[1])
        return (abs(self.transform.a) * factor, abs(self.transform.e) * factor)

    def pixel_size_m(self) -> tuple[float, float]:
        """Return the width and height of the centre pixel in metres on the ground.

        Geographic and strongly stretched CRSs (EPSG:3857) give ellipsoidal lengths; a projection that is true to scale
        within 1 %, such as UTM, gives its nominal pixel size.
        """
        row, col = (self.height - 1) / 2 + 0.5, (self.width - 1) / 2 + 0.5
        east, south = self._jacobian_m(np.array([row]), np.array([col]))
        size = (float(np.hypot(*east)[0, 0]), float(np.hypot(*south)[0, 0]))
        if self.crs.is_geographic:
            return size
        nominal = self._nominal_m
        if all(abs(true / flat - 1) < NOMINAL_TOLERANCE for true, flat in zip(size, nominal, strict=True)):
            return nominal
        return size

    def crop(self, window: Window) -> "Grid":
        """Return the grid of a window; it may reach outside this one."""
        at = self.transform
        moved = Affine(at.a, 0.0, at.c + at.a * window.col, 0.0, at.e, at.f + at.e * window.row)
        return Grid(self.crs, moved, window.height, window.width)

    def resampled(self, metres: float) -> "Grid":
        """Return a grid of square pixels of a size in metres: same CRS, same upper left corner, covering this grid."""
        size_x, size_y = self.pixel_size_m()
        scale_x, scale_y = metres / size_x, metres / size_y
        # The small slack keeps rounding in a quotient such as 300.0000000001 from adding an empty row.
        height = max(1, math.ceil(self.height / scale_y - 1e-6))
        width = max(1, math.ceil(self.width / scale_x - 1e-6))
        at = self.transform
        return Grid(self.crs, Affine(at.a * scale_x, 0.0, at.c, 0.0, at.e * scale_y, at.f), height, width)

    def lonlat(self, rows: FloatArray, cols: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return longitude and latitude of pixel coordinates.

        Parameters
        ----------
        rows, cols
            float64, any one shape, in pixels from the grid's upper left corner (a pixel's centre is at +0.5).

        Returns
        -------
        tuple of arrays
            Longitude and latitude, WGS 84 degrees, same shape; not finite where the projection has no inverse.
        """
        xs, ys = self.transform.c + self.transform.a * cols, self.transform.f + self.transform.e * rows
        if self.crs.is_geographic:
            to_degrees = math.degrees(float(self.crs.units_factor[1]))
            return xs * to_degrees, ys * to_degrees
        return project(self.crs, CRS.from_epsg(4326), xs, ys)

    def _jacobian_m(
        self, rows: FloatArray, cols: FloatArray
    ) -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
        """Return the (east, north) metres of one column step and of one row step, each [len(rows), len(cols)]."""
        row, col = np.meshgrid(rows, cols, indexing="ij")
        lon0, lat0 = self.lonlat(row, col - 0.5)
        lon1, lat1 = self.lonlat(row, col + 0.5)
        lon2, lat2 = self.lonlat(row - 0.5, col)
        lon3, lat3 = self.lonlat(row + 0.5, col)
        phi = np.radians((lat2 + lat3) / 2)
        # Radii of curvature of the prime vertical and of the meridian (Snyder 1987, USGS PP 1395, eqs 4-18 and 4-20).
        flat = 1 - ECCENTRICITY2 * np.sin(phi) ** 2
        prime = SEMI_MAJOR_M / np.sqrt(flat)
        meridian = SEMI_MAJOR_M * (1 - ECCENTRICITY2) / flat**1.5

        def step(dlon: FloatArray, dlat: FloatArray) -> tuple[FloatArray, FloatArray]:
            wrapped = (dlon + 180.0) % 360.0 - 180.0
            return prime * np.cos(phi) * np.radians(wrapped), meridian * np.radians(dlat)

        return step(lon1 - lon0, lat1 - lat0), step(lon3 - lon2, lat3 - lat2)

    def pixel_area_km2(self, row: int, height: int) -> FloatArray:
        """Return the true (ellipsoidal) area of every pixel of some rows.

        Parameters
        ----------
        row, height
            First row and number of rows.

        Returns
        -------
        ndarray
            float64, km2, [height, width] or [height, 1] where the area is the same along a row (geographic and
            cylindrical CRSs): it broadcasts against [height, width]. Right to 0.1 %; NaN where the projection has no
            inverse. A row's values do not depend on how rows are grouped into calls.
        """
        if self.crs.is_geographic:
            return self._zone_area_km2(row, height)
        row_nodes, col_nodes, area = self._area_lattice
        wanted = np.arange(row, row + height) + 0.5
        along = np.stack([np.interp(wanted, row_nodes, column) for column in area.T], axis=1)
        if np.ptp(area, axis=1).max() <= 1e-6 * area.max():
            return along[:, :1]
        centres = np.arange(self.width) + 0.5
        left = np.clip(np.searchsorted(col_nodes, centres) - 1, 0, len(col_nodes) - 2)
        weight = (centres - col_nodes[left]) / (col_nodes[left + 1] - col_nodes[left])
        return np.asarray(along[:, left] * (1 - weight) + along[:, left + 1] * weight)

    @cached_property
    def _area_lattice(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Node rows, node columns and pixel areas in km2 at the nodes, fixed for the whole grid."""
        size_x, size_y = self._nominal_m
        rows, cols = (
            np.linspace(0, count, min(MAX_NODES, max(2, math.ceil(count * size / NODE_SPACING_M) + 1)))
            for count, size in ((self.height, size_y), (self.width, size_x))
        )
        (east_x, north_x), (east_y, north_y) = self._jacobian_m(rows, cols)
        area = np.abs(east_x * north_y - north_x * east_y) / 1e6
        area[~np.isfinite(area)] = np.nan
        return rows, cols, area

    def _zone_area_km2(self, row: int, height: int) -> FloatArray:
        """Area of geographic pixels, [height, 1]: zone of the ellipsoid (Snyder 1987, USGS PP 1395, eq. 3-12)."""
        to_degrees = math.degrees(float(self.crs.units_factor[1]))
        edges = (self.transform.f + self.transform.e * np.arange(row, row + height + 1)) * to_degrees
        sine = np.sin(np.radians(np.clip(edges, -90.0, 90.0)))
        ecc = math.sqrt(ECCENTRICITY2)
        authalic = (1 - ECCENTRICITY2) * (sine / (1 - ECCENTRICITY2 * sine**2) + np.arctanh(ecc * sine) / ecc)
        width_rad = math.radians(abs(self.transform.a) * to_degrees)
        area = SEMI_MAJOR_M**2 * width_rad * np.abs(np.diff(authalic)) / 2 / 1e6
        return np.asarray(area[:, None])
