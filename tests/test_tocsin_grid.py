"""Windows, grids and true areas."""

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from tocsin.grid import Grid, Window, project

pyproj = pytest.importorskip("pyproj")
GEOD = pyproj.Geod(ellps="WGS84")


def make_grid(epsg, left, top, size, height=400, width=500):
    """Return a grid of square pixels."""
    return Grid(CRS.from_epsg(epsg), Affine(size, 0.0, left, 0.0, -size, top), height, width)


def true_area_km2(grid, row, col):
    """Geodesic area of one pixel by Karney's polygon, an independent method."""
    rows = np.array([row, row, row + 1, row + 1], dtype=float)
    cols = np.array([col, col + 1, col + 1, col], dtype=float)
    return abs(GEOD.polygon_area_perimeter(*grid.lonlat(rows, cols))[0]) / 1e6


AREAS = [
    (32633, 2e5, 6e6, 10),
    (32633, 5e5, 100, 10),
    (32733, 7.9e5, 1e6, 100),
    (3857, 1e6, 9e6, 10),
    (3857, 1e6, 1e7, 1000),
    (3413, -2e6, 1e6, 30),
    (3031, 1e6, 1e6, 500),
    (3995, -1e4, 1e4, 10),
    (4326, 10, 60, 1e-4),
    (4326, 170, 1, 0.01),
    (4326, 10, 84, 0.02),
    (6933, 1e6, 5e6, 100),
    (2263, 1e6, 2e5, 30),
]


@pytest.mark.parametrize(("epsg", "left", "top", "size"), AREAS)
def test_pixel_area_is_true_in_any_crs(epsg, left, top, size):
    """The area of a pixel agrees with its geodesic polygon far within 0.1 %."""
    grid = make_grid(epsg, left, top, size)
    for row, col in [(0, 0), (399, 499), (200, 250), (77, 400)]:
        area = np.broadcast_to(grid.pixel_area_km2(row, 1), (1, grid.width))[0, col]
        assert area == pytest.approx(true_area_km2(grid, row, col), rel=1e-5)


@pytest.mark.parametrize("epsg", [32633, 4326, 3413])
def test_area_of_a_row_does_not_depend_on_the_call(epsg):
    """Rows asked one by one equal rows asked together."""
    grid = make_grid(epsg, *((10, 60, 0.01) if epsg == 4326 else (2e5, 6e6, 100)))
    whole = grid.pixel_area_km2(0, grid.height)
    parts = [grid.pixel_area_km2(row, min(37, grid.height - row)) for row in range(0, grid.height, 37)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_area_is_a_column_where_rows_are_even():
    """Geographic and cylindrical grids give [height, 1], others [height, width]."""
    assert make_grid(4326, 10, 60, 1e-4).pixel_area_km2(5, 3).shape == (3, 1)
    assert make_grid(3857, 1e6, 9e6, 10).pixel_area_km2(5, 3).shape == (3, 1)
    assert make_grid(3031, 1e6, 1e6, 500).pixel_area_km2(5, 3).shape == (3, 500)


def test_whole_earth_has_its_area():
    """A global geographic grid adds up to the ellipsoid's surface, 510.0656 million km2."""
    grid = make_grid(4326, -180, 90, 0.5, 360, 720)
    assert grid.pixel_area_km2(0, 360).sum() * 720 == pytest.approx(510_065_621.724, rel=1e-9)


def test_area_outside_a_projection_is_nan():
    """A pixel that lies nowhere on Earth has no area, and raises nothing."""
    grid = make_grid(6931, -4e7, 4e7, 2e5, 400, 400)
    area = grid.pixel_area_km2(0, 400)
    assert np.isfinite(area[200, 200])
    assert np.isnan(area[0, 0])


def test_pixel_size_is_geodesic_for_degrees_and_nominal_in_utm():
    """Degrees become metres on the ellipsoid, UTM keeps its number, EPSG:3857 is corrected for latitude."""
    width, height = make_grid(4326, 10, 60.025, 1e-4, 500, 500).pixel_size_m()
    assert width == pytest.approx(GEOD.inv(10, 60, 10.0001, 60)[2], rel=1e-6)
    assert height == pytest.approx(GEOD.inv(10, 60, 10, 60.0001)[2], rel=1e-5)
    assert make_grid(32633, 2e5, 6e6, 15).pixel_size_m() == (15.0, 15.0)
    assert make_grid(3857, 0, 8_399_737.9, 20, 2, 2).pixel_size_m()[0] == pytest.approx(10.0, rel=5e-3)
    feet = make_grid(2263, 1e6, 2e5, 30).pixel_size_m()
    assert feet[0] == pytest.approx(30 * 1200 / 3937)


def test_crop_may_reach_outside():
    """A window's grid keeps the pixels in place, before the first row too."""
    grid = make_grid(32633, 5e5, 5e6, 10)
    part = grid.crop(Window(-2, 3, 7, 9))
    assert (part.shape, part.bounds) == ((7, 9), (500_030.0, 4_999_950.0, 500_120.0, 5_000_020.0))
    assert grid.crop(grid.window) == grid


def test_resampled_keeps_corner_and_covers():
    """A grid of other pixels keeps CRS and origin and covers the old one with less than a pixel to spare."""
    grid = make_grid(4326, 10, 60, 2e-4, 333, 444)
    coarse = grid.resampled(10.0)
    assert coarse.pixel_size_m() == pytest.approx((10.0, 10.0), rel=1e-3)
    assert (coarse.bounds[0], coarse.bounds[3]) == (10, 60)
    assert coarse.bounds[2] >= grid.bounds[2] - 1e-12
    assert coarse.bounds[2] - grid.bounds[2] < coarse.transform.a
    assert make_grid(32633, 5e5, 5e6, 30).resampled(10.0).shape == (1200, 1500)
    assert make_grid(32633, 5e5, 5e6, 1, 2, 3).resampled(10.0).shape == (1, 1)


def test_window_intersection():
    """Windows share a rectangle or nothing."""
    assert Window(-2, -2, 5, 5).intersection(Window(0, 0, 9, 2)) == Window(0, 0, 3, 2)
    assert Window(0, 0, 2, 2).intersection(Window(2, 0, 2, 2)) is None


def test_project_marks_points_without_a_place():
    """One impossible point becomes NaN; its neighbours are still right."""
    xs, ys = project(CRS.from_epsg(32633), CRS.from_epsg(4326), np.array([5e5, 1e12]), np.array([0.0, 0.0]))
    assert (xs[0], ys[0]) == pytest.approx((15.0, 0.0), abs=1e-9)
    assert np.isnan([xs[1], ys[1]]).all()


def test_crs_has_a_short_name():
    """A CRS with a code is named by it."""
    assert make_grid(32633, 5e5, 5e6, 10).crs_name == "EPSG:32633"
