"""VV and VH in dB from one file, a folder or two files; wrong units and bands are refused."""

import numpy as np
import pytest
import rasterio
from affine import Affine

from tocsin.errors import GridMismatchError, TocsinError, WrongBandsError, WrongUnitsError
from tocsin.grid import Window
from tocsin.raster import open_backscatter

AT = Affine(10.0, 0.0, 5e5, 0.0, -10.0, 5e6)
OPERA = "OPERA_L2_RTC-S1_T137-292319-IW2_20211119T015858Z_20250830T120333Z_S1A_30_v1.0"
HYP3 = "S1A_IW_20230605T120004_DVP_RTC30_G_g{}uned_1A2B"


def write(path, array, descriptions=None, **changes):
    """Write [band, row, col] as float32 and return the path."""
    count, height, width = array.shape
    path.parent.mkdir(exist_ok=True)
    facts = {"crs": "EPSG:32633", "transform": AT, "nodata": np.nan, "dtype": "float32", **changes}
    with rasterio.open(path, "w", driver="GTiff", count=count, height=height, width=width, **facts) as file:
        file.write(array.astype(facts["dtype"]))
        if descriptions:
            file.descriptions = descriptions
    return path


@pytest.fixture
def db():
    """Backscatter of land in dB, [VV, VH]."""
    rng = np.random.default_rng(2)
    return np.stack([rng.normal(-10, 3, (60, 70)), rng.normal(-16, 3, (60, 70))]).astype(np.float32)


@pytest.fixture
def power(db):
    """The same in linear power."""
    return 10 ** (db / 10)


def read(spec, units="db"):
    """Read a whole acquisition."""
    with open_backscatter(spec, units) as scene:
        return scene.read(scene.grid.window)


@pytest.mark.parametrize(
    ("order", "descriptions"),
    [
        ((0, 1), None),
        ((0, 1), ("bands", "bands")),
        ((0, 1), ("VV", "VH")),
        ((1, 0), ("VH", "VV")),
        ((1, 0), ("Gamma0_VH_db", "gamma0_vv_db")),
        ((1, 0, 0), ("vh", "vv", "angle")),
        ((0, 0, 1, 1), ("VV/VH ratio", "VV", "VH", "VV-VH")),
    ],
)
def test_bands_are_found_by_description_else_by_order(tmp_path, db, order, descriptions):
    """Any order and extra bands are fine when descriptions tell; two silent bands are VV, VH."""
    path = write(tmp_path / "a.tif", db[list(order)], descriptions)
    assert np.array_equal(read(path), db)


@pytest.mark.parametrize(
    ("count", "descriptions"),
    [
        (1, None),
        (1, ("VV",)),
        (3, None),
        (2, ("VV", "VV")),
        (2, ("HH", "HV")),
        (2, ("VV", "angle")),
        (3, ("VV", "VH", "VH")),
    ],
)
def test_bands_that_cannot_be_told_are_refused(tmp_path, db, count, descriptions):
    """One band, three silent ones, doubles and other polarisations are wrong bands."""
    with pytest.raises(WrongBandsError, match="VV and VH"):
        read(write(tmp_path / "a.tif", db[[0, 1, 1][:count]], descriptions))


def test_alpha_is_not_counted_among_the_bands(tmp_path, db):
    """VV, VH and alpha is a two-band acquisition."""
    alpha = np.ones_like(db[:1])
    alpha[0, 5] = 0
    path = write(tmp_path / "a.tif", np.concatenate([db, alpha]), (None, None, "alpha"))
    assert np.isnan(read(path)[:, 5]).all()
    assert np.array_equal(np.delete(read(path), 5, axis=1), np.delete(db, 5, axis=1))


@pytest.mark.parametrize("name", [OPERA, HYP3.format("p")])
def test_folder_of_two_files(tmp_path, power, db, name):
    """An OPERA or HyP3 folder gives the scene's name, its time and dB, whatever else lies in it."""
    for index, polarisation in enumerate(("VV", "VH")):
        write(tmp_path / name / f"{name}_{polarisation}.tif", power[index : index + 1])
    write(tmp_path / name / f"{name}_mask.tif", power[:1])
    (tmp_path / name / f"{name}_VV.tif.xml").write_text("<x/>")
    with open_backscatter(tmp_path / name, "linear") as scene:
        assert (scene.scene_id, len(scene.files)) == (name, 2)
        assert scene.acquired.start.year in {2021, 2023}
        assert np.abs(scene.read(scene.grid.window) - db).max() < 1e-5


def test_folder_with_two_dates_is_refused(tmp_path, power):
    """Two VV files in a folder cannot be told apart: name them."""
    for name in ("a_VV", "b_VV", "a_VH"):
        write(tmp_path / "f" / f"{name}.tif", power[:1])
    with pytest.raises(WrongBandsError, match="2 VV files"):
        read(tmp_path / "f", "linear")


@pytest.mark.parametrize("names", [("s_VV", "s_VH"), ("s_VH", "s_VV"), ("s.vv", "s.vh"), ("one", "two")])
def test_two_files_are_told_by_name_else_by_order(tmp_path, db, names):
    """VV.tif;VH.tif in either order; silent names count in order."""
    paths = [write(tmp_path / f"{name}.tif", db[[int("vh" in name.lower() or name == "two")]]) for name in names]
    with open_backscatter(";".join(map(str, paths))) as scene:
        assert np.array_equal(scene.read(scene.grid.window), db)
        assert scene.scene_id == ("one" if names[0] == "one" else "s")


def test_two_files_that_do_not_belong_together(tmp_path, db):
    """The same polarisation twice, another grid and a third file are refused."""
    one, two = write(tmp_path / "a_VV.tif", db[:1]), write(tmp_path / "a_VH.tif", db[1:])
    shifted = write(tmp_path / "b_VH.tif", db[1:], transform=Affine(10, 0, 5e5 + 5, 0, -10, 5e6))
    with pytest.raises(WrongBandsError):
        read(f"{one};{one}")
    with pytest.raises(WrongBandsError, match="3 files"):
        read(f"{one};{two};{two}")
    with pytest.raises(WrongBandsError, match="2 bands"):
        read(f"{one};{write(tmp_path / 'c_VH.tif', db)}")
    with pytest.raises(GridMismatchError):
        read(f"{one};{shifted}")


def test_linear_power_given_as_db_is_refused_and_says_so(tmp_path, power, db):
    """The message names the mistake and the option; with it the values become dB."""
    path = write(tmp_path / "a.tif", power)
    with pytest.raises(WrongUnitsError, match=r"linear power given as dB.*--units linear"):
        read(path)
    assert np.abs(read(path, "linear") - db).max() < 1e-5


def test_one_linear_band_is_enough_to_refuse(tmp_path, power, db):
    """VV in dB beside VH in power is refused."""
    with pytest.raises(WrongUnitsError, match=r"\(VH\)"):
        read(write(tmp_path / "a.tif", np.stack([db[0], power[1]])))


def test_db_given_as_linear_is_refused(tmp_path, db):
    """Negative power does not exist."""
    with pytest.raises(WrongUnitsError, match=r"dB given as linear.*--units db"):
        read(write(tmp_path / "a.tif", db), "linear")


@pytest.mark.parametrize("units", ["db", "linear"])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_uncalibrated_amplitude_is_refused(tmp_path, power, units, dtype):
    """Digital numbers in the hundreds are neither dB nor power."""
    numbers = np.sqrt(power) * 700
    with pytest.raises(WrongUnitsError, match="uncalibrated"):
        read(write(tmp_path / "a.tif", numbers, dtype=dtype, nodata=0), units)


@pytest.mark.parametrize("units", ["db", "linear"])
def test_calm_water_alone_is_accepted(tmp_path, units):
    """A scene of nothing but water (-22 and -29 dB) is no mistake in either unit."""
    rng = np.random.default_rng(3)
    water = np.stack([rng.normal(-22, 2, (50, 50)), rng.normal(-29, 2, (50, 50))])
    values = water if units == "db" else 10 ** (water / 10)
    assert np.abs(read(write(tmp_path / "a.tif", values), units) - water).max() < 1e-4


def test_a_bright_city_is_accepted(tmp_path, db):
    """A third of the pixels above 0 dB is still dB."""
    db[0, :20] = 3.0
    assert np.array_equal(read(write(tmp_path / "a.tif", db)), db)


@pytest.mark.parametrize("units", ["db", "linear"])
def test_a_scene_without_data_opens_and_reads_nan(tmp_path, units):
    """All no data is no error: nothing can be said about its unit."""
    path = write(tmp_path / "a.tif", np.full((2, 80, 90), np.nan))
    assert np.isnan(read(path, units)).all()


def test_few_pixels_cannot_be_judged(tmp_path):
    """One positive pixel may be a ship: a scene of one pixel is accepted."""
    assert read(write(tmp_path / "a.tif", np.full((2, 1, 1), 5.0))).tolist() == [[[5.0]], [[5.0]]]


def test_valid_pixels_that_the_sample_missed_are_judged_on_reading(tmp_path, power):
    """A corner of linear power in an otherwise empty scene is refused when it is read."""
    values = np.full((2, 1500, 1500), np.nan, dtype=np.float32)
    values[:, :60, :70] = power
    with open_backscatter(write(tmp_path / "a.tif", values, tiled=True, blockxsize=256, blockysize=256)) as scene:
        assert np.isnan(scene.read(Window(700, 0, 100, 1500))).all()
        with pytest.raises(WrongUnitsError):
            scene.read(Window(0, 0, 100, 1500))


def test_judging_reads_a_bounded_part_of_a_large_scene(tmp_path, monkeypatch, db):
    """Opening touches a few small windows, not the scene."""
    from tocsin.raster.opening import Raster

    values = np.tile(db, (1, 30, 30))
    path = write(tmp_path / "a.tif", values, tiled=True, blockxsize=512, blockysize=512)
    seen = []
    monkeypatch.setattr(Raster, "read", lambda _self, window, _bands=None: seen.append(window) or values[:, :64, :64])
    open_backscatter(path).close()
    assert len(seen) <= 16
    assert all(max(window.shape) <= 64 for window in seen)
    assert all(window.row // 512 == (window.row_stop - 1) // 512 for window in seen)


@pytest.mark.parametrize(("scale", "units"), [("p", "db"), ("d", "linear"), ("a", "db"), ("a", "linear")])
def test_hyp3_names_state_the_unit(tmp_path, db, scale, units):
    """Power given as dB, dB as power and amplitude at all are refused by the name alone, on an empty scene too."""
    name = HYP3.format(scale)
    path = write(tmp_path / f"{name}_VV.tif", np.full((2, 9, 9), np.nan))
    with pytest.raises(WrongUnitsError):
        read(path, units)


def test_opera_is_linear_by_its_name(tmp_path):
    """OPERA RTC-S1 is always linear power."""
    path = write(tmp_path / f"{OPERA}_VV.tif", np.full((2, 9, 9), np.nan))
    with pytest.raises(WrongUnitsError, match="--units linear"):
        read(path)


def test_what_no_radar_measures_is_no_data(tmp_path, db, power):
    """Zero and negative power, and an undeclared fill value of -9999 dB, become NaN, not water."""
    power[0, 0, :2] = [0.0, -1e-4]
    assert np.isnan(read(write(tmp_path / "p.tif", power), "linear")[0, 0, :2]).all()
    db[:, 30:] = -9999
    values = read(write(tmp_path / "d.tif", db, nodata=None))
    assert np.isnan(values[:, 30:]).all()
    assert np.array_equal(values[:, :30], db[:, :30])


def test_files_are_closed_when_opening_fails(tmp_path, db, monkeypatch):
    """A refused acquisition leaves no open file."""
    from tocsin.raster import backscatter

    opened = []
    real = backscatter.open_raster
    monkeypatch.setattr(backscatter, "open_raster", lambda *args: opened.append(real(*args)) or opened[-1])
    with pytest.raises(TocsinError):
        read(f"{write(tmp_path / 'a_VV.tif', db[:1])};{write(tmp_path / 'b_VV.tif', db[:1])}")
    assert [raster._dataset.closed for raster in opened] == [True, True]


@pytest.mark.data
def test_real_scenes_are_judged_right(data, sen1floods11):
    """Every real dB chip opens as dB only, every OPERA pair as linear only; the chip without data opens as both."""
    chips = [*sorted((sen1floods11 / "S1Hand").glob("*.tif")), *sorted((data / "terramesh_sites/S1RTC").glob("*.tif"))]
    pairs = [f"{path};{str(path).replace('_VV', '_VH')}" for path in sorted((data / "opera_rtc").rglob("*_VV*.tif"))]
    assert len(chips) >= 10
    assert len(pairs) >= 10
    for spec, right in [*((path, "db") for path in chips), *((pair, "linear") for pair in pairs)]:
        open_backscatter(spec, right).close()
        if "Paraguay_34417" not in str(spec):
            with pytest.raises(WrongUnitsError):
                open_backscatter(spec, "linear" if right == "db" else "db")


@pytest.mark.parametrize(("name", "described"), [("scene_VH_cropped.tif", None), ("scene.tif", ("gamma0_vh",))])
def test_one_band_is_taken_where_it_may_be(tmp_path, power, name, described):
    """A lone polarisation keeps its place, the other is NaN; nobody gets it without asking."""
    path = write(tmp_path / name, power[1:], described)
    with open_backscatter(path, "linear", one_band=True) as scene:
        values = scene.read(scene.grid.window)
        assert scene.missing == ("VV",)
    assert np.isnan(values[0]).all()
    assert np.allclose(values[1], 10 * np.log10(power[1]), atol=1e-4)
    with pytest.raises(WrongBandsError):
        open_backscatter(path, "linear")


def test_a_lone_band_without_a_name_is_refused(tmp_path, db, power):
    """Which polarisation it is, is never guessed; and its unit is judged as that of two."""
    with pytest.raises(WrongBandsError):
        open_backscatter(write(tmp_path / "scene.tif", db[:1]), one_band=True)
    with pytest.raises(WrongUnitsError):
        open_backscatter(write(tmp_path / "scene_VV.tif", power[:1]), one_band=True)
