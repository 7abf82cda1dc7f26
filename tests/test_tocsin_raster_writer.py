"""Products as COGs: whole or not at all, the same bytes for the same rows, bounded memory."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from tocsin.errors import StorageFullError, UsageError
from tocsin.grid import Grid, Window
from tocsin.raster import RasterSpec, RasterWriter, open_raster

cog_validate = pytest.importorskip("rio_cogeo", reason="needs the extra dev").cog_validate

CLASSES = RasterSpec(
    dtype="uint8",
    nodata=255,
    overview="mode",
    colormap={0: (240, 240, 240, 255), 1: (10, 60, 200, 255), 255: (0, 0, 0, 0)},
    tags={"TOCSIN_MODEL": "flood", "TOCSIN_VERSION": "1.0.0"},
    description="class",
)
PROBABILITY = RasterSpec(dtype="uint16", nodata=65535, scale=1e-4, unit="1", overview="average", description="P(water)")
DENSITY = RasterSpec(dtype="float32", nodata=float("nan"), unit="km-2", overview="average")


def make_grid(height, width, epsg=32633):
    """Return a grid of 10 m pixels."""
    return Grid(CRS.from_epsg(epsg), Affine(10.0, 0.0, 5e5, 0.0, -10.0, 5e6), height, width)


def pixels(spec, height, width):
    """Smooth stored values with a hole of no data."""
    row, col = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    wave = 0.5 + 0.5 * np.sin(row / 40) * np.cos(col / 60)
    top = {"uint8": 1.99, "uint16": 10_000, "float32": 30}[spec.dtype]
    values = (wave * top).astype(spec.dtype)
    values[height // 4 : height // 2, : width // 3] = spec.nodata
    return values


def write(path, spec, values, step=100):
    """Write in strips and return the path."""
    with RasterWriter(path, make_grid(*values.shape), spec) as writer:
        for row in range(0, len(values), step):
            writer.write_rows(row, values[row : row + step])
        return writer.commit()


@pytest.mark.parametrize("spec", [CLASSES, PROBABILITY, DENSITY], ids=lambda spec: spec.dtype)
@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (512, 512), (1300, 1111)])
def test_every_product_is_a_valid_cog_with_its_pixels(tmp_path, spec, shape):
    """rio-cogeo finds nothing to complain about, and every stored value comes back."""
    values = pixels(spec, *shape)
    path = write(tmp_path / "a.tif", spec, values)
    assert cog_validate(path, strict=True, quiet=True) == (True, [], [])
    with rasterio.open(path) as file:
        assert np.array_equal(file.read(1), values, equal_nan=spec.dtype == "float32")
        assert file.nodata == spec.nodata or np.isnan(file.nodata)
        assert (file.scales[0], file.crs.to_epsg(), file.transform.a) == (spec.scale, 32633, 10.0)
        assert (file.descriptions[0] or "") == spec.description
        assert (file.units[0] or "") == spec.unit
    assert [found.name for found in tmp_path.iterdir()] == ["a.tif"]


def test_classes_carry_colours_and_tags(tmp_path):
    """A class raster shows itself in a GIS and says which model made it; no time is in the file."""
    path = write(tmp_path / "a.tif", CLASSES, pixels(CLASSES, 600, 700))
    with rasterio.open(path) as file:
        assert file.colormap(1)[1] == (10, 60, 200, 255)
        assert file.colorinterp[0].name == "palette"
        assert file.tags()["TOCSIN_MODEL"] == "flood"
        assert not any("TIME" in tag.upper() or "DATE" in tag.upper() for tag in file.tags())


@pytest.mark.parametrize("overview", ["nearest", "mode"])
def test_overviews_of_classes_hold_only_classes(tmp_path, overview):
    """No overview invents a class between two others."""
    values = np.where(np.indices((1500, 1500)).sum(0) % 3, 0, 3).astype(np.uint8)
    spec = RasterSpec(dtype="uint8", nodata=255, overview=overview)
    path = write(tmp_path / "a.tif", spec, values)
    with rasterio.open(path, OVERVIEW_LEVEL=0) as file:
        assert file.shape == (750, 750)
        assert set(np.unique(file.read(1))) <= {0, 3}


def test_overviews_of_probability_average_valid_pixels_only(tmp_path):
    """No data never leaks into the mean beside it, and stays no data where nothing is valid."""
    values = np.full((1400, 1400), 4000, np.uint16)
    values[::2, ::2] = 6000
    values[:, 701:] = 65535
    path = write(tmp_path / "a.tif", PROBABILITY, values)
    with rasterio.open(path, OVERVIEW_LEVEL=0) as file:
        small = file.read(1)
    assert set(np.unique(small[:, :350])) == {4500}
    assert set(np.unique(small[:, 350])) <= {4000, 5000}
    assert (small[:, 351:] == 65535).all()


def test_what_is_written_is_read_back_as_physical_values(tmp_path):
    """Scale and nodata make the round trip: an aside file of probability is a source of probability."""
    values = pixels(PROBABILITY, 300, 310)
    with open_raster(write(tmp_path / "a.tif", PROBABILITY, values)) as raster:
        read = raster.read(Window(0, 0, 300, 310))[0]
    assert np.array_equal(np.isnan(read), values == 65535)
    assert np.nanmax(np.abs(read - values * 1e-4)[values != 65535]) < 1e-7


@pytest.mark.parametrize("spec", [CLASSES, PROBABILITY], ids=lambda spec: spec.dtype)
def test_the_same_pixels_give_the_same_bytes(tmp_path, spec):
    """Neither the time nor the height of the strips leaves a trace."""
    values = pixels(spec, 900, 1000)
    paths = [write(tmp_path / f"{step}.tif", spec, values, step) for step in (1, 37, 512, 900)]
    assert len({path.read_bytes() for path in paths}) == 1


def test_nothing_has_the_final_name_before_commit(tmp_path):
    """Rows and the finished COG wait under names that match no product; commit replaces what was there."""
    path = tmp_path / "a_class.tif"
    path.write_text("old")
    writer = RasterWriter(path, make_grid(20, 30), CLASSES)
    writer.write_rows(0, pixels(CLASSES, 20, 30))
    writer.finish()
    writer.finish()
    assert path.read_text() == "old"
    assert all(name.startswith(".tocsin-") and name.endswith(".part") for name in names(tmp_path) - {"a_class.tif"})
    assert writer.commit() == path
    assert writer.commit() == path
    writer.discard()
    assert names(tmp_path) == {"a_class.tif"}
    open_raster(path).close()


def names(folder):
    """Names in a folder."""
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("rows", [0, 10, 20])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, ValueError])
def test_an_interruption_leaves_nothing(tmp_path, rows, kind):
    """Leaving the block by an exception removes the working files, wherever it happens."""

    def interrupted():
        with RasterWriter(tmp_path / "a.tif", make_grid(20, 30), CLASSES) as writer:
            writer.write_rows(0, pixels(CLASSES, 20, 30)[:rows])
            if rows == 20:
                writer.finish()
            raise kind

    with pytest.raises(kind):
        interrupted()
    assert names(tmp_path) == set()


def test_rows_must_follow_one_another(tmp_path):
    """A gap, a wrong width, a wrong type and a missing row are programming errors."""
    values = pixels(CLASSES, 20, 30)
    with RasterWriter(tmp_path / "a.tif", make_grid(20, 30), CLASSES) as writer:
        for row, bad in [(5, values), (0, values[:, :9]), (0, values.astype(np.uint16)), (0, values[0])]:
            with pytest.raises(AssertionError):
                writer.write_rows(row, bad)
        writer.write_rows(0, values[:10])
        with pytest.raises(AssertionError, match="10 of 20 rows"):
            writer.commit()


def test_a_folder_that_is_not_there_is_a_usage_error(tmp_path):
    """Products go into a folder that exists."""
    with pytest.raises(UsageError, match="no folder"):
        RasterWriter(tmp_path / "no" / "a.tif", make_grid(20, 30), CLASSES)


def test_a_disk_that_is_too_small_is_refused_before_any_work(tmp_path, monkeypatch):
    """The rows' size is compared with the free space at once."""
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 599))
    with pytest.raises(StorageFullError, match="599 bytes free, 600 needed"):
        RasterWriter(tmp_path / "a.tif", make_grid(20, 30), CLASSES)
    assert names(tmp_path) == set()


FILLING = """
    import resource, sys
    import numpy as np
    from affine import Affine
    from rasterio.crs import CRS
    from tocsin.errors import TocsinError
    from tocsin.grid import Grid
    from tocsin.raster import RasterSpec, RasterWriter

    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
    grid = Grid(CRS.from_epsg(32633), Affine(10.0, 0.0, 5e5, 0.0, -10.0, 5e6), 1000, 1000)
    noise = np.random.default_rng(0).integers(0, 65000, (1000, 1000)).astype("u2")
    try:
        with RasterWriter(sys.argv[1], grid, RasterSpec(dtype="uint16", nodata=65535, overview="average")) as writer:
            for row in range(0, 1000, 100):
                writer.write_rows(row, noise[row : row + 100])
            writer.commit()
        print("written")
    except TocsinError as error:
        print(error.code)
"""


@pytest.mark.parametrize("limit", [0, 4096, 1_000_000, 1_999_000, 2_100_000])
def test_a_disk_that_fills_up_is_storage_full(tmp_path, root, limit):
    """Wherever writing stops, for rows or for the COG, the code is storage_full and nothing is left."""
    code = textwrap.dedent(FILLING)
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.tif"), str(limit)],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        timeout=60,
    )
    assert run.stdout.split() == ["storage_full"], run.stderr
    assert names(tmp_path) == set()


MEASURING = """
    import sys
    from pathlib import Path
    import numpy as np
    from affine import Affine
    from rasterio.crs import CRS
    from tocsin.grid import Grid
    from tocsin.raster import RasterSpec, RasterWriter

    height, width = int(sys.argv[2]), 8192
    grid = Grid(CRS.from_epsg(32633), Affine(10.0, 0.0, 5e5, 0.0, -10.0, 5e6), height, width)
    rows = np.sort(np.random.default_rng(0).integers(0, 10_000, (256, width)).astype("u2"), axis=1)
    with RasterWriter(sys.argv[1], grid, RasterSpec(dtype="uint16", nodata=65535, overview="average")) as writer:
        for row in range(0, height, 256):
            writer.write_rows(row, rows)
        writer.commit()
    # ru_maxrss would count the parent's memory from before exec.
    print(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_height(tmp_path, root):
    """Four times the rows (192 MB more pixels) cost far less than their size."""

    def peak_mb(height):
        code = textwrap.dedent(MEASURING)
        run = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "a.tif"), str(height)],
            capture_output=True,
            text=True,
            check=True,
            cwd=root,
            timeout=120,
        )
        return int(run.stdout.split()[1]) / 1024

    low, high = peak_mb(4096), peak_mb(16_384)
    # 64 MB of pixels against 256 MB: what grows is GDAL's cache until it is full, and a level of overviews.
    assert high - low < 64
    assert high < 320
