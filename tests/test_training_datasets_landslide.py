"""Readers of landslide data: OPERA series, point inventories, Sen12Landslides patches."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from tocsin.errors import (
    GridMismatchError,
    NoGeoreferenceError,
    NotARasterError,
    UsageError,
    WrongDatesError,
    WrongUnitsError,
)
from tocsin.grid import Grid
from tocsin.hazards.landslide import CELL_KM2, cell_grid, class_of_density
from training.datasets.inventory import InventoryOptions, count_per_cell, read_inventory
from training.datasets.opera_rtc import OperaRtc

BURST = "T009-019294-IW2"
PLACE = Affine(30.0, 0.0, 5e5, 0.0, -30.0, 4.4e6)
UTM = CRS.from_epsg(32630)
GRID = Grid(UTM, Affine(10.0, 0.0, 5e5, 0.0, -10.0, 4.4e6), 128, 192)


def burst_name(day, polarisation, *, processed="20250101T000000", variant="", burst=BURST):
    """Name of a file of the product."""
    return f"OPERA_L2_RTC-S1_{burst}_{day}T084748Z_{processed}Z_S1A_30_v1.0_{polarisation}{variant}.tif"


@pytest.fixture
def bursts(tmp_path, write_raster):
    """Return a function that writes one file of constant linear power under a name of the product."""

    def make(day, polarisation, power=0.1, *, folder="", shape=(12, 14), **named):
        path = tmp_path / "bursts" / folder / burst_name(day, polarisation, **named)
        write_raster(path, np.full((1, *shape), power, np.float32), transform=PLACE)
        return tmp_path / "bursts"

    return make


def test_bursts_are_read_by_name_and_in_order_of_time(bursts):
    """Acquisitions come in the order of time whatever their folder, in dB, VV before VH."""
    for day, power in (("20240204", 0.01), ("20240123", 0.1)):
        bursts(day, "VH", power / 10, folder=day)
        folder = bursts(day, "VV", power, folder=day)
    series = OperaRtc(folder).one(BURST)
    assert [each.acquired for each in series.acquisitions] == [
        datetime(2024, 1, 23, 8, 47, 48, tzinfo=UTC),
        datetime(2024, 2, 4, 8, 47, 48, tzinfo=UTC),
    ]
    values = series.read()
    assert (values.shape, values.dtype) == ((2, 2, 12, 14), np.float32)
    np.testing.assert_allclose(values[:, :, 0, 0], [[-10, -20], [-20, -30]], rtol=1e-5)
    assert series.grid().transform == PLACE
    assert series.acquisitions[0].href.count(";") == 1


def test_a_missing_polarisation_is_nan(bursts):
    """A date with VH alone is kept, VV is NaN: nothing is made up for it."""
    bursts("20240123", "VH")
    bursts("20240204", "VV")
    values = OperaRtc(bursts("20240204", "VH")).one(BURST).read()
    assert np.isnan(values[0, 0]).all()
    assert np.isfinite(values[0, 1]).all()
    assert np.isfinite(values[1]).all()


def test_series_do_not_mix_bursts_or_variants(bursts):
    """Each burst and each variant is a series; another one is asked for in vain."""
    bursts("20240123", "VV")
    bursts("20240123", "VV", variant="_tv_cropped")
    data = OperaRtc(bursts("20240123", "VV", burst="T009-019295-IW2"))
    assert [(series.burst, series.variant) for series in data.series] == [
        ("T009-019294-IW2", ""),
        ("T009-019294-IW2", "tv_cropped"),
        ("T009-019295-IW2", ""),
    ]
    with pytest.raises(UsageError, match="tv_cropped"):
        data.one(BURST, "despeckled")


@pytest.mark.parametrize("order", [(1, 0), (0, 1)])
def test_the_later_processing_counts(bursts, order):
    """Of an acquisition that was processed twice the later one is read."""
    runs = (("20250101T000000", 0.1), ("20250301T000000", 0.01))
    for index in order:
        processed, power = runs[index]
        folder = bursts("20240123", "VV", power, processed=processed, folder=str(index))
    series = OperaRtc(folder).one(BURST)
    assert len(series.acquisitions) == 1
    np.testing.assert_allclose(series.read()[0, 0], -20, rtol=1e-5)


def test_moments_of_a_series(bursts):
    """Runs take the closest acquisitions on both sides; combinations all choices, none before one that follows it."""
    for day in range(10, 16):
        folder = bursts(f"202401{day}", "VV")
    series = OperaRtc(folder).one(BURST)
    assert list(series.runs()) == [((0, 1, 2), (3, 4, 5))]
    assert list(series.runs(2, 1)) == [((0, 1), (2,)), ((1, 2), (3,)), ((2, 3), (4,)), ((3, 4), (5,))]
    chosen = list(series.combinations(2, 2))
    assert len(chosen) == len(set(chosen)) == 15
    assert all(max(before) < min(after) for before, after in chosen)


def test_bursts_that_are_none_are_refused(bursts, tmp_path):
    """A folder without bursts, another grid within a series, dB and impossible times raise."""
    with pytest.raises(UsageError, match="holds no burst"):
        OperaRtc(tmp_path)
    bursts("20240123", "VV")
    with pytest.raises(GridMismatchError, match="20240204"):
        OperaRtc(bursts("20240204", "VV", shape=(12, 13))).one(BURST).read()
    folder = bursts("20240101", "VV", -10.0, burst="T001-000001-IW1", shape=(40, 40))
    with pytest.raises(WrongUnitsError, match="20240101"):
        OperaRtc(folder).one("T001-000001-IW1").read()
    with pytest.raises(WrongDatesError, match="20241399"):
        OperaRtc(bursts("20241399", "VV"))


@pytest.mark.data
def test_real_bursts(data):
    """Both sites are complete: four bursts of 21 dates, and ten dates of which the raw files lack VV."""
    stable = OperaRtc(data / "opera_rtc" / "stable_california")
    assert [(series.burst[5:], len(series.acquisitions)) for series in stable.series] == [
        ("292319-IW2", 21),
        ("292320-IW2", 21),
        ("292321-IW2", 21),
        ("292325-IW1", 21),
    ]
    values = stable.series[0].read()
    assert values.shape == (21, 2, 100, 100)
    assert np.isfinite(values).mean() > 0.99
    assert np.nanmedian(values[:, 0]) - np.nanmedian(values[:, 1]) > 3
    assert len(list(stable.series[0].runs())) == 16
    raw, despeckled = OperaRtc(data / "opera_rtc" / "png_2024_pre").series
    assert (raw.variant, despeckled.variant) == ("cropped", "tv_cropped")
    assert len(raw.acquisitions) == len(despeckled.acquisitions) == 10
    assert (raw.grid().shape, despeckled.grid().shape) == ((250, 350), (100, 150))
    only_vh = raw.read()
    assert np.isnan(only_vh[:, 0]).all()
    assert np.isfinite(only_vh[:, 1]).mean() == pytest.approx(0.347, abs=1e-3)
    assert np.isfinite(despeckled.read()).mean() > 0.9


def table(path, rows, header="x,y"):
    """Write a CSV file."""
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def features(path, points, crs=None, kind="Point"):
    """Write a GeoJSON file, with the CRS member of its old edition when asked."""
    shapes = [
        {
            "type": "Feature",
            "properties": {"slide": index % 2},
            "geometry": None if place is None else {"type": kind, "coordinates": place},
        }
        for index, place in enumerate(points)
    ]
    named = {} if crs is None else {"crs": {"type": "name", "properties": {"name": crs}}}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": shapes, **named}))
    return path


def test_points_become_counts_and_density(tmp_path):
    """Each cell counts what lies from its left and upper edge on; density is per true area, and feeds the classes."""
    left, top = 5e5, 4.4e6
    heads = [(left + 1 + index, top - 1 - index) for index in range(11)]
    heads += [(left + 640, top - 1), (left + 1000, top - 640), (left + 1920, top - 1), (left - 1, top - 1)]
    inventory = read_inventory(table(tmp_path / "heads.csv", heads), InventoryOptions(crs="EPSG:32630"))
    found = count_per_cell(inventory, cell_grid(GRID))
    assert found.count.tolist() == [[11, 1, 0], [0, 1, 0]]
    assert (found.inside, found.outside) == (13, 2)
    np.testing.assert_allclose(found.density_per_km2, found.count / CELL_KM2, rtol=2e-3)
    assert class_of_density(found.density_per_km2).tolist() == [[2, 1, 0], [0, 1, 0]]


def test_the_same_place_is_one_landslide(tmp_path):
    """Places that are listed again are left out and counted; those a metre apart are two."""
    rows = [(5e5 + 10, 4.4e6 - 10), (5e5 + 10, 4.4e6 - 10), (5e5 + 10.01, 4.4e6 - 10), (5e5 + 11, 4.4e6 - 10)]
    inventory = read_inventory(table(tmp_path / "heads.csv", rows), InventoryOptions(crs="EPSG:32630"))
    assert (len(inventory.x), inventory.duplicates, inventory.invalid) == (2, 2, 0)
    assert inventory.x.tolist() == [5e5 + 10, 5e5 + 11]


@pytest.mark.parametrize("header", ["lon,lat", "Longitude,Latitude", "id,LNG, lat "])
def test_longitude_and_latitude_are_found_by_name(tmp_path, header):
    """Columns named so are WGS 84 and are brought onto a grid in another CRS; rows without numbers are counted."""
    rows = [(-3 + 0.001, 39.74), (-3 + 0.002, 39.74), ("", 39.74), ("x", "y")]
    if header.startswith("id"):
        rows = [(7, *row) for row in rows]
    inventory = read_inventory(table(tmp_path / "heads.csv", rows, header))
    assert (len(inventory.x), inventory.invalid) == (2, 2)
    assert inventory.crs == CRS.from_epsg(4326)
    found = count_per_cell(inventory, Grid(UTM, Affine(640.0, 0, 5e5, 0, -640.0, 4.4e6), 3, 3))
    assert (found.inside, found.count.sum()) == (2, 2)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_files_without_landslides_are_inventories_too(tmp_path, delimiter):
    """A header without rows is a place where nobody found any; semicolons and tabs part columns as well."""
    path = tmp_path / "none.csv"
    path.write_text(delimiter.join(("lon", "lat")) + "\n")
    found = count_per_cell(read_inventory(path), cell_grid(GRID))
    assert (found.count.sum(), found.inside, found.outside) == (0, 0, 0)
    path.write_text(f"lon{delimiter}lat\n-3{delimiter}39.7\n")
    assert read_inventory(path).x.tolist() == [-3]


def test_rows_are_chosen_by_a_column(tmp_path):
    """Of places with and without landslides only those asked for count, in named columns."""
    path = table(tmp_path / "points.csv", [(1, 2, 1), (3, 4, 0), (5, 6, 1)], "east,north,slide")
    options = InventoryOptions(crs="EPSG:32717", columns=("east", "north"), where=("slide", "1"))
    assert read_inventory(path, options).x.tolist() == [1, 5]
    with pytest.raises(UsageError, match="column slid;"):
        read_inventory(path, options.model_copy(update={"where": ("slid", "1")}))
    with pytest.raises(UsageError, match="column easting"):
        read_inventory(path, options.model_copy(update={"columns": ("easting", "north")}))


def test_vector_files_of_points(tmp_path):
    """GeoJSON and GeoPackage state their CRS; several points of one feature count each, empty ones are counted."""
    geojson = features(tmp_path / "heads.geojson", [[-3, 39.7], None, [-2.9, 39.7]])
    inventory = read_inventory(geojson)
    assert (inventory.x.tolist(), inventory.invalid, inventory.crs.to_epsg()) == ([-3, -2.9], 1, 4326)
    chosen = read_inventory(geojson, InventoryOptions(where=("slide", "0")))
    assert chosen.x.tolist() == [-3, -2.9]
    with pytest.raises(UsageError, match="column kind"):
        read_inventory(geojson, InventoryOptions(where=("kind", "0")))
    several = features(tmp_path / "several.geojson", [[[5e5, 4.4e6], [5e5 + 5, 4.4e6]]], "EPSG:32630", "MultiPoint")
    assert len(read_inventory(several).x) == 2
    package = geopackage(tmp_path / "heads.gpkg", several)
    read = read_inventory(package)
    assert (len(read.x), read.crs.to_epsg()) == (2, 32630)


def geopackage(path, source):
    """Write a vector file again as a GeoPackage."""
    import pyogrio

    meta, _, geometry, _ = pyogrio.raw.read(source, columns=[])
    pyogrio.raw.write(path, geometry, [], [], driver="GPKG", geometry_type="MultiPoint", crs=meta["crs"])
    return path


def test_inventories_that_are_none_are_refused(tmp_path):
    """No CRS, no columns, polygons, degrees out of range, binary files and folders raise with what to do."""
    bare = table(tmp_path / "bare.csv", [(1, 2)])
    with pytest.raises(NoGeoreferenceError, match="EPSG:32717"):
        read_inventory(bare)
    with pytest.raises(NoGeoreferenceError, match="no such"):
        read_inventory(bare, InventoryOptions(crs="no such"))
    with pytest.raises(UsageError, match="name the two columns"):
        read_inventory(table(tmp_path / "named.csv", [(1, 2)], "easting,northing"))
    with pytest.raises(WrongUnitsError, match="exchange"):
        read_inventory(table(tmp_path / "swapped.csv", [(39.7, -103.0)], "lon,lat"))
    ring = [[[-3, 39], [-2, 39], [-2, 40], [-3, 39]]]
    with pytest.raises(UsageError, match="heads of landslides"):
        read_inventory(features(tmp_path / "areas.geojson", [ring], kind="Polygon"))
    (tmp_path / "noise.csv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(NotARasterError, match="no text"):
        read_inventory(tmp_path / "noise.csv")
    with pytest.raises(UsageError, match="a folder"):
        read_inventory(tmp_path)


@pytest.mark.data
def test_real_inventory(data):
    """Of 350 places in southern Ecuador 175 are landslides, and all lie on the grid of their terrain."""
    options = InventoryOptions(crs="EPSG:32717", columns=("x_utm17s", "y_utm17s"), where=("c2_lslpts_raw", "1"))
    inventory = read_inventory(data / "landslide_points" / "spDataLarge" / "lsl_points.csv", options)
    assert len(inventory.x) + inventory.duplicates == 175
    assert inventory.invalid == 0
    grid = Grid(CRS.from_epsg(32717), Affine(640.0, 0, 711962.73, 0, -640.0, 9561011.76), 7, 6)
    found = count_per_cell(inventory, grid)
    assert (found.inside, found.outside) == (len(inventory.x), 0)
    assert 1 < found.density_per_km2.max() < 200
