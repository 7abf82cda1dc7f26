"""GeoJSON and GeoPackage of polygons."""

import json

import numpy as np
import pyogrio
import pytest
from affine import Affine
from rasterio.crs import CRS
from shapely.geometry import shape

from tocsin.errors import StorageFullError
from tocsin.features import FeatureUnits, FeatureWriter
from tocsin.grid import Grid
from tocsin.polygons import PolygonBuilder

NAMES = {1: "water", 3: "flood_water"}
UTM = Grid(CRS.from_epsg(32630), Affine(10, 0, 5e5, 0, -10, 4.2e6), 300, 400)
GEOGRAPHIC = Grid(CRS.from_epsg(4326), Affine(1e-4, 0, -0.5, 0, -1e-4, 38.0), 300, 400)
ANTIMERIDIAN = Grid(CRS.from_epsg(4326), Affine(1e-4, 0, 179.98, 0, -1e-4, -17.0), 300, 400)
UTM_60 = Grid(CRS.from_epsg(32760), Affine(10, 0, 818_000, 0, -10, 8.12e6), 300, 400)


def scene(grid):
    """Two classes, a hole, an island in the hole, and a polygon across the whole width."""
    codes = np.zeros(grid.shape, dtype=np.uint8)
    codes[10:200, 20:390] = 3
    codes[50:100, 50:100] = 0
    codes[60:70, 60:70] = 1
    codes[220:230] = 1
    return codes


def write(path, grid, codes, geopackage=None):
    """Write all polygons of a raster; weight 100 m2 a pixel."""
    writer = FeatureWriter(path, grid, FeatureUnits(1e-6, 1e-4), NAMES, geopackage)
    builder = PolygonBuilder(grid.width, (1, 3))
    for row in range(0, grid.height, 64):
        part = codes[row : row + 64]
        for polygon in builder.add(part, np.full(part.shape, 8765, np.uint16), np.full((len(part), 1), 100.0)):
            writer.add(polygon)
    for polygon in builder.finish():
        writer.add(polygon)
    writer.close()
    return json.loads(path.read_text())["features"]


def rings(feature):
    """All rings of a polygon or multipolygon, with whether each is an exterior."""
    kind, parts = feature["geometry"]["type"], feature["geometry"]["coordinates"]
    for part in parts if kind == "MultiPolygon" else [parts]:
        for number, ring in enumerate(part):
            yield ring, number == 0


def is_ccw(ring):
    """Shoelace sign."""
    x, y = np.array(ring).T
    return np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) > 0


@pytest.mark.parametrize("grid", [UTM, GEOGRAPHIC, ANTIMERIDIAN, UTM_60], ids=["utm", "lonlat", "180", "utm 60 at 180"])
def test_features_follow_rfc_7946(tmp_path, grid):
    """Longitudes within 180 degrees, closed rings, right-hand rule, valid, seven decimals, properties complete."""
    features = write(tmp_path / "a.geojson", grid, scene(grid))
    assert [feature["properties"]["class"] for feature in features] == [1, 3, 1]
    for feature in features:
        assert set(feature["properties"]) == {"id", "class", "class_name", "area_km2", "probability"}
        assert feature["properties"]["probability"] == 0.8765
        assert shape(feature["geometry"]).is_valid
        for ring, exterior in rings(feature):
            assert ring[0] == ring[-1]
            assert is_ccw(ring) is np.bool_(exterior)
            assert np.abs(np.array(ring)[:, 0]).max() <= 180
            assert np.array_equal(np.round(ring, 7), ring)
            assert np.ptp(np.array(ring)[:, 0]) < 1


def test_the_antimeridian_cuts_a_polygon_without_changing_its_size(tmp_path):
    """What crosses becomes two parts that add up."""
    flood = write(tmp_path / "a.geojson", ANTIMERIDIAN, scene(ANTIMERIDIAN))[1]
    assert flood["geometry"]["type"] == "MultiPolygon"
    assert shape(flood["geometry"]).area == pytest.approx((190 * 370 - 2500) * 1e-8, rel=1e-6)


def test_coordinates_are_those_of_the_projection(tmp_path):
    """Corners of a UTM pixel lie where the grid says, to a centimetre, and long edges stay on the pixel edges."""
    codes = np.zeros(UTM.shape, dtype=np.uint8)
    codes[100:110] = 3
    (feature,) = write(tmp_path / "a.geojson", UTM, codes)
    ring = np.array(feature["geometry"]["coordinates"][0])
    cols = np.linspace(0, 400, 4001)
    lon, lat = UTM.lonlat(np.full(4001, 100.0), cols)
    top = ring[ring[:, 1] > (lat.min() + UTM.lonlat(np.array([110.0]), np.array([0.0]))[1][0]) / 2]
    top = top[np.argsort(top[:, 0])]
    assert np.abs(np.interp(lon, top[:, 0], top[:, 1]) - lat).max() < 2e-7


def test_a_geopackage_holds_the_same_polygons(tmp_path, monkeypatch):
    """Also when it is appended to batch by batch."""
    monkeypatch.setattr("tocsin.features._BATCH_CORNERS", 1)
    features = write(tmp_path / "a.geojson", GEOGRAPHIC, scene(GEOGRAPHIC), tmp_path / "a.gpkg")
    meta, _, geometry, fields = pyogrio.raw.read(tmp_path / "a.gpkg")
    columns = dict(zip(meta["fields"], fields, strict=True))
    assert len(geometry) == len(features) == 3
    assert columns["area_km2"].tolist() == [feature["properties"]["area_km2"] for feature in features]
    assert columns["class_name"].tolist() == ["water", "flood_water", "water"]
    assert meta["crs"] == "EPSG:4326"


def test_no_polygon_is_a_valid_empty_collection(tmp_path):
    """Nothing found still gives readable files."""
    assert write(tmp_path / "a.geojson", UTM, np.zeros(UTM.shape, np.uint8), tmp_path / "a.gpkg") == []
    assert len(pyogrio.raw.read(tmp_path / "a.gpkg")[2]) == 0


def test_a_full_disk_says_so():
    """Writing to a full device is the error of the contract."""
    from pathlib import Path

    writer = FeatureWriter(Path("/dev/full"), UTM, FeatureUnits(1, 1), NAMES)
    with pytest.raises(StorageFullError):
        writer.close()
