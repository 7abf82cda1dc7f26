"""Hostile files: the right code, at once, without a large allocation."""

import struct
import time
import tracemalloc

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning

from tocsin.errors import TocsinError
from tocsin.raster import Limits, open_raster

AT = Affine(10.0, 0.0, 5e5, 0.0, -10.0, 5e6)


def profile(**changes):
    """Profile of a small two-band UTM raster."""
    base = {"driver": "GTiff", "count": 2, "height": 300, "width": 400, "dtype": "float32"}
    return {**base, "crs": "EPSG:32633", "transform": AT, **changes}


@pytest.fixture
def make(tmp_path):
    """Return a function that writes a raster of noise and returns its path."""

    def write(name="a.tif", **changes):
        facts = profile(**changes)
        values = np.random.default_rng(1).normal(-12, 3, (facts["count"], facts["height"], facts["width"]))
        with rasterio.open(tmp_path / name, "w", **facts) as file:
            file.write(values.astype(facts["dtype"]))
        return tmp_path / name

    return write


def sparse(path, height, width, **changes):
    """Write a header of any size with no pixels behind it."""
    facts = profile(height=height, width=width, tiled=True, SPARSE_OK="TRUE", BIGTIFF="YES", **changes)
    rasterio.open(path, "w", **facts).close()
    return path


def code_of(href, **limits):
    """Code of the error that opening and reading everything gives, which must come at once and stay small."""
    tracemalloc.start()
    started = time.perf_counter()
    with pytest.raises(TocsinError) as caught, open_raster(href, Limits(**limits)) as raster:
        raster.read(raster.grid.window)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.perf_counter() - started < 30
    assert peak < 32 * 2**20
    assert all((caught.value.given, caught.value.expected, caught.value.todo))
    return caught.value.code


def tiny_tiff(*fields, order="<"):
    """Return a TIFF of one directory made by hand: fields are (tag, type, count, value)."""
    body = b"".join(struct.pack(order + "HHII", *field) for field in sorted(fields))
    head = b"II*\x00" if order == "<" else b"MM\x00*"
    return head + struct.pack(order + "IH", 8, len(fields)) + body + struct.pack(order + "I", 0)


def test_huge_header_with_a_tiny_body_is_too_large(tmp_path):
    """100,000 x 100,000 pixels are refused by the header alone."""
    path = sparse(tmp_path / "huge.tif", 100_000, 100_000, count=1, dtype="uint8", blockxsize=4096, blockysize=4096)
    assert code_of(path) == "too_large"


@pytest.mark.parametrize("order", ["<", ">"])
def test_handmade_huge_header_is_too_large(tmp_path, order):
    """The limit is checked before strips are looked for, in both byte orders."""
    path = tmp_path / "huge.tif"
    path.write_bytes(tiny_tiff((256, 4, 1, 100_000), (257, 4, 1, 100_000), (273, 4, 1, 8), (279, 4, 1, 8), order=order))
    assert code_of(path) == "too_large"


def test_limits_can_be_set(make):
    """Pixels, width and bands are limited by the caller's numbers."""
    path = make()
    for limits in ({"max_pixels": 119_999}, {"max_width": 399}, {"max_bands": 1}):
        assert code_of(path, **limits) == "too_large"
    open_raster(path, Limits(max_pixels=120_000, max_width=400, max_bands=2)).close()


def test_one_huge_block_is_too_large(tmp_path):
    """A block that GDAL would have to hold whole is refused, even in a file within the pixel limit."""
    path = sparse(tmp_path / "a.tif", 16_384, 16_384, blockxsize=16_384, blockysize=16_384, interleave="pixel")
    assert code_of(path) == "too_large"


def test_header_under_the_limit_without_its_strips_is_truncated(tmp_path):
    """Strips listed outside the file are found without reading them."""
    path = tmp_path / "a.tif"
    fields = [(256, 4, 1, 20_000), (257, 4, 1, 20_000), (258, 3, 1, 8), (278, 4, 1, 20_000)]
    path.write_bytes(tiny_tiff(*fields, (273, 4, 1, 8), (279, 4, 1, 400_000_000)))
    assert code_of(path) == "truncated"


def test_header_with_too_few_strips_is_truncated(tmp_path):
    """A list of one strip where 20,000 are needed is no whole file."""
    path = tmp_path / "a.tif"
    fields = [(256, 4, 1, 100), (257, 4, 1, 20_000), (258, 3, 1, 8), (278, 4, 1, 1)]
    path.write_bytes(tiny_tiff(*fields, (273, 4, 1, 8), (279, 4, 1, 4)))
    assert code_of(path) == "truncated"


@pytest.mark.parametrize("layout", [{}, {"tiled": True, "blockxsize": 128, "blockysize": 128}, {"compress": "deflate"}])
@pytest.mark.parametrize("bigtiff", ["YES", "NO"])
@pytest.mark.parametrize("share", [0.0005, 0.3, 0.9, 0.999])
def test_cut_file_is_truncated_wherever_it_is_cut(make, layout, bigtiff, share):
    """A download that stopped is refused at opening, whatever the layout."""
    path = make(BIGTIFF=bigtiff, **layout)
    body = path.read_bytes()
    path.write_bytes(body[: max(5, int(len(body) * share))])
    assert code_of(path) == "truncated"


def test_damaged_compressed_body_is_truncated(make):
    """Bytes that do not decompress are reported as damage at reading, not as a traceback."""
    path = make(compress="deflate")
    body = bytearray(path.read_bytes())
    middle = len(body) // 2
    body[middle : middle + 4000] = bytes(4000)
    path.write_bytes(body)
    assert code_of(path) == "truncated"


def test_empty_file_is_truncated(tmp_path):
    """Nothing downloaded is a truncated file."""
    (tmp_path / "a.tif").touch()
    assert code_of(tmp_path / "a.tif") == "truncated"


@pytest.mark.parametrize(
    "content", [b"hello\n", b"\x89PNG\r\n\x1a\n", b"<!DOCTYPE html><html>", b'{"type": "x"}', b"II"]
)
def test_other_files_are_no_rasters(tmp_path, content):
    """Text, pictures and error pages are named for what they are not."""
    (tmp_path / "a.tif").write_bytes(content)
    assert code_of(tmp_path / "a.tif") == "not_a_raster"


@pytest.mark.parametrize("suffix", ["vrt", "tif", "xml", "hgt"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_vrt_is_no_raster_under_any_name(make, tmp_path, suffix, encoding):
    """A VRT over a good file is refused because of what it could open, whatever it is called."""
    good = make()
    text = f'<VRTDataset rasterXSize="9" rasterYSize="9"><SourceFilename>{good}</SourceFilename></VRTDataset>'
    path = tmp_path / f"b.{suffix}"
    path.write_text("\n " + text if encoding == "utf-8" else text, encoding=encoding)
    assert code_of(path) == "not_a_raster"


@pytest.mark.parametrize(
    "href",
    [
        "https://example.org/a.tif",
        "s3://bucket/a.tif",
        "/vsicurl/https://example.org/a.tif",
        "/vsizip//tmp/a.zip/a.tif",
        "vrt:///tmp/a.tif?bands=1",
        "NETCDF:a.nc:band",
        "GTIFF_DIR:1:a.tif",
        "WMS:http://example.org",
        "<GDAL_WMS/>",
        '{"type": "stac"}',
    ],
)
def test_references_are_forbidden(href):
    """URLs, virtual paths and inline documents are refused before anything is opened."""
    assert code_of(href) == "forbidden_reference"


def test_metadata_of_a_tiff_cannot_open_files(make, tmp_path):
    """Tags that name other files stay text."""
    path = make()
    with rasterio.open(path, "r+") as file:
        file.update_tags(ns="GEOLOCATION", X_DATASET="/vsicurl/https://example.org/x.tif")
        file.update_tags(SOURCE="/vsicurl/https://example.org/x.tif")
    with open_raster(path) as raster:
        assert np.isfinite(raster.read(raster.grid.window)).all()


@pytest.mark.parametrize("href", ["nothing.tif", "", "a\0b.tif", "/dev/zero", "x" * 5000])
def test_no_file_is_a_usage_error(href):
    """A path that leads nowhere, or to a device, is the caller's mistake."""
    assert code_of(href) == "usage"


def test_folder_is_a_usage_error(tmp_path):
    """A folder is no raster file."""
    assert code_of(tmp_path) == "usage"


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("changes", [{"crs": None, "transform": None}, {"crs": None}, {"transform": None}])
def test_no_georeference(make, changes):
    """CRS and geotransform are both needed."""
    assert code_of(make(**changes)) == "no_georeference"


def test_ground_control_points_are_no_georeference(make):
    """An uncorrected radar image has points only: it must be terrain-corrected first."""
    with pytest.warns(NotGeoreferencedWarning):
        path = make(crs=None, transform=None)
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(path, "r+") as file:
        file.gcps = ([GroundControlPoint(0, 0, 10, 50), GroundControlPoint(9, 9, 11, 49)], "EPSG:4326")
    with pytest.raises(TocsinError, match="control points") as caught:
        open_raster(path)
    assert caught.value.code == "no_georeference"


def test_metres_called_degrees_are_no_georeference(make):
    """UTM coordinates under a geographic CRS lie nowhere on Earth."""
    assert code_of(make(crs="EPSG:4326")) == "no_georeference"


@pytest.mark.parametrize(
    "at", [Affine(10, 1, 5e5, 1, -10, 5e6), Affine(10, 0, 5e5, 0, 10, 5e6), Affine(-10, 0, 5e5, 0, -10, 5e6)]
)
def test_rotated_and_south_up_grids_are_refused(make, at):
    """A grid that is not north-up is refused with the way to make it so."""
    assert code_of(make(transform=at)) == "grid_mismatch"


def test_complex_values_are_wrong_units(tmp_path):
    """A single-look complex image is not backscatter yet."""
    with rasterio.open(tmp_path / "a.tif", "w", **profile(count=1, dtype="complex64")) as file:
        file.write(np.ones((1, 300, 400), np.complex64))
    assert code_of(tmp_path / "a.tif") == "wrong_units"


def test_endless_chain_of_directories_is_refused(make):
    """A directory that names itself as the next one does not hang the reader."""
    path = make(BIGTIFF="NO")
    body = bytearray(path.read_bytes())
    first = struct.unpack_from("<I", body, 4)[0]
    count = struct.unpack_from("<H", body, first)[0]
    struct.pack_into("<I", body, first + 2 + 12 * count, first)
    path.write_bytes(body)
    assert code_of(path) == "not_a_raster"


def test_any_flipped_header_byte_gives_a_clear_answer(make):
    """A fuzzed header either opens and reads or gives one of our errors, never another exception."""
    path = make(BIGTIFF="NO", height=20, width=30)
    body = path.read_bytes()
    rng = np.random.default_rng(5)
    answers = set()
    for _ in range(150):
        damaged = bytearray(body)
        damaged[int(rng.integers(0, 400))] = int(rng.integers(0, 256))
        path.write_bytes(damaged)
        try:
            with open_raster(path, Limits(max_pixels=10_000, max_block_bytes=2**20)) as raster:
                raster.read(raster.grid.window)
            answers.add("read")
        except TocsinError as error:
            answers.add(error.exit_code)
    assert answers == {"read", 3}


def test_srtm_tile_is_read_and_a_cut_one_refused(tmp_path):
    """A .hgt tile is placed by its name; its size tells whether it is whole."""
    heights = np.full((1201, 1201), 7, ">i2")
    heights[0, 0] = -32768
    path = tmp_path / "N40E010.hgt"
    path.write_bytes(heights.tobytes())
    with open_raster(path) as raster:
        read = raster.read(raster.grid.window)
        assert np.isnan(read[0, 0, 0])
        assert np.nansum(read) == 7 * (1201 * 1201 - 1)
    path.write_bytes(heights.tobytes()[:-100])
    assert code_of(path) == "truncated"
