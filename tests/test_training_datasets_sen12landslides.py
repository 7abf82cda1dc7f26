"""Patches of Sen12Landslides by their published layout."""

from datetime import date

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from tocsin.errors import (
    GridMismatchError,
    NotARasterError,
    UsageError,
    WrongBandsError,
    WrongDatesError,
    WrongUnitsError,
)
from tocsin.grid import Grid
from training.datasets.sen12landslides import Sen12Landslides

DAYS = ("2023-04-01", "2023-05-01", "2023-05-13", "2023-05-13", "2023-05-25", "2023-06-06", "2023-06-18", "2023-06-30")


def patch(folder, name="italy_s1asc_12", *, order=("y", "x"), size=16, leave_out=(), units="days", **attributes):
    """Write a patch in the published layout: rows get warmer southwards, a landslide at rows 2-3 and columns 5-8."""
    h5py = pytest.importorskip("h5py", reason="needs the extra train")
    folder.mkdir(parents=True, exist_ok=True)
    shape = (len(DAYS), size, size)
    rows = np.broadcast_to(np.arange(size)[:, None], shape).astype(np.float32)
    days = np.array([(date.fromisoformat(day) - date.fromisoformat(DAYS[0])).days for day in DAYS])
    mask = np.zeros(shape, np.uint8)
    mask[:, 2:4, 5:9] = 1
    arrays = {
        "VV": rows * 0.1 - 9 + days[:, None, None] * np.float32(0.001),
        "VH": rows * 0.1 - 16,
        "MASK": mask,
        "DEM": (rows * 10).astype(np.int16),
    }
    arrays["VH"][0, 0, 0] = np.nan
    stated = {
        "event_date": "2023-05-16",
        "date_confidence": "1.0",
        "pre_post_dates": "{'pre': 3, 'post': 4}",
        "annotated": "True",
        "satellite": "s1-asc",
        "crs": "EPSG:32632",
    } | attributes
    path = folder / f"{name}.nc"
    with h5py.File(path, "w") as file:
        file["time"] = days * {"days": 1, "hours": 24, "nanoseconds": 86_400 * 10**9}.get(units, 1)
        file["time"].attrs["units"] = f"{units} since {DAYS[0]} 00:00:00"
        file["x"] = 755200.0 + 10 * np.arange(size)
        file["y"] = 4881920.0 - 10 * np.arange(size)
        for axis in ("time", "y", "x"):
            file[axis].make_scale(axis)
        for key in arrays.keys() - set(leave_out):
            values = arrays[key] if order == ("y", "x") else arrays[key].transpose(0, 2, 1)
            file[key] = values
            if values.dtype == np.float32:
                file[key].attrs["_FillValue"] = np.array([np.nan], np.float32)
            for axis, dimension in enumerate(("time", *order)):
                file[key].dims[axis].attach_scale(file[dimension])
        for key, value in stated.items():
            file.attrs[key] = value
    return path


@pytest.mark.parametrize("order", [("y", "x"), ("x", "y")])
@pytest.mark.parametrize("units", ["days", "hours", "nanoseconds"])
def test_patches_are_read_by_their_layout(tmp_path, order, units):
    """Axes become rows and columns whatever their order, a repeated time counts once, and fill is NaN."""
    patch(tmp_path / "s1asc", order=order, units=units)
    found = Sen12Landslides(tmp_path).read("italy_s1asc_12")
    assert (found.region, found.orbit_pass, found.annotated, found.date_confidence) == ("italy", "ascending", True, 1.0)
    assert [time.date().isoformat() for time in found.times] == sorted(set(DAYS))
    assert found.s1_db.shape == (7, 2, 16, 16)
    np.testing.assert_allclose(found.s1_db[0, 0, :, 3], np.arange(16) * 0.1 - 9, rtol=1e-5)
    assert np.argwhere(np.isnan(found.s1_db)).tolist() == [[0, 1, 0, 0]]
    assert np.argwhere(found.mask).min(axis=0).tolist() == [2, 5]
    assert found.mask.sum() == 8
    np.testing.assert_array_equal(found.dem_m[:, 0], np.arange(16) * 10)
    assert found.grid == Grid(CRS.from_epsg(32632), Affine(10.0, 0.0, 755200.0, 0.0, -10.0, 4881920.0), 16, 16)
    assert found.event_dates == (date(2023, 5, 16),)


def test_sides_of_an_event_are_the_closest_and_never_its_own_day(tmp_path):
    """Up to three before and three after; several events of a patch lie all between the two sides."""
    patch(tmp_path, "nepal_s1dsc_1", event_date="2023-05-25,2023-05-13,None")
    found = Sen12Landslides(tmp_path).read("nepal_s1dsc_1")
    assert found.event_dates == (date(2023, 5, 13), date(2023, 5, 25))
    pre, post = found.around_events()
    assert pre.shape == post.shape == (3, 2, 16, 16)
    np.testing.assert_array_equal(pre[:2], found.s1_db[:2])
    assert np.isnan(pre[2]).all()
    np.testing.assert_array_equal(post, found.s1_db[4:7])
    pre, post = found.around(date(2023, 6, 10), date(2023, 6, 10))
    np.testing.assert_array_equal(pre, found.s1_db[2:5])
    assert np.isnan(post[2]).all()


@pytest.mark.parametrize("event", ["None", "", "2020-01-01", "2024-01-01"])
def test_events_out_of_sight_have_no_sides(tmp_path, event):
    """Without a day, or with a day outside the series, there is no pair, and none is made up."""
    patch(tmp_path, event_date=event, date_confidence="")
    found = Sen12Landslides(tmp_path).read("italy_s1asc_12")
    assert found.around_events() is None
    assert found.date_confidence is None


def test_patches_are_listed_by_sensor_and_region(tmp_path):
    """Names and regions come from file names; optical patches are no Sentinel-1."""
    for name in ("italy_s1asc_2", "italy_s1dsc_2", "new_zealand_s1asc_7", "italy_s2_2"):
        patch(tmp_path / name.split("_")[-2], name, leave_out=("DEM",))
    data = Sen12Landslides(tmp_path)
    assert data.names() == ("italy_s1asc_2", "italy_s1dsc_2", "new_zealand_s1asc_7")
    assert data.names("s1dsc") == ("italy_s1dsc_2",)
    assert data.regions() == ("italy", "new_zealand")
    assert np.isnan(next(data.patches("s1dsc")).dem_m).all()
    with pytest.raises(UsageError, match="s1asc, s1dsc"):
        data.names("s2")
    with pytest.raises(UsageError, match="one of 3"):
        data.read("italy_s1asc_3")


def test_patches_that_are_none_are_refused(tmp_path):
    """An empty folder, another format, missing variables, unknown times and days, and linear power raise."""
    with pytest.raises(UsageError, match="unpack"):
        Sen12Landslides(tmp_path)
    path = patch(tmp_path, leave_out=("VH", "MASK"))
    with pytest.raises(WrongBandsError, match="VH, MASK"):
        Sen12Landslides(tmp_path).read(path.stem)
    patch(tmp_path, units="fortnights")
    with pytest.raises(WrongDatesError, match="no unit"):
        Sen12Landslides(tmp_path).read(path.stem)
    patch(tmp_path, event_date="16 May")
    with pytest.raises(WrongDatesError, match="16 May"):
        Sen12Landslides(tmp_path).read(path.stem)
    h5py = pytest.importorskip("h5py", reason="needs the extra train")
    patch(tmp_path)
    with h5py.File(path, "r+") as file:
        file["VV"][...] = 0.1
    with pytest.raises(WrongUnitsError, match="VV"):
        Sen12Landslides(tmp_path).read(path.stem)
    patch(tmp_path)
    with h5py.File(path, "r+") as file:
        file["y"][...] = file["y"][()][::-1]
    with pytest.raises(GridMismatchError, match="falling"):
        Sen12Landslides(tmp_path).read(path.stem)
    path.write_bytes(b"CDF\x01" + bytes(64))
    with pytest.raises(NotARasterError, match="NetCDF-4"):
        Sen12Landslides(tmp_path).read(path.stem)
