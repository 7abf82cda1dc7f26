"""A source seen on another grid: no shift, no aliasing, no nodata mixed in, bounded memory."""

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from tocsin.errors import NotCoveringError, UsageError
from tocsin.grid import Grid, Window, project
from tocsin.raster import align

UTM33, UTM32, DEGREES = CRS.from_epsg(32633), CRS.from_epsg(32632), CRS.from_epsg(4326)


class Memory:
    """A source of an array; remembers the largest window read inside it."""

    def __init__(self, grid, array):
        self.grid = grid
        self.array = np.asarray(array, dtype=np.float32)
        self.largest = 0
        self.closed = False

    def read(self, window):
        """Return [band, row, col], NaN outside."""
        out = np.full((len(self.array), *window.shape), np.nan, np.float32)
        inside = window.intersection(self.grid.window)
        if inside is not None:
            rows = slice(inside.row - window.row, inside.row_stop - window.row)
            cols = slice(inside.col - window.col, inside.col_stop - window.col)
            part = self.array[:, inside.row : inside.row_stop, inside.col : inside.col_stop]
            out[:, rows, cols] = part
            self.largest = max(self.largest, part[0].size)
        return out

    def close(self):
        """Remember it."""
        self.closed = True


def make_grid(crs, left, top, size, height, width):
    """Return a grid of square pixels."""
    return Grid(crs, Affine(size, 0.0, left, 0.0, -size, top), height, width)


def centres(grid):
    """Coordinates of all pixel centres, [row, col]."""
    row, col = np.meshgrid(np.arange(grid.height) + 0.5, np.arange(grid.width) + 0.5, indexing="ij")
    return grid.transform.c + grid.transform.a * col, grid.transform.f + grid.transform.e * row


def in_source_pixels(source, target):
    """Column and row of the target's pixel centres in the source, counted from its first pixel's centre."""
    xs, ys = project(target.crs, source.crs, *centres(target))
    return (xs - source.transform.c) / source.transform.a - 0.5, (ys - source.transform.f) / source.transform.e - 0.5


SCENE = make_grid(UTM33, 5e5, 5e6, 10, 300, 350)
PAIRS = {
    "coarse to fine": (make_grid(UTM33, 5e5 - 95, 5e6 + 100, 30, 150, 150), SCENE),
    "shifted": (SCENE, make_grid(UTM33, 5e5 + 3, 5e6 - 4, 10, 250, 250)),
    "nearly one size": (SCENE, make_grid(UTM33, 5e5 + 3, 5e6 - 4, 11, 250, 250)),
    "half size": (make_grid(UTM33, 5e5 - 3, 5e6 + 7, 5, 650, 750), SCENE),
    "quarter size": (make_grid(UTM33, 5e5 - 11, 5e6 + 13, 2.5, 1300, 1450), SCENE),
    "odd ratio": (make_grid(UTM33, 5e5 - 11, 5e6 + 13, 3.7, 900, 1000), SCENE),
    "from degrees": (make_grid(DEGREES, 14.99, 45.17, 1e-4, 600, 700), SCENE),
    "from coarse degrees": (make_grid(DEGREES, 14.9, 45.3, 1 / 3600, 900, 900), SCENE),
    "from 90 m degrees": (make_grid(DEGREES, 14.5, 45.5, 1 / 1200, 1201, 1201), SCENE),
    "to degrees": (SCENE, make_grid(DEGREES, 15.002, 45.15, 9e-5, 250, 400)),
    "from the next zone": (make_grid(UTM32, 969_000, 5_020_000, 10, 1100, 1200), SCENE),
    "from Web Mercator": (make_grid(CRS.from_epsg(3857), 1_668_000, 5_650_500, 20, 500, 500), SCENE),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_a_ramp_is_followed_without_a_shift(pair):
    """A plane in source pixels comes out where it belongs, to half a hundredth of a source pixel or better."""
    source, target = PAIRS[pair]
    row, col = np.meshgrid(np.arange(source.height), np.arange(source.width), indexing="ij")
    # A slope of 0.1 a pixel keeps float32 rounding of the values themselves out of the measurement.
    out = align(Memory(source, [0.1 * col, 0.1 * row]), target, "bilinear").read(target.window)
    expected = 0.1 * np.stack(in_source_pixels(source, target))
    inside = (
        (expected >= 0.4).all(0) & (expected[0] < 0.1 * (source.width - 5)) & (expected[1] < 0.1 * (source.height - 5))
    )
    assert inside.mean() > 0.5
    error = (out - expected)[:, inside]
    # GDAL weighs source pixels that lie half in a footprint to about a twentieth: no shift, some jitter.
    assert np.abs(error).max() < (5e-3 if pair == "odd ratio" else 5e-4)
    assert np.abs(error.mean(axis=1)).max() < 1e-4


@pytest.mark.parametrize("method", ["nearest", "bilinear", "power"])
@pytest.mark.parametrize("pair", ["coarse to fine", "odd ratio", "from degrees", "to degrees", "from the next zone"])
def test_windows_equal_the_whole(pair, method):
    """What a window shows does not depend on the window, but for the last bits of a mean."""
    source, target = PAIRS[pair]
    values = np.random.default_rng(1).normal(-12, 3, (2, *source.shape))
    values[:, 40:90, 30:60] = np.nan
    seen = align(Memory(source, values), target, method)
    whole = seen.read(target.window)
    strips = [
        seen.read(Window(row, 0, min(37, target.height - row), target.width)) for row in range(0, target.height, 37)
    ]
    assert np.allclose(np.concatenate(strips, axis=1), whole, rtol=0, atol=5e-5, equal_nan=True)
    outside = seen.read(Window(-5, -7, target.height + 9, target.width + 11))
    assert np.array_equal(outside[:, 5:-4, 7:-4], whole, equal_nan=True)
    assert np.isnan(outside[:, :5]).all()
    assert np.isnan(outside[:, :, -4:]).all()


def test_nearest_takes_the_pixel_under_the_centre():
    """Classes are never mixed."""
    source, target = PAIRS["from degrees"]
    classes = np.random.default_rng(2).integers(0, 5, source.shape)
    out = align(Memory(source, [classes]), target, "nearest").read(target.window)[0]
    col, row = in_source_pixels(source, target)
    off_edge = (np.abs(col % 1 - 0.5) > 0.01) & (np.abs(row % 1 - 0.5) > 0.01)
    assert np.array_equal(out[off_edge], classes[np.rint(row).astype(int), np.rint(col).astype(int)][off_edge])


@pytest.mark.parametrize("pair", ["shifted", "coarse to fine", "half size", "from degrees", "from the next zone"])
@pytest.mark.parametrize("method", ["nearest", "bilinear", "power"])
def test_invalid_neighbours_never_take_part(pair, method):
    """A hole in a constant field leaves the constant everywhere else, and the hole stays a hole."""
    source, target = PAIRS[pair]
    values = np.full((1, *source.shape), -12.5)
    col, row = in_source_pixels(source, target)
    mid_col, mid_row = float(np.median(col)), float(np.median(row))
    rows, cols = np.ogrid[: source.height, : source.width]
    values[0, (np.abs(rows - mid_row) <= 9) & (np.abs(cols - mid_col) <= 9)] = np.nan
    out = align(Memory(source, values), target, method).read(target.window)[0]
    assert np.abs(out[np.isfinite(out)] + 12.5).max() < 1e-4
    assert np.isnan(out[(np.abs(row - mid_row) < 7) & (np.abs(col - mid_col) < 7)]).all()
    near = (np.abs(row - mid_row) > 12) | (np.abs(col - mid_col) > 12)
    inside = (row > 1) & (col > 1) & (row < source.height - 3) & (col < source.width - 3)
    assert np.isfinite(out[near & inside]).all()


def test_validity_is_per_band():
    """A hole in VH leaves VV."""
    source, target = PAIRS["shifted"]
    values = np.full((2, *source.shape), -10.0)
    values[1, 100:120] = np.nan
    out = align(Memory(source, values), target, "power").read(target.window)
    assert np.isfinite(out[0, 5:240, 5:240]).all()
    assert np.isnan(out[1]).sum() > 10 * 250


def test_power_is_averaged_in_linear_power():
    """Half -10 dB and half -20 dB is -12.6 dB, not -15 dB."""
    source, target = make_grid(UTM33, 5e5, 5e6, 5, 200, 200), make_grid(UTM33, 5e5, 5e6, 10, 100, 100)
    checker = np.where(np.indices((200, 200)).sum(0) % 2, -10.0, -20.0)
    out = align(Memory(source, [checker]), target, "power").read(target.window)
    assert np.abs(out - 10 * np.log10((0.1 + 0.01) / 2)).max() < 1e-4


@pytest.mark.parametrize("size", [2.0, 3.7, 5.0, 6.5])
def test_shrinking_does_not_alias(size):
    """Noise loses variance as its footprint grows, and stripes of two source pixels vanish."""
    source = make_grid(UTM33, 5e5 - 20, 5e6 + 20, size, int(1100 / size), int(1100 / size))
    target = make_grid(UTM33, 5e5, 5e6, 10, 100, 100)
    noise = np.random.default_rng(3).normal(0, 1, source.shape)
    stripes = np.tile([0.0, 1.0], (source.height, source.width))[:, : source.width]
    out = align(Memory(source, [noise, stripes]), target, "bilinear").read(target.window)
    assert out[0].std() < 1.25 * size / 10
    assert np.abs(out[1] - 0.5).max() < 0.5 * size / 10 + 1e-6


def test_a_fine_source_is_read_in_small_parts():
    """Half a metre seen at 30 m: no read exceeds the limit, and the result is the mean."""
    source = make_grid(UTM33, 5e5, 5e6, 0.5, 6000, 6000)
    rows = np.broadcast_to(np.arange(6000, dtype=np.float32)[None, :, None], (1, 6000, 6000))
    memory = Memory.__new__(Memory)
    memory.grid, memory.array, memory.largest = source, rows, 0
    target = make_grid(UTM33, 5e5, 5e6, 30, 100, 100)
    out = align(memory, target, "bilinear").read(target.window)
    assert memory.largest <= 2**22
    assert np.abs(out[0] - (np.arange(100)[:, None] * 60 + 29.5)).max() < 0.01


def test_one_grid_is_read_as_it_is():
    """A source already on the grid, or off by a rounding error, is not resampled."""
    values = np.random.default_rng(4).normal(size=(1, *SCENE.shape)).astype(np.float32)
    nearly = make_grid(UTM33, 5e5 + 1e-5, 5e6, 10, *SCENE.shape)
    for method in ("nearest", "bilinear", "power"):
        assert np.array_equal(align(Memory(SCENE, values), nearly, method).read(nearly.window), values)


@pytest.mark.parametrize(
    ("left", "width"), [(-180.0, 7200), (170.0, 400), (0.0, 7200), (-190.0, 400)], ids=["-180", "170", "0", "-190"]
)
def test_a_scene_across_the_antimeridian_is_covered(left, width):
    """A DEM in degrees is met on both sides of 180, however it counts longitude."""
    scene = make_grid(CRS.from_epsg(32760), 700_000, 8.0e6, 500, 300, 600)
    source = make_grid(DEGREES, left, 0, 0.05, 800, width)
    xs, ys = centres(source)
    memory = Memory(source, [np.cos(np.radians(xs)), ys])
    out = align(memory, scene, "bilinear").read(scene.window)
    lon, lat = project(scene.crs, DEGREES, *centres(scene))
    assert lon.min() < -179.9
    assert lon.max() > 179.9
    assert np.abs(out - [np.cos(np.radians(lon)), lat]).max() < 1e-3
    assert memory.largest < 40_000


def test_degrees_beyond_180_meet_degrees_from_minus_180():
    """A scene from 175 to 185 degrees finds its eastern half at -180."""
    scene, source = make_grid(DEGREES, 175, -10, 0.01, 50, 1000), make_grid(DEGREES, -180, 0, 0.05, 800, 7200)
    out = align(Memory(source, [centres(source)[1]]), scene, "bilinear").read(scene.window)
    assert np.abs(out[0] - centres(scene)[1]).max() < 1e-4


@pytest.mark.parametrize(
    "source",
    [
        make_grid(UTM33, 6e5, 5e6, 10, 50, 50),
        make_grid(DEGREES, -60, 10, 0.01, 50, 50),
        make_grid(UTM33, 5e5, 5e6 + 500, 10, 50, 50),
    ],
)
def test_a_raster_elsewhere_does_not_cover(source):
    """No common pixel is an error at once, with both bounds in the message."""
    with pytest.raises(NotCoveringError, match="EPSG:32633"):
        align(Memory(source, np.zeros((1, *source.shape))), SCENE, "bilinear")


@pytest.mark.parametrize("crs", [UTM33, DEGREES])
def test_a_raster_inside_the_scene_is_nan_around(crs):
    """Partial cover is no error: what is not covered is NaN."""
    source = make_grid(UTM33, 501_000, 4_999_000, 10, 40, 40)
    if crs == DEGREES:
        source = make_grid(DEGREES, 15.01, 45.14, 1e-4, 40, 40)
    out = align(Memory(source, np.zeros((1, 40, 40))), SCENE, "bilinear").read(SCENE.window)
    assert 1000 < np.isfinite(out).sum() < 3000


def test_unknown_method_is_a_usage_error():
    """A method that does not exist is named with those that do."""
    with pytest.raises(UsageError, match="cubic"):
        align(Memory(SCENE, np.zeros((1, *SCENE.shape))), SCENE, "cubic")


def test_closing_closes_the_source():
    """The view owns its source."""
    memory = Memory(SCENE, np.zeros((1, *SCENE.shape)))
    with align(memory, SCENE, "nearest"):
        pass
    assert memory.closed
