"""Interferograms to score: their unit, sign, grid and day."""

from datetime import date

import numpy as np
import pytest
from affine import Affine

from tocsin.anomaly.manifest import SeriesFacts
from tocsin.anomaly.reading import AnomalyInputs, grid_of, read_motion
from tocsin.errors import (
    GridMismatchError,
    NotCoveringError,
    UsageError,
    WrongBandsError,
    WrongDatesError,
    WrongUnitsError,
)
from tocsin.phase import RAD_PER_METRE

SHAPE = (40, 50)
FACTS = SeriesFacts(
    id="a", sha256="0" * 64, frame="", shape=SHAPE, lat_deg=(13.6905, 13.6515), lon_deg=(40.5775, 40.6265)
)
GRID = grid_of(FACTS)


def metres():
    """Return motion, m, without exact zeros."""
    row, col = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return (0.05 * np.sin(row / 7 + 0.1) * np.cos(col / 9 + 0.2) + 0.01).astype(np.float32)


@pytest.fixture
def write(tmp_path, write_raster):
    """Return a function that writes a raster on the series' grid, or moved by pixels."""

    def written(values, name="20200101_20200113.geo.unw.tif", moved=(0, 0), step=1.0):
        at = GRID.transform
        place = Affine(at.a * step, 0, at.c + at.a * moved[1], 0, at.e * step, at.f + at.e * moved[0])
        return str(write_raster(tmp_path / name, values[None], crs="EPSG:4326", transform=place))

    return written


@pytest.fixture
def series(tmp_path):
    """Write a series of four epochs on the grid."""
    path = tmp_path / "series.npz"
    inc = np.stack([metres() * (1 + each) for each in range(4)])
    np.savez(
        path,
        inc=inc,
        cml=np.cumsum(inc, axis=0),
        dates=np.array(["2020-01-01", "2020-01-13", "2020-01-25", "2020-02-06"]),
        lats=np.linspace(*FACTS.lat_deg, SHAPE[0]),
        lons=np.linspace(*FACTS.lon_deg, SHAPE[1]),
        dem=np.zeros(SHAPE),
    )
    return path


def test_grid_has_centres_where_the_series_says():
    """The first pixel's centre lies at the first latitude and longitude."""
    assert GRID.transform.c + GRID.transform.a / 2 == pytest.approx(40.5775)
    assert GRID.transform.f + GRID.transform.e / 2 == pytest.approx(13.6905)
    assert GRID.transform.a == pytest.approx(0.001)


def test_unwrapped_phase_becomes_motion_toward_the_satellite(write):
    """Phase that grows with range is motion away: negative metres; days come from the name."""
    motion = read_motion(AnomalyInputs(interferogram=write(-metres() * RAD_PER_METRE)), FACTS)
    np.testing.assert_allclose(motion.metres, metres(), atol=1e-6)
    assert motion.acquired.date() == date(2020, 1, 13)
    assert motion.day_only


def test_metres_are_taken_as_they_are(write):
    """With units m nothing is scaled or turned."""
    motion = read_motion(AnomalyInputs(interferogram=write(metres(), "motion.tif"), units="m"), FACTS)
    np.testing.assert_array_equal(motion.metres, metres())
    assert motion.acquired is None


def test_a_larger_raster_is_cut(write):
    """The fitted window is read out of a frame; what lies outside is missing."""
    large = np.pad(-metres() * np.float32(RAD_PER_METRE), 5, constant_values=1.0)
    motion = read_motion(AnomalyInputs(interferogram=write(large, moved=(-5, -5))), FACTS)
    np.testing.assert_allclose(motion.metres, metres(), atol=1e-6)
    part = read_motion(AnomalyInputs(interferogram=write(large, moved=(10, 0))), FACTS)
    assert np.isnan(part.metres[:10]).all()
    assert np.isfinite(part.metres[10:]).all()


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"moved": (0.5, 0)}, GridMismatchError),
        ({"step": 2.0}, GridMismatchError),
        ({"moved": (400, 0)}, NotCoveringError),
        ({"name": "20200101_20200113.geo.diff_pha.tif"}, WrongUnitsError),
    ],
)
def test_other_grids_and_wrapped_phase_are_refused(write, given, error):
    """Half a pixel, another pixel size, another place, and what its name calls wrapped."""
    with pytest.raises(error):
        read_motion(AnomalyInputs(interferogram=write(-metres() * RAD_PER_METRE, **given)), FACTS)


def test_units_that_contradict_the_values_are_refused(write):
    """Metres given as radians, and a file of two bands."""
    with pytest.raises(WrongUnitsError):
        read_motion(AnomalyInputs(interferogram=write(metres(), "a_unw.tif")), FACTS)


def test_two_bands_are_refused(tmp_path, write_raster):
    """One band is phase; which of two is not guessed."""
    path = write_raster(
        tmp_path / "two_unw.tif", np.ones((2, *SHAPE), np.float32), crs="EPSG:4326", transform=GRID.transform
    )
    with pytest.raises(WrongBandsError):
        read_motion(AnomalyInputs(interferogram=str(path)), FACTS)


def test_an_epoch_of_a_series(series):
    """The day picks the increment, and names the result."""
    motion = read_motion(AnomalyInputs(interferogram=str(series), date="2020-01-25"), FACTS)
    np.testing.assert_allclose(motion.metres, 3 * metres(), rtol=1e-6)
    assert motion.id == "series_2020-01-25"
    assert motion.grid == GRID


def test_a_series_needs_a_day_that_it_holds(series, write):
    """No day, a day between epochs, and a day for a raster are errors."""
    with pytest.raises(UsageError, match="--date"):
        read_motion(AnomalyInputs(interferogram=str(series)), FACTS)
    with pytest.raises(WrongDatesError, match="2020-01-02"):
        read_motion(AnomalyInputs(interferogram=str(series), date="2020-01-02"), FACTS)
    with pytest.raises(UsageError, match="--date"):
        read_motion(AnomalyInputs(interferogram=write(metres()), date="2020-01-25"), FACTS)


def test_another_series_is_refused(series):
    """An epoch of another place does not lie on the fitted grid."""
    elsewhere = FACTS.model_copy(update={"lat_deg": (13.7905, 13.7515)})
    with pytest.raises(GridMismatchError, match=r"series\.npz"):
        read_motion(AnomalyInputs(interferogram=str(series), date="2020-01-25"), elsewhere)
