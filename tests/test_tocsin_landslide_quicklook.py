"""The quicklook of a landslide map: pictures are judged by eye, their logic here."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from affine import Affine
from PIL import Image
from rasterio.crs import CRS

from tocsin import landslide_quicklook as module
from tocsin.grid import Grid
from tocsin.hazards.landslide import CLASSES, HIGH, LOW, NO_DATA, NONE, NOT_OBSERVABLE, cell_grid
from tocsin.landslide_cells import Cells
from tocsin.landslide_quicklook import LandslidePicture, write_landslide_quicklook
from tocsin.mapframe import map_size
from tocsin.result import LandslideSummary

GRID = Grid(CRS.from_epsg(32619), Affine(10, 0, 7.4e5, 0, -10, 2.02e6), 320, 320)
SUMMARY = LandslideSummary(
    observed_km2=10.0,
    landslide_km2=0.3,
    expected_landslides=41.3,
    expected_landslides_interval=(30, 55),
    cells=25,
    low_cells=1,
    high_cells=1,
    days_between=12.0,
)


def cells(codes):
    """Build cells of codes [row, col] with figures of their own."""
    codes = np.asarray(codes, np.uint8)
    count = np.arange(codes.size, dtype=np.float64).reshape(codes.shape)
    return Cells(
        codes=codes,
        any_probability=(9000 - 100 * count).astype(np.uint16),
        high_probability=(5000 - 100 * count).astype(np.uint16),
        density_per_km2=(64 - count).astype(np.float32),
        observed_km2=np.full(codes.shape, 0.4),
        slid_km2=np.full(codes.shape, 0.05),
    )


def facts(**changes):
    """Build facts of a scene with a cell of each class."""
    codes = np.zeros((5, 5), np.uint8)
    codes[1, 2], codes[4, 4] = HIGH, LOW
    known = LandslidePicture(
        scene_id="landslide_post1",
        grid=GRID,
        cells_grid=cell_grid(GRID),
        cells=cells(codes),
        km2={HIGH: 0.4, LOW: 0.4, NONE: 9.2, NOT_OBSERVABLE: 0.1, NO_DATA: 0.14},
        summary=SUMMARY,
        valid_fraction=0.98,
        pre_acquired=(datetime(2026, 9, 14, 10, 22, tzinfo=UTC), datetime(2026, 9, 2, 10, 22, tzinfo=UTC)),
        post_acquired=(datetime(2026, 9, 26, 10, 22, tzinfo=UTC),),
        method="Model landslide 1.0.0, fp32, onnx on cpu, threshold 0.5",
        notes=("only one after",),
    )
    return replace(known, **changes)


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Return what draws a picture and gives all that is written in it, and the picture."""
    original = module.ImageDraw.ImageDraw.text

    def run(known):
        seen = []

        def text(self, xy, text, *args, **kwargs):
            seen.append(text)
            return original(self, xy, text, *args, **kwargs)

        monkeypatch.setattr(module.ImageDraw.ImageDraw, "text", text)
        shares = {code: np.full((32, 32), float(code == NONE), dtype=np.float32) for code in CLASSES}
        write_landslide_quicklook(tmp_path / "a.png", known, shares, np.full((32, 32), -15, np.float32))
        with Image.open(tmp_path / "a.png") as picture:
            assert (picture.format, picture.size[0]) == ("PNG", 1400)
            return seen, np.asarray(picture.convert("RGB")).astype(int)

    return run


def test_the_picture_says_how_many_where_and_when(draw):
    """Number with interval, classes with cells and area, ranked cells, every pass, the gap, scale, north, model."""
    texts, _ = draw(facts())
    for expected in (
        "LANDSLIDE MAP",
        "landslide_post1",
        "first after the event 2026-09-26 10:22 UTC",
        "last before the event 2026-09-14 10:22 UTC",
        "gap: 12 d 0 h",
        "41",
        "30 to 55",
        "More than 25 per ",
        "At most 25 per ",
        "Not observable",
        "98 % of the scene has a result",
        "high",
        "57",
        "12 %",
        "P 0.83",
        "2026-09-02 10:22",
        "Slid, in low and high cells",
        "0.300",
        "500 m",
        "N",
        "! only one after",
        "Model landslide 1.0.0, fp32, onnx on cpu, threshold 0.5",
    ):
        assert expected in texts, expected
    # Once on the map, once in the list.
    assert texts.count("1") - texts.count("0") >= 2
    assert texts.count("2") >= 2


def test_cells_are_drawn_where_they_lie(draw):
    """The outline of a cell has the colour of its class and lies on its edge; a quiet cell has none."""
    _, pixels = draw(facts())
    step = 860 / 5
    high, low = (np.array(CLASSES[code].colour) for code in (HIGH, LOW))

    def at(row, col):
        """Pixel of the picture at cell coordinates of the map."""
        return pixels[118 + round(row * step), 100 + round(col * step)]

    assert (at(1 + 0.5, 2) == high).all()
    assert (at(4 + 0.5, 4) == low).all()
    inside, quiet = at(1.5, 2.5), at(1.5, 0.5)
    assert (np.abs(quiet - quiet.mean()) < 2).all()
    assert inside[0] - inside[2] > 30


def test_a_quiet_scene_is_called_so(draw):
    """Without a cell there is no list, and no sum of small expectations that reads like a finding."""
    summary = SUMMARY.model_copy(
        update={"expected_landslides": 17.2, "expected_landslides_interval": (0, 24), "high_cells": 0, "low_cells": 0}
    )
    texts, _ = draw(facts(cells=cells(np.zeros((5, 5))), summary=summary))
    assert {"No cell with landslides", "0 to 24"} <= set(texts)
    assert not {"Look at first", "17"} & set(texts)


def test_nothing_seen_and_nothing_known_are_said(draw):
    """What was not seen has no number, and unknown times are called unknown."""
    summary = SUMMARY.model_copy(
        update={"expected_landslides": None, "expected_landslides_interval": None, "days_between": None}
    )
    nothing = cells(np.full((5, 5), NO_DATA))
    texts, _ = draw(
        facts(cells=nothing, summary=summary, valid_fraction=0.0, pre_acquired=(None,), post_acquired=(None,))
    )
    assert {"nothing seen", "first after the event unknown", "gap: unknown", "unknown"} <= set(texts)
    assert any(text.isupper() and "NOTHING WAS SEEN" in text for text in texts)


def test_labels_of_small_cells_lie_beside_them(draw):
    """In a scene of many cells, ten are numbered and listed, no two labels on each other."""
    grid = Grid(GRID.crs, GRID.transform, 64 * 60, 64 * 60)
    codes = np.zeros((60, 60), np.uint8)
    codes[20:24, 20:24] = HIGH
    many = facts(grid=grid, cells_grid=cell_grid(grid), cells=cells(codes))
    texts, _ = draw(replace(many, cells=replace(many.cells, slid_km2=np.full((60, 60), 1e-4))))
    assert "< 1 %" in texts
    assert {str(number) for number in range(1, 11)} <= set(texts)
    assert "11" not in texts
    boxes = [module._box(many, map_size(grid), index) for index in many.cells.ranked()[:10].tolist()]
    assert len(set(boxes)) == 10
