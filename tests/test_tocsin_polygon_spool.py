"""Polygons kept aside on disk."""

from pathlib import Path

import numpy as np
import pytest

from tocsin.errors import StorageFullError
from tocsin.polygon_spool import PolygonSpool
from tocsin.polygons import PolygonBuilder


def test_polygons_come_back_as_they_were(tmp_path):
    """Numbers and rings, holes included, in order, and as often as asked."""
    codes = (np.random.default_rng(0).random((90, 70)) < 0.6).astype(np.uint8)
    builder = PolygonBuilder(70, (1,))
    polygons = [*builder.add(codes, np.full(codes.shape, 9000, np.uint16), np.ones((90, 1))), *builder.finish()]
    assert any(len(polygon.rings) > 1 for polygon in polygons)
    with PolygonSpool(tmp_path / "spool") as spool:
        for polygon in polygons:
            spool.add(polygon)
    for _ in range(2):
        back = list(spool)
        assert len(back) == spool.count == len(polygons)
        for one, other in zip(back, polygons, strict=True):
            assert (one.code, one.first, one.pixels, one.weight, one.total) == (
                other.code,
                other.first,
                other.pixels,
                other.weight,
                other.total,
            )
            assert all(np.array_equal(*rings) for rings in zip(one.rings, other.rings, strict=True))


def test_no_polygon_is_an_empty_spool(tmp_path):
    """Nothing in, nothing out."""
    with PolygonSpool(tmp_path / "spool") as spool:
        pass
    assert list(spool) == []


def test_a_full_disk_says_so():
    """Writing to a full device is the error of the contract, at the latest when the file ends."""
    builder = PolygonBuilder(3, (1,))
    found = [*builder.add(np.ones((1, 3), np.uint8), np.ones((1, 3), np.uint16), np.ones((1, 1))), *builder.finish()]

    def fill(count):
        with PolygonSpool(Path("/dev/full")) as spool:
            for _ in range(count):
                spool.add(found[0])

    for count in (1, 10_000):
        with pytest.raises(StorageFullError):
            fill(count)
