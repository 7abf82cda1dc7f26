"""What a landslide scoring opens: sides, grids, heights, times, orbits, and what a reader must know."""

from contextlib import ExitStack
from datetime import UTC, datetime

import numpy as np
import pytest
import rasterio
from affine import Affine

from tocsin.errors import (
    NotCoveringError,
    TooLargeError,
    WrongBandsError,
    WrongDatesError,
    WrongUnitsError,
)
from tocsin.grid import Window
from tocsin.hazards.landslide import LandslideInputs
from tocsin.landslide_scene import open_landslide_scene
from tocsin.orbits import Look, same_look

PRE = ("2024-01-01T18:00:00Z", "2024-01-13T18:00:10Z", "2024-01-25T18:00:20Z")
POST = ("2024-02-06T18:00:00Z", "2024-02-18T18:00:00Z", "2024-03-01T18:00:00Z")
OPERA = "OPERA_L2_RTC-S1_T009-019294-IW2_{}Z_20240601T000000Z_S1A_30_v1.0"
TOP = 4.4e6


class FakeManifest:
    """What a scene asks of a model."""

    gsd_m = (7.0, 15.0)


@pytest.fixture
def stack():
    """Return an exit stack that is closed after the test."""
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def acquire(tmp_path, write_raster):
    """Return a function that writes an acquisition of speckled land, VV and VH in dB."""

    def make(name, when=None, *, size_m=10.0, shape=(60, 70), level_db=(-10, -16), left=5e5, **tags):
        speckle = np.random.default_rng(len(name)).normal(0, 1, (2, *shape))
        values = (np.array(level_db)[:, None, None] + speckle).astype(np.float32)
        tags |= {} if when is None else {"ACQUISITION_START": when}
        transform = Affine(size_m, 0.0, left, 0.0, -size_m, TOP)
        return str(write_raster(tmp_path / name, values, transform=transform, **tags))

    return make


@pytest.fixture
def sides(acquire):
    """Return a function that writes both sides with their times, as many acquisitions as asked."""

    def make(before=1, after=1, **options):
        return {
            "pre": [acquire(f"pre{index}.tif", PRE[index], **options) for index in range(before)],
            "post": [acquire(f"post{index}.tif", POST[index], **options) for index in range(after)],
        }

    return make


def opened(stack, *, aoi=None, when=None, **inputs):
    """Open a scene with the model of these tests."""
    return open_landslide_scene(stack, LandslideInputs(**inputs), FakeManifest(), aoi=aoi, when=when)


def codes(scene):
    """Codes of the warnings."""
    return [warning.code for warning in scene.warnings]


def heights(tmp_path, write_raster, values, name="dem.tif", transform=None):
    """Write an elevation model of 30 m and return its name."""
    return str(write_raster(tmp_path / name, values, transform=transform or Affine(30, 0, 5e5, 0, -30, TOP)))


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 3), (3, 1), (3, 3)])
def test_absent_acquisitions_are_nan(stack, sides, before, after):
    """What is there comes in the order given, every other place of the graph is NaN, and so are absent heights."""
    scene = opened(stack, **sides(before, after))
    read = scene.read(Window(0, 0, 60, 70))
    for side, count, sources in ((read.pre, before, scene.pre), (read.post, after, scene.post)):
        assert side.shape == (3, 2, 60, 70)
        assert np.isfinite(side[:count]).all()
        assert np.isnan(side[count:]).all()
        for index, source in enumerate(sources):
            np.testing.assert_array_equal(side[index], source.read(Window(0, 0, 60, 70)))
    assert read.dem.shape == (1, 60, 70)
    assert np.isnan(read.dem).all()
    assert read.post.dtype == read.dem.dtype == np.float32
    assert (scene.resampled, scene.id, codes(scene)) == (False, "post0", [])
    assert len(scene.files) == before + after


def test_windows_may_reach_outside(stack, sides):
    """What lies outside the scene is NaN in every acquisition."""
    read = opened(stack, **sides()).read(Window(-64, -64, 128, 128))
    assert np.isnan(read.post[0, :, :64]).all()
    assert np.isfinite(read.post[0, :, 64:124, 64:]).all()


def test_coarse_pixels_are_resampled_in_linear_power(stack, tmp_path, write_raster):
    """30 m becomes 10 m; between two pixels lies the mean of their powers, not of their decibels."""
    values = np.full((2, 40, 40), -20.0, np.float32)
    values[:, :, 20:] = -5.0
    thirty = Affine(30.0, 0.0, 5e5, 0.0, -30.0, TOP)
    names = [
        str(write_raster(tmp_path / f"{when}.tif", values, transform=thirty, ACQUISITION_START=when))
        for when in (PRE[0], POST[0])
    ]
    scene = opened(stack, pre=names[0], post=names[1])
    assert (scene.grid.shape, scene.model_grid.shape, scene.cells.shape) == ((40, 40), (120, 120), (2, 2))
    assert scene.resampled
    assert scene.model_grid.pixel_size_m() == (10.0, 10.0)
    row = 10 ** (scene.read(scene.model_grid.window).post[0, 0, 60] / 10)
    np.testing.assert_allclose(row[:59], 0.01, rtol=1e-4)
    np.testing.assert_allclose(row[61:], 10**-0.5, rtol=1e-4)
    np.testing.assert_allclose(row[59:61], np.interp([1 / 3, 2 / 3], [0, 1], [0.01, 10**-0.5]), rtol=1e-3)
    assert codes(scene) == []


def test_linear_power_is_read_as_db(stack, tmp_path, write_raster):
    """Linear power becomes dB, and is refused without its unit."""
    for name, when in (("pre.tif", PRE[0]), ("post.tif", POST[0])):
        write_raster(tmp_path / name, np.full((2, 40, 40), 0.1, np.float32), ACQUISITION_START=when)
    named = {"pre": tmp_path / "pre.tif", "post": tmp_path / "post.tif"}
    read = opened(stack, units="linear", **named).read(Window(0, 0, 40, 40))
    np.testing.assert_allclose(read.pre[0], -10, rtol=1e-5)
    with pytest.raises(WrongUnitsError, match="units linear"):
        opened(stack, **named)


def test_opera_folders_and_pairs_of_files(stack, tmp_path, write_raster):
    """A folder and 'VV;VH' are acquisitions; time and track come from the product's names."""
    power = np.full((1, 50, 50), 0.1, np.float32)
    thirty = Affine(30.0, 0.0, 5e5, 0.0, -30.0, TOP)
    folder, pair = OPERA.format("20240123T084748"), OPERA.format("20240204T084747")
    for name in (f"{folder}/{folder}", pair):
        for polarisation in ("VV", "VH"):
            write_raster(tmp_path / f"{name}_{polarisation}.tif", power, transform=thirty)
    post = f"{tmp_path / pair}_VV.tif;{tmp_path / pair}_VH.tif"
    scene = opened(stack, pre=tmp_path / folder, post=post, units="linear")
    assert (scene.id, scene.acquired) == (pair, datetime(2024, 2, 4, 8, 47, 47, tzinfo=UTC))
    assert scene.days_between == pytest.approx(12, abs=1e-4)
    assert (len(scene.files), codes(scene)) == (4, [])


@pytest.fixture
def lone(tmp_path, write_raster):
    """Return a function that writes a file of one polarisation."""

    def write(name):
        return str(write_raster(tmp_path / name, np.full((1, 40, 50), -15.0, np.float32)))

    return write


def test_one_polarisation_is_enough(stack, lone):
    """Stacks of VH alone are scored, with VV missing, and the result says so."""
    scene = opened(stack, pre=(lone("a_VH.tif"),), post=(lone("b_VH.tif"),))
    given = scene.read(Window(0, 0, 40, 50))
    assert np.isnan(given.pre[:, 0]).all()
    assert (given.post[0, 1] == -15).all()
    assert "VV is missing in 2 of 2" in next(each.message for each in scene.warnings if each.code == "band_missing")


def test_nothing_in_common_is_refused(stack, lone):
    """VH before and VV after show no change of either."""
    with pytest.raises(WrongBandsError) as caught:
        opened(stack, pre=(lone("a_VH.tif"),), post=(lone("b_VV.tif"),))
    assert "VH before and VV after" in str(caught.value)


def test_other_grids_are_brought_onto_the_first(stack, acquire):
    """All acquisitions lie on the grid of the first post-event one; what is not covered is NaN, and it is said."""
    post = [acquire("post.tif", POST[0]), acquire("east.tif", POST[1], left=5e5 + 300)]
    scene = opened(stack, pre=acquire("pre.tif", PRE[0], size_m=15.0), post=post)
    read = scene.read(Window(0, 0, 60, 70))
    assert np.isfinite(read.pre[0]).all()
    assert np.isnan(read.post[1, :, :, :30]).all()
    assert np.isfinite(read.post[1, :, :, 31:]).all()
    assert codes(scene) == ["grid_differs"]
    assert "east.tif" in scene.warnings[0].message
    with pytest.raises(NotCoveringError):
        opened(stack, pre=acquire("far.tif", PRE[0], left=6e5), post=post)


def test_times(stack, sides, acquire):
    """Days between count from the last before to the first after; what is unknown is said and never invented."""
    scene = opened(stack, **sides(3, 2))
    assert scene.days_between == pytest.approx(12, abs=1e-3)
    assert scene.pre_acquired[0] == datetime(2024, 1, 1, 18, tzinfo=UTC)
    assert scene.acquired == scene.post_acquired[0] == datetime(2024, 2, 6, 18, tzinfo=UTC)
    nameless = acquire("nameless.tif")
    scene = opened(stack, pre=[acquire("pre.tif", PRE[0]), nameless], post=acquire("post.tif", POST[0]))
    assert (scene.days_between, scene.pre_acquired[1]) == (None, None)
    assert codes(scene) == ["other_acquired_unknown"]
    assert "nameless.tif" in scene.warnings[0].message
    scene = opened(stack, pre=acquire("pre.tif", PRE[0]), post=nameless)
    assert (scene.acquired, scene.days_between, codes(scene)) == (None, None, ["acquired_unknown"])
    when = datetime(2024, 1, 11, 18, tzinfo=UTC)
    scene = opened(stack, pre=acquire("pre.tif", PRE[0]), post=nameless, when=when)
    assert (scene.acquired, scene.days_between, codes(scene)) == (when, 10, [])


def test_wrong_order_of_dates(stack, sides, acquire):
    """Sides that are swapped, or overlap in time, are refused; so is a stated time before the event."""
    right = sides(2, 2)
    with pytest.raises(WrongDatesError, match="exchange the two sides"):
        opened(stack, pre=right["post"], post=right["pre"])
    with pytest.raises(WrongDatesError, match="2024-03-01"):
        opened(stack, pre=[right["pre"][0], acquire("late.tif", POST[2])], post=right["post"])
    with pytest.raises(WrongDatesError):
        opened(stack, when=datetime(2023, 1, 1, tzinfo=UTC), **right)


@pytest.mark.parametrize(
    ("when", "tags", "differs"),
    [
        (PRE[0], {}, False),
        (PRE[0], {"ORBIT_PASS": "descending"}, True),
        (PRE[0], {"ORBIT_PASS": "ascending", "TRACK_NUMBER": "9"}, False),
        (PRE[0], {"TRACK_NUMBER": "111"}, True),
        ("2024-01-01T18:05:00Z", {}, True),
        ("2024-01-01T06:00:00Z", {}, True),
        ("2024-01-01T06:00:00Z", {"TRACK_NUMBER": "9"}, False),
        ("2024-01-01", {}, False),
        (None, {}, False),
    ],
)
def test_other_orbits_are_spoken_of(stack, acquire, when, tags, differs):
    """Another pass or track than the scene's is said: by tags, else by the time of day."""
    post = acquire("post.tif", POST[0], ORBIT_PASS="ASCENDING", RELATIVE_ORBIT="9")
    scene = opened(stack, pre=acquire("pre.tif", when, **tags), post=post)
    assert ("orbit_differs" in codes(scene)) == differs
    assert scene.orbit_pass == "ascending"


def test_one_look_that_comes_twice_is_spoken_of(stack, acquire):
    """Two files of one time on one grid are one look; on both sides of the event they are wrong dates."""
    post = [acquire("post.tif", POST[0]), acquire("again.tif", POST[0])]
    scene = opened(stack, pre=acquire("pre.tif", PRE[0]), post=post)
    assert codes(scene) == ["acquired_twice"]
    assert "again.tif" in scene.warnings[0].message
    with pytest.raises(WrongDatesError):
        opened(stack, pre=post[1], post=post[0])


def test_nothing_is_said_of_orbits_that_nobody_knows():
    """Without times, tracks and directions of flight nothing tells two acquisitions apart, midnight included."""
    unknown = Look(None, None, None)
    assert same_look(unknown, unknown) is None
    before, after = (Look(None, None, datetime(2024, 1, 1, *time, tzinfo=UTC)) for time in ((23, 59, 30), (0, 0, 30)))
    assert same_look(before, after) is True


def test_heights_are_aligned_bilinearly(stack, sides, tmp_path, write_raster):
    """A plane of 30 m is the same plane on the model's grid; its file is in the provenance."""
    row, col = np.mgrid[:30, :30] + 0.5
    dem = heights(tmp_path, write_raster, (row * 30 + col * 15)[None].astype(np.float32))
    scene = opened(stack, dem=dem, **sides())
    read = scene.read(Window(5, 5, 40, 40)).dem[0]
    row, col = np.mgrid[5:45, 5:45] + 0.5
    np.testing.assert_allclose(read, row * 10 + col * 5, rtol=1e-4)
    assert (codes(scene), scene.files[-1].href) == ([], dem)


def test_heights_that_are_missing_stay_missing(stack, sides, tmp_path, write_raster):
    """A void and a model that covers a part of the scene leave NaN and are said; one elsewhere is refused."""
    plane = np.full((1, 30, 30), 500.0, np.float32)
    void = opened(stack, dem=heights(tmp_path, write_raster, plane * np.nan), **sides())
    assert (codes(void), np.isnan(void.read(Window(0, 0, 60, 70)).dem).all()) == (["dem_void"], True)
    shifted = Affine(30, 0, 5e5 + 360, 0, -30, TOP)
    part = opened(stack, dem=heights(tmp_path, write_raster, plane, transform=shifted), **sides())
    read = part.read(Window(0, 0, 60, 70)).dem[0]
    assert codes(part) == ["dem_partial"]
    assert np.isnan(read[:, :36]).all()
    np.testing.assert_allclose(read[:, 37:], 500)
    with pytest.raises(NotCoveringError):
        opened(stack, dem=heights(tmp_path, write_raster, plane, transform=Affine(30, 0, 6e5, 0, -30, TOP)), **sides())


def test_heights_in_feet_are_refused(stack, sides, tmp_path, write_raster):
    """Feet stated by the band, heights beyond any mountain, fill values and several bands are no metres."""
    plane = np.full((1, 30, 30), 500.0, np.float32)
    feet = heights(tmp_path, write_raster, plane)
    with rasterio.open(feet, "r+") as raster:
        raster.set_band_unit(1, "US survey foot")
    with pytest.raises(WrongUnitsError, match="feet"):
        opened(stack, dem=feet, **sides())
    for wrong in (9200.0, -32768.0):
        with pytest.raises(WrongUnitsError, match="metres"):
            opened(stack, dem=heights(tmp_path, write_raster, np.full((1, 30, 30), wrong, np.float32)), **sides())
    with pytest.raises(WrongBandsError, match="3 bands"):
        opened(stack, dem=heights(tmp_path, write_raster, np.repeat(plane, 3, axis=0)), **sides())


def test_heights_in_feet_by_their_crs_are_refused(stack, sides, tmp_path, write_raster):
    """A vertical CRS in feet states feet."""
    plane = np.full((1, 30, 30), 500.0, np.float32)
    place = tmp_path / "vertical.tif"
    write_raster(place, plane, crs="EPSG:32630+6360", transform=Affine(30, 0, 5e5, 0, -30, TOP))
    with pytest.raises(WrongUnitsError, match="feet"):
        opened(stack, dem=place, **sides())


def test_area_and_exclusion(stack, sides, tmp_path):
    """Both are known on the scene's own grid, the area on the model's too; both files are in the provenance."""
    area = tmp_path / "area.geojson"
    area.write_text(
        '{"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": '
        "[[[-3.0, 39.745], [-2.99, 39.745], [-2.99, 39.76], [-3.0, 39.76], [-3.0, 39.745]]]}}"
    )
    scene = opened(stack, aoi=area, exclude=area, **sides(size_m=30.0))
    assert (scene.aoi.read(scene.grid.window) > 0).any()
    assert scene.aoi_model.grid.shape == scene.model_grid.shape == (180, 210)
    assert scene.exclude.grid == scene.grid
    assert [file.href for file in scene.files[-2:]] == [str(area), str(area)]
    area.write_text(area.read_text().replace("39.7", "10.7"))
    with pytest.raises(NotCoveringError):
        opened(stack, aoi=area, **sides())


def test_too_large_at_the_pixels_of_the_model(stack, tmp_path):
    """A scene of coarse pixels that would be huge at 10 m is refused before anything is read."""
    profile = {"driver": "GTiff", "dtype": "float32", "count": 2, "width": 4000, "height": 4000, "crs": "EPSG:32630"}
    for name in ("pre.tif", "post.tif"):
        place = Affine(100.0, 0.0, 5e5, 0.0, -100.0, TOP)
        with rasterio.open(tmp_path / name, "w", **profile, transform=place, sparse_ok=True, tiled=True, nodata=0):
            pass
    with pytest.raises(TooLargeError):
        opened(stack, pre=tmp_path / "pre.tif", post=tmp_path / "post.tif")


@pytest.mark.data
def test_real_opera_pairs(stack, data):
    """Three real acquisitions before and after, 30 m and linear, lie on one grid of 10 m with their times and track."""
    from training.datasets.opera_rtc import OperaRtc

    series = OperaRtc(data / "opera_rtc" / "stable_california").one("T137-292319-IW2")
    names = [acquisition.href for acquisition in series.acquisitions]
    scene = opened(stack, pre=names[6:9], post=names[9:12], units="linear")
    assert (scene.grid.shape, scene.model_grid.shape) == ((100, 100), (300, 300))
    assert scene.days_between == pytest.approx(12, abs=0.01)
    assert (codes(scene), len(scene.files)) == ([], 12)
    read = scene.read(Window(0, 0, 300, 300))
    for side in (read.pre, read.post):
        assert np.isfinite(side).mean() > 0.99
        assert -16 < np.nanmedian(side[:, 0]) < -5
        assert -24 < np.nanmedian(side[:, 1]) < -12
    with pytest.raises(WrongUnitsError, match="units linear"):
        opened(stack, pre=names[6:9], post=names[9:12])
    with pytest.raises(WrongDatesError):
        opened(stack, pre=names[9:12], post=names[6:9], units="linear")
