"""One rule of validity: nodata, mask band, alpha, NaN and infinity become NaN, and nothing else does."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp

from tocsin.grid import Window
from tocsin.raster import open_raster
from tocsin.raster.validity import is_nodata, to_physical

AT = Affine(10.0, 0.0, 5e5, 0.0, -10.0, 5e6)


def write(path, array, **profile):
    """Write [band, row, col] as a small UTM GeoTIFF and return its path."""
    colorinterp, mask = profile.pop("colorinterp", None), profile.pop("mask", None)
    scale = profile.pop("scale", None)
    count, height, width = array.shape
    profile = {"crs": "EPSG:32633", "transform": AT, "dtype": array.dtype, **profile}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"),
        rasterio.open(path, "w", driver="GTiff", count=count, height=height, width=width, **profile) as file,
    ):
        if colorinterp:
            file.colorinterp = colorinterp
        file.write(array)
        if mask is not None:
            file.write_mask(mask)
        if scale:
            file.scales, file.offsets = (scale[0],) * count, (scale[1],) * count
    return path


@pytest.fixture
def values():
    """dB-like values [2, 20, 30]."""
    return np.random.default_rng(1).normal(-12, 3, (2, 20, 30)).astype(np.float32)


@pytest.fixture
def hole():
    """Pixels without data, [20, 30]."""
    hole = np.zeros((20, 30), dtype=bool)
    hole[3:9, 5:17] = True
    return hole


@pytest.mark.parametrize("nodata", [np.nan, -9999.0, 0.0, -3.4028234663852886e38, 9999.9])
def test_nodata_value_becomes_nan_and_values_stay(tmp_path, values, hole, nodata):
    """Every usual nodata value is recognised, and no valid pixel changes."""
    stored = np.where(hole, np.float32(nodata), values)
    with open_raster(write(tmp_path / "a.tif", stored, nodata=nodata)) as raster:
        read = raster.read(raster.grid.window)
    assert np.isnan(read[:, hole]).all()
    assert np.array_equal(read[:, ~hole], values[:, ~hole])


def test_without_a_nodata_value_every_finite_value_counts(tmp_path, values):
    """0 and -9999 are values where the file does not declare them; NaN and infinity never are."""
    values[0, 0, :4] = [0, -9999, np.inf, -np.inf]
    values[1, 0, 0] = np.nan
    with open_raster(write(tmp_path / "a.tif", values)) as raster:
        read = raster.read(raster.grid.window)
    assert read[0, 0, :2].tolist() == [0, -9999]
    assert np.isnan(read).sum() == 3


def test_declared_zero_is_no_data_in_integers_too(tmp_path):
    """A declared 0 wins over 0 as a value: the file says so."""
    stored = np.arange(-3, 3, dtype=np.int16).reshape(1, 2, 3)
    with open_raster(write(tmp_path / "a.tif", stored, nodata=0)) as raster:
        assert np.isnan(raster.read(raster.grid.window)).sum() == 1


@pytest.mark.parametrize("fill", [0.0, -9999.0, 77.0])
def test_alpha_hides_pixels_and_is_no_band(tmp_path, values, hole, fill):
    """Where alpha is 0 all bands are NaN, whatever is stored; alpha is not counted as a band."""
    alpha = np.where(hole, 0, 255).astype(np.float32)[None]
    stored = np.concatenate([np.where(hole, np.float32(fill), values), alpha])
    kinds = (ColorInterp.gray, ColorInterp.undefined, ColorInterp.alpha)
    with open_raster(write(tmp_path / "a.tif", stored, colorinterp=kinds)) as raster:
        assert raster.count == 2
        read = raster.read(raster.grid.window)
    assert np.array_equal(np.isnan(read), np.broadcast_to(hole, read.shape))


def test_a_band_described_as_alpha_is_alpha(tmp_path, values, hole):
    """GDAL loses the colour of a float band that is set late; its description still says what it is."""
    stored = np.concatenate([values, ~hole[None]]).astype(np.float32)
    path = write(tmp_path / "a.tif", stored)
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("VV", "VH", "Alpha")
    with open_raster(path) as raster:
        assert (raster.count, raster.descriptions) == (2, ("VV", "VH"))
        assert np.array_equal(np.isnan(raster.read(raster.grid.window)[1]), hole)


def test_alpha_and_nodata_add_up(tmp_path, values, hole):
    """GDAL's own mask forgets alpha beside a nodata value; here both count."""
    alpha = np.where(hole, 0, 255).astype(np.float32)[None]
    values[:, 15] = -9999
    stored = np.concatenate([values, alpha])
    kinds = (ColorInterp.gray, ColorInterp.undefined, ColorInterp.alpha)
    with open_raster(write(tmp_path / "a.tif", stored, colorinterp=kinds, nodata=-9999)) as raster:
        read = raster.read(raster.grid.window)
    hole[15] = True
    assert np.array_equal(np.isnan(read[0]), hole)


def test_internal_mask_hides_pixels(tmp_path, values, hole):
    """A mask band inside the file counts, beside a nodata value too."""
    values[:, 15] = -9999
    path = write(tmp_path / "a.tif", values, mask=~hole, nodata=-9999)
    assert [file.name for file in tmp_path.iterdir()] == ["a.tif"]
    with open_raster(path) as raster:
        read = raster.read(raster.grid.window)
    hole[15] = True
    assert np.array_equal(np.isnan(read[1]), hole)


def test_one_band_may_be_invalid_alone(tmp_path, values, hole):
    """Validity is per band: VV may be seen where VH is not."""
    values[1, hole] = np.nan
    with open_raster(write(tmp_path / "a.tif", values, nodata=np.nan)) as raster:
        read = raster.read(raster.grid.window)
    assert not np.isnan(read[0]).any()
    assert np.array_equal(np.isnan(read[1]), hole)


def test_side_files_change_nothing(tmp_path, values, hole):
    """An .aux.xml with a nodata value and an external mask beside the file are not read."""
    path = write(tmp_path / "a.tif", values)
    with open_raster(path) as raster:
        before = raster.read(raster.grid.window)
    pam = '<PAMDataset><PAMRasterBand band="1"><NoDataValue>{}</NoDataValue></PAMRasterBand></PAMDataset>'
    (tmp_path / "a.tif.aux.xml").write_text(pam.format(float(values[0, 0, 0])))
    write(tmp_path / "a.tif.msk", np.where(hole, 0, 255).astype(np.uint8)[None])
    with open_raster(path) as raster:
        assert np.array_equal(raster.read(raster.grid.window), before)


@pytest.mark.parametrize(
    "window", [Window(-3, -4, 40, 50), Window(18, 28, 5, 5), Window(2, 3, 4, 5), Window(50, 0, 2, 2)]
)
def test_windows_equal_the_whole_and_nan_outside(tmp_path, values, window):
    """Any window shows the file's pixels in place and NaN outside."""
    whole = np.full((2, 200, 200), np.nan, np.float32)
    whole[:, 100:120, 100:130] = values
    with open_raster(write(tmp_path / "a.tif", values, tiled=True, blockxsize=16, blockysize=16)) as raster:
        read = raster.read(window)
    row, col = window.row + 100, window.col + 100
    assert np.array_equal(read, whole[:, row : row + window.height, col : col + window.width], equal_nan=True)
    assert read.dtype == np.float32


def test_bands_can_be_chosen_in_any_order(tmp_path, values):
    """Bands are counted from 0."""
    with open_raster(write(tmp_path / "a.tif", values)) as raster:
        assert np.array_equal(raster.read(raster.grid.window, (1, 0)), values[::-1])


def test_scale_and_offset_of_the_file_are_applied(tmp_path):
    """Stored integers become physical values; nodata is compared before scaling."""
    stored = np.array([[[0, 100, 65535]]], dtype=np.uint16)
    with open_raster(write(tmp_path / "a.tif", stored, nodata=65535, scale=(0.01, -2.0))) as raster:
        read = raster.read(raster.grid.window)[0, 0]
    assert read[:2].tolist() == pytest.approx([-2.0, -1.0])
    assert np.isnan(read[2])


def test_doubles_beyond_float32_are_invalid():
    """A double that overflows float32 is no measurement."""
    assert np.isnan(to_physical(np.array([[1e300]]), None, 1.0, 0.0)).all()


@pytest.mark.parametrize("nodata", [-9999.0, 0.5, 1e20])
def test_nodata_that_a_type_cannot_hold_matches_nothing(nodata):
    """A nodata value of -9999 in a byte raster hides no pixel."""
    assert not is_nodata(np.arange(256, dtype=np.uint8), nodata).any()


def test_sha256_is_of_the_bytes(tmp_path, values):
    """The hash in provenance is the file's own."""
    import hashlib

    path = write(tmp_path / "a.tif", values)
    with open_raster(path) as raster:
        assert raster.sha256() == hashlib.sha256(path.read_bytes()).hexdigest()
        assert (raster.href, raster.path) == (str(path), path)


def test_threads_read_the_same(tmp_path, values):
    """One raster may be read from several threads at once."""
    from concurrent.futures import ThreadPoolExecutor

    big = np.tile(values, (1, 20, 20))
    with open_raster(write(tmp_path / "a.tif", big, compress="deflate")) as raster, ThreadPoolExecutor(4) as pool:
        windows = [Window(row, 0, 50, 600) for row in range(0, 400, 50)] * 3
        for window, read in zip(windows, pool.map(raster.read, windows), strict=True):
            assert np.array_equal(read, big[:, window.row : window.row_stop])


def test_reading_after_closing_says_so(tmp_path, values):
    """A closed raster refuses to read, and closing twice is harmless."""
    raster = open_raster(write(tmp_path / "a.tif", values))
    raster.close()
    raster.close()
    with pytest.raises(ValueError, match="already closed"):
        raster.read(Window(0, 0, 1, 1))
