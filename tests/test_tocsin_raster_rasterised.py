"""Polygons of any CRS and format burnt onto a grid."""

import json

import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS

from tocsin.errors import TocsinError
from tocsin.grid import Grid, Window, project
from tocsin.raster import rasterise
from tocsin.raster.rasterised import is_vector

GRID = Grid(CRS.from_epsg(32633), Affine(10.0, 0.0, 5e5, 0.0, -10.0, 5e6), 200, 300)
DEGREES = CRS.from_epsg(4326)
SQUARE = shapely.box(500_500, 4_998_997, 501_203, 4_999_500)


def in_degrees(shape):
    """Move a UTM polygon to WGS 84, edges split finely."""

    def move(points):
        return np.stack(project(GRID.crs, DEGREES, points[:, 0].copy(), points[:, 1].copy()), axis=1)

    return shapely.transform(shapely.segmentize(shape, 10), move)


def write(path, shapes, crs="EPSG:4326"):
    """Write polygons with pyogrio and return the path."""
    wkb = np.array([shapely.to_wkb(shape) for shape in shapes], dtype=object)
    pyogrio.raw.write(path, wkb, [], [], geometry_type="Polygon", crs=crs)
    return path


def burnt(path, **options):
    """Burn onto the whole grid."""
    with rasterise(path, GRID, **options) as source:
        return source.read(GRID.window)


def expected(shape):
    """Pixels whose centre lies in a UTM polygon."""
    row, col = np.meshgrid(np.arange(200) + 0.5, np.arange(300) + 0.5, indexing="ij")
    return shapely.contains_xy(shape, 5e5 + 10 * col, 5e6 - 10 * row).astype(np.float32)


@pytest.mark.parametrize("suffix", ["geojson", "gpkg", "shp", "fgb"])
def test_polygon_in_degrees_lands_on_its_pixels(tmp_path, suffix):
    """Every format and a foreign CRS give exactly the pixels whose centre is inside."""
    out = burnt(write(tmp_path / f"a.{suffix}", [in_degrees(SQUARE)]))
    assert out.shape == (1, 200, 300)
    assert np.array_equal(out[0], expected(SQUARE))


def test_polygon_in_the_grids_own_crs(tmp_path):
    """No CRS change, no loss: holes and several polygons included."""
    ring = SQUARE.buffer(300).difference(SQUARE)
    other = shapely.box(502_000, 4_999_100, 502_600, 4_999_900)
    out = burnt(write(tmp_path / "a.gpkg", [ring, other], "EPSG:32633"))
    assert np.array_equal(out[0], np.maximum(expected(ring), expected(other)))


def test_long_edges_of_another_crs_follow_their_curve(tmp_path):
    """A box of degrees far larger than the scene has curved edges in UTM: the scene still knows its side."""
    box = shapely.box(5, 45.14, 25, 60)
    out = burnt(write(tmp_path / "a.geojson", [box]))[0]
    row, col = np.meshgrid(np.arange(200) + 0.5, np.arange(300) + 0.5, indexing="ij")
    lat = project(GRID.crs, DEGREES, 5e5 + 10 * col, 5e6 - 10 * row)[1]
    sure = np.abs(lat - 45.14) > 1e-6
    assert 0 < out.mean() < 1
    assert np.array_equal(out[sure], (lat > 45.14)[sure].astype(np.float32))


def test_all_touched_burns_more(tmp_path):
    """Exclusions take every pixel that is touched: a superset, thin strips included."""
    path = write(tmp_path / "a.gpkg", [SQUARE, shapely.box(502_000, 4_998_500, 502_002, 4_999_500)], "EPSG:32633")
    centre, touched = burnt(path), burnt(path, all_touched=True)
    assert (touched >= centre).all()
    assert touched[0, 60:140, 200].all()
    assert not centre[0, 60:140, 200].any()


def test_windows_equal_the_whole_and_nan_outside(tmp_path):
    """Any window shows the same burn; outside the grid is NaN."""
    path = write(tmp_path / "a.geojson", [in_degrees(SQUARE)])
    with rasterise(path, GRID) as source:
        whole = source.read(GRID.window)
        parts = [source.read(Window(row, 0, 30, 300))[:, : 200 - row] for row in range(0, 200, 30)]
        corner = source.read(Window(-4, -6, 10, 10))
        nowhere = source.read(Window(500, 0, 3, 4))
    assert np.array_equal(np.concatenate(parts, axis=1), whole)
    assert np.array_equal(np.isnan(corner[0]), np.add.outer(np.arange(10) < 4, np.arange(10) < 6))
    assert np.isnan(nowhere).all()


@pytest.mark.parametrize(("shape", "empty"), [(in_degrees(SQUARE), False), (shapely.box(100, 10, 101, 11), True)])
def test_empty_says_whether_anything_touches(tmp_path, shape, empty):
    """Polygons elsewhere are no error: a scene may have no town; the caller can tell."""
    with rasterise(write(tmp_path / "a.geojson", [shape]), GRID) as source:
        assert source.empty is empty
        assert (source.read(GRID.window).max() == 0) is np.bool_(empty)


def test_broken_polygons_are_mended(tmp_path):
    """A bow tie burns its two halves instead of failing."""
    bow = shapely.Polygon([(15.01, 45.14), (15.02, 45.15), (15.02, 45.14), (15.01, 45.15)])
    out = burnt(write(tmp_path / "a.geojson", [bow]))
    assert 0 < out.mean() < 1


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.geojson", b'{"type": "FeatureCollection", "features": []}', "usage"),
        ("a.geojson", b'{"type": "Point", "coordinates": [1, 2]}', "usage"),
        ("a.geojson", b'{"type": "FeatureColl', "usage"),
        ("a.gpkg", b"SQLite format 3\x00 and nothing", "usage"),
        ("a.vrt", b"<OGRVRTDataSource><OGRVRTLayer/></OGRVRTDataSource>", "forbidden_reference"),
        ("a.kml", b"<?xml version='1.0'?><kml/>", "forbidden_reference"),
        ("a.txt", b"hello", "not_a_raster"),
    ],
)
def test_bad_files_have_their_code(tmp_path, name, content, code):
    """Empty, broken, foreign and referring files are refused in words."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TocsinError) as caught:
        rasterise(tmp_path / name, GRID)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("href", "code"), [("https://example.org/a.geojson", "forbidden_reference"), ("no.gpkg", "usage")]
)
def test_references_and_missing_files(href, code):
    """URLs are not fetched."""
    with pytest.raises(TocsinError) as caught:
        rasterise(href, GRID)
    assert caught.value.code == code


def test_shapefile_without_prj_has_no_georeference(tmp_path):
    """A Shapefile that lost its .prj is not guessed at."""
    write(tmp_path / "a.shp", [SQUARE], "EPSG:32633")
    (tmp_path / "a.prj").unlink()
    with pytest.raises(TocsinError) as caught:
        rasterise(tmp_path / "a.shp", GRID)
    assert caught.value.code == "no_georeference"


def test_is_vector_tells_polygons_from_rasters(tmp_path):
    """An exclusion may be either: the first bytes tell."""
    (tmp_path / "a.json").write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    (tmp_path / "a.tif").write_bytes(b"II*\x00")
    assert is_vector(tmp_path / "a.json")
    assert is_vector(write(tmp_path / "a.gpkg", [SQUARE]))
    assert not is_vector(tmp_path / "a.tif")
    assert not is_vector(tmp_path)
