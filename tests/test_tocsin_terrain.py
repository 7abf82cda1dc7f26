"""Layover, shadow and slope against shapes whose answer is known."""

import math

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from tocsin.grid import Grid
from tocsin.terrain import (
    LAYOVER,
    MID_SWATH_DEG,
    NOT_JUDGED,
    REACH_M,
    SHADOW,
    STEEP,
    STEEP_DEG,
    Terrain,
    look_azimuth_deg,
)

PX = 10.0
UTM = CRS.from_epsg(32631)
THETA = 40.0
TAN = math.tan(math.radians(THETA))


def grid(height, width, crs=UTM, size=PX):
    """Build a grid on the central meridian near the equator, so that its north is north."""
    if crs.is_geographic:
        return Grid(crs, Affine(size, 0, 3.0, 0, -size, 0.1), height, width)
    return Grid(crs, Affine(size, 0, 5e5 - width * size / 2, 0, -size, 1e4), height, width)


class Heights:
    """A DEM in memory, unknown beyond its edge."""

    def __init__(self, heights, at=None):
        self.heights = np.asarray(heights, dtype=np.float32)
        self.grid = at or grid(*self.heights.shape)

    def read(self, window):
        """Return the window, NaN outside."""
        rows, cols = np.ogrid[window.row : window.row_stop, window.col : window.col_stop]
        height, width = self.heights.shape
        inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
        values = self.heights[np.clip(rows, 0, height - 1), np.clip(cols, 0, width - 1)]
        return np.where(inside, values, np.float32(np.nan))[None]

    def close(self):
        """Hold nothing."""


def judged(heights, azimuth=90.0, incidence=THETA):
    """Bits of a whole DEM seen in one look direction."""
    dem = Heights(heights)
    return Terrain(dem.grid, None, incidence, (azimuth,)).judge(dem, 0, len(dem.heights))


def columns(row, bit):
    """Columns of one row that carry a bit."""
    return np.flatnonzero(row & bit).tolist()


@pytest.mark.parametrize(
    ("orbit_pass", "latitude", "expected"),
    [("ascending", 0, 77.97), ("descending", 0, 282.03), ("ascending", -45, 75.70), ("descending", 60, 288.40)],
)
def test_sentinel_1_looks_right_of_its_track(orbit_pass, latitude, expected):
    """Track angles of Capderou's formula, 90 degrees added."""
    assert look_azimuth_deg(orbit_pass, latitude) == pytest.approx(expected, abs=0.06)


def test_the_look_azimuth_is_defined_up_to_the_pole():
    """Beyond the turning point of the orbit the value there holds."""
    assert look_azimuth_deg("ascending", 90) == look_azimuth_deg("ascending", 82)


def test_a_cliff_that_faces_the_radar_overlays_both_sides():
    """H / tan(theta) before and behind the edge of a plateau share their range; nothing is in shadow."""
    height = 300.0
    heights = np.zeros((3, 200))
    heights[:, 100:] = height
    bits = judged(heights)[1]
    reach = math.floor(height / TAN / PX)
    assert columns(bits, LAYOVER) == list(range(100 - reach, 100 + reach))
    assert columns(bits, SHADOW) == []


def test_a_cliff_that_turns_away_casts_a_shadow_of_known_length():
    """Behind a drop of H the ground is dark over H tan(theta)."""
    height = 300.0
    heights = np.zeros((3, 200))
    heights[:, :100] = height
    bits = judged(heights)[1]
    assert columns(bits, SHADOW) == list(range(100, 100 + math.ceil(height * TAN / PX) - 1))
    assert columns(bits, LAYOVER) == []


@pytest.mark.parametrize("azimuth", [90.0, 270.0, 0.0, 180.0])
def test_all_look_directions_are_the_same_turned(azimuth):
    """Turning terrain and look together turns the answer."""
    rng = np.random.default_rng(1)
    heights = np.kron(rng.uniform(0, 400, (8, 8)), np.ones((5, 5)))
    turns = {90.0: 0, 0.0: 1, 270.0: 2, 180.0: 3}[azimuth]
    assert np.array_equal(judged(np.rot90(heights, turns), azimuth), np.rot90(judged(heights, 90.0), turns))


@pytest.mark.parametrize(("slope_deg", "bit"), [(THETA - 3, 0), (THETA + 3, LAYOVER)])
def test_a_wedge_is_in_layover_where_it_is_steeper_than_the_incidence(slope_deg, bit):
    """The front of a wedge below and above theta, seen uphill."""
    heights = np.zeros((3, 120))
    heights[:, 40:60] = np.arange(20) * PX * math.tan(math.radians(slope_deg))
    heights[:, 60:] = heights[:, 59:60]
    assert set((judged(heights)[1, 42:58] & (LAYOVER | SHADOW)).tolist()) == {bit}


@pytest.mark.parametrize(("slope_deg", "bit"), [(90 - THETA - 3, 0), (90 - THETA + 3, SHADOW)])
def test_a_wedge_is_in_shadow_where_it_turns_away_by_more_than_the_rest_to_90(slope_deg, bit):
    """The back of a wedge below and above 90 degrees - theta, seen downhill."""
    heights = np.zeros((3, 120))
    heights[:, :60] = 20 * PX * math.tan(math.radians(slope_deg))
    heights[:, 40:60] -= np.arange(20) * PX * math.tan(math.radians(slope_deg))
    assert set((judged(heights)[1, 42:58] & (LAYOVER | SHADOW)).tolist()) == {bit}


def test_a_cone_hides_and_overlays_what_the_formula_says():
    """Every pixel of a cone against a direct search along its own line."""
    rows, cols = np.mgrid[-40:41, -60:61]
    heights = np.maximum(0, 500 - 14.0 * np.hypot(rows, cols))
    bits = judged(heights)
    run = np.arange(121) * PX
    for at in range(0, 81, 9):
        rank, ray = heights[at] - run * TAN, heights[at] + run / TAN
        for col in range(121):
            layover = (rank[col + 1 :] >= rank[col]).any() or (rank[:col] <= rank[col]).any()
            assert bool(bits[at, col] & LAYOVER) is bool(layover)
            assert bool(bits[at, col] & SHADOW) is bool((ray[:col] > ray[col]).any())


def test_an_oblique_look_goes_along_the_oblique_line():
    """Seen towards 45 degrees, a tower's shadow falls to the north-east."""
    heights = np.zeros((60, 60))
    heights[40, 20] = 200
    shadow = judged(heights, 45.0) & SHADOW > 0
    rows, cols = np.nonzero(shadow)
    assert np.array_equal(rows - 40, -(cols - 20))
    assert len(rows) == math.ceil(200 * TAN / (PX * math.sqrt(2))) - 1


def test_steep_is_what_exceeds_the_stated_slope():
    """A tilted plane just below and just above the limit, along either axis."""
    for turn in (0, 1):
        for slope, expected in ((STEEP_DEG - 0.5, 0), (STEEP_DEG + 0.5, STEEP)):
            plane = np.arange(30) * PX * math.tan(math.radians(slope)) * np.ones((30, 1))
            assert set((judged(np.rot90(plane, turn)) & STEEP).ravel().tolist()) == {expected}


def test_an_unknown_pass_marks_what_either_pass_cannot_see():
    """Without a pass the bits are those of both passes together."""
    heights = np.kron(np.random.default_rng(2).uniform(0, 500, (12, 12)), np.ones((4, 4)))
    dem = Heights(heights)
    each = [Terrain(dem.grid, one).judge(dem, 0, 48) for one in ("ascending", "descending")]
    assert np.array_equal(Terrain(dem.grid).judge(dem, 0, 48), each[0] | each[1])
    assert not np.array_equal(each[0], each[1])
    assert Terrain(dem.grid).incidence_deg == MID_SWATH_DEG


@pytest.mark.parametrize("orbit_pass", ["ascending", "descending", None])
def test_strips_never_change_a_bit(orbit_pass):
    """Rows decided alone, in strips and all at once agree, gaps included."""
    rng = np.random.default_rng(3)
    heights = np.kron(rng.uniform(0, 600, (20, 20)), np.ones((6, 6)))
    heights[rng.random(heights.shape) < 0.02] = np.nan
    dem = Heights(heights)
    terrain = Terrain(dem.grid, orbit_pass)
    whole = terrain.judge(dem, 0, 120)
    for height in (1, 37):
        assert np.array_equal(
            np.concatenate([terrain.judge(dem, r, min(height, 120 - r)) for r in range(0, 120, height)]), whole
        )


def test_tiles_never_change_a_bit(monkeypatch):
    """A wide scene is judged in tiles; where they lie makes no difference."""
    heights = np.kron(np.random.default_rng(4).uniform(0, 600, (5, 40)), np.ones((6, 6)))
    whole = judged(heights, 75.0)
    monkeypatch.setattr("tocsin.terrain._TILE", 50)
    assert np.array_equal(judged(heights, 75.0), whole)


def test_unknown_height_is_not_judged_and_hides_nothing():
    """A gap in the DEM is its own value; its neighbours are judged by what is known."""
    heights = np.zeros((20, 20))
    heights[5:10, 5:10] = np.nan
    bits = judged(heights)
    assert np.array_equal(bits == NOT_JUDGED, np.isnan(heights))
    assert set(bits[~np.isnan(heights)].tolist()) == {0}
    assert set(judged(np.full((5, 5), np.nan)).ravel().tolist()) == {NOT_JUDGED}


def test_relief_beyond_the_scene_counts_when_the_dem_knows_it():
    """A wall left of the scene throws its shadow into it."""
    heights = np.zeros((5, 100))
    heights[:, 10:20] = 500
    dem, wide = Heights(heights), Heights(heights)
    dem.grid = dem.grid.crop(dem.grid.window.__class__(0, 20, 5, 80))
    read = wide.read
    wide.read = lambda window: read(window.__class__(window.row, window.col + 20, window.height, window.width))
    wide.grid = dem.grid
    assert Terrain(dem.grid, None, THETA, (90.0,)).judge(wide, 0, 5)[2, 0] & SHADOW


def test_geographic_pixels_are_measured_in_metres():
    """A wall in EPSG:4326 throws a shadow as long as in UTM, within a pixel."""
    heights = np.zeros((5, 200))
    heights[:, :100] = 300
    at = grid(5, 200, CRS.from_epsg(4326), PX / 111_320)
    bits = Terrain(at, None, THETA, (90.0,)).judge(Heights(heights, at), 0, 5)
    assert abs(len(columns(bits[2], SHADOW)) - 300 * TAN / PX) < 2


def test_the_search_reaches_as_far_as_stated_and_is_bounded():
    """The halo covers the stated reach, and at most twice of it, for any pixel size."""
    for size in (1.0, 7.0, 10.0, 15.0, 30.0, 400.0, 5000.0):
        _, cols = Terrain(grid(10, 10, size=size), None, THETA, (90.0,)).halo
        assert REACH_M <= cols * size <= max(2 * REACH_M, size) + size
