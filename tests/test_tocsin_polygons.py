"""Polygons against whole-array labelling and GDAL."""

from unittest.mock import patch

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.features import shapes
from scipy import ndimage
from shapely.geometry import Polygon, shape

from tocsin import polygons as module
from tocsin.polygons import PolygonBuilder

WATER = (1, 2, 3)
WEIGHT_CELL = 5


@pytest.fixture(autouse=True, scope="module")
def _small_cells():
    """Make cells small enough for several in a row of the rasters below."""
    with patch.object(module, "WEIGHT_CELL", WEIGHT_CELL):
        yield


CODES = arrays(
    np.uint8,
    st.tuples(st.integers(1, 24), st.integers(1, 12)),
    elements=st.sampled_from([0, 1, 1, 1, 3, 3, 255]),
)
PINCHED = np.array([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0], [1, 1, 0, 1]], dtype=np.uint8)


def layers(codes):
    """Values, different at every pixel, and whole-number weights, different at every cell."""
    values = (np.arange(codes.size, dtype=np.uint32) * 7919 % 10001).astype(np.uint16).reshape(codes.shape)
    cells = np.arange(len(codes) * -(-codes.shape[1] // WEIGHT_CELL), dtype=np.float64) * 104729 % 2**26
    return values, cells.reshape(len(codes), -1)


def polygons(codes, height):
    """All polygons of a raster that comes in strips of one height."""
    values, weights = layers(codes)
    builder = PolygonBuilder(codes.shape[1], WATER)
    found = []
    for row in range(0, len(codes), height):
        rows = slice(row, row + height)
        found += builder.add(codes[rows], values[rows], weights[rows])
    return found + list(builder.finish())


def key(polygon):
    """Everything about a polygon, comparable."""
    facts = (polygon.code, polygon.first, polygon.pixels, polygon.weight, polygon.total)
    return (*facts, tuple(tuple(map(tuple, ring.tolist())) for ring in polygon.rings))


def geometry(polygon):
    """Shapely polygon in (col, -row): north up."""
    first, *holes = (ring[:, ::-1] * (1, -1) for ring in polygon.rings)
    return Polygon(first, holes)


@settings(max_examples=150, deadline=None)
@given(CODES, st.integers(1, 9))
@example(PINCHED, 1)
def test_any_strips_give_the_same_polygons_in_the_same_order(codes, height):
    """Geometry, sums and order are those of the raster in one piece."""
    assert list(map(key, polygons(codes, height))) == list(map(key, polygons(codes, len(codes))))


@settings(max_examples=150, deadline=None)
@given(CODES, st.integers(1, 9))
@example(PINCHED, 2)
def test_polygons_are_valid_wound_and_gdals(codes, height):
    """Each is valid, its exterior counter-clockwise, its holes clockwise; the set equals that of GDAL."""
    ours = [geometry(polygon) for polygon in polygons(codes, height)]
    for one in ours:
        assert one.is_valid, shapely.is_valid_reason(one)
        assert one.exterior.is_ccw
        assert not any(hole.is_ccw for hole in one.interiors)
    mask = np.isin(codes, WATER)
    theirs = [shapely.transform(shape(geo), lambda xy: xy * (1, -1)) for geo, _ in shapes(codes, mask=mask)]
    assert sorted(one.normalize().simplify(0).wkt for one in ours) == sorted(
        one.normalize().simplify(0).wkt for one in theirs
    )


@settings(max_examples=80, deadline=None)
@given(CODES, st.integers(1, 9))
def test_sums_are_those_of_the_pixels(codes, height):
    """Pixels, weights and values of each polygon are those of its labelled component."""
    values, weights = layers(codes)
    each = np.repeat(weights, WEIGHT_CELL, axis=1)[:, : codes.shape[1]]
    expected = set()
    for code in WATER:
        labels, count = ndimage.label(codes == code)
        for label in range(1, count + 1):
            inside = labels == label
            sums = (int(inside.sum()), int(each[inside].sum()), int(values[inside].sum()))
            expected.add((code, int(np.flatnonzero(inside)[0]), *sums))
    found = polygons(codes, height)
    assert {key(polygon)[:5] for polygon in found} == expected
    assert all(geometry(polygon).area == polygon.pixels for polygon in found)


def test_one_weight_per_row_counts_like_one_per_pixel():
    """Weights of shape [height, 1] broadcast along the row."""
    codes = np.ones((4, 5), dtype=np.uint8)
    builder = PolygonBuilder(5, WATER)
    assert not list(builder.add(codes, np.ones_like(codes, dtype=np.uint16), np.arange(4.0)[:, None]))
    (polygon,) = builder.finish()
    assert (polygon.pixels, polygon.weight, polygon.total) == (20, 30, 20)


def test_a_finished_polygon_leaves_at_once_and_an_open_one_waits():
    """What no later row can change is not kept."""
    builder = PolygonBuilder(6, WATER)
    codes = np.zeros((4, 6), dtype=np.uint8)
    codes[1, 1] = 1
    codes[:, 4] = 1
    left = list(builder.add(codes, np.zeros((4, 6), np.uint16), np.ones((4, 1))))
    assert [polygon.pixels for polygon in left] == [1]
    assert [polygon.pixels for polygon in builder.finish()] == [4]


@pytest.mark.parametrize("code", [0, 254, 255])
def test_what_is_no_water_has_no_polygon(code):
    """Dry, not observable and no data give nothing."""
    assert not polygons(np.full((5, 5), code, dtype=np.uint8), 2)
