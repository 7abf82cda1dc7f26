"""The quicklook: pictures are judged by eye, their logic here."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from affine import Affine
from PIL import Image
from rasterio.crs import CRS

from tocsin import quicklook as module
from tocsin.grid import Grid
from tocsin.hazards.flood import CLASSES, DRY, FLOOD, NO_DATA, NOT_OBSERVABLE, PERMANENT, WATER, WATER_CLASSES
from tocsin.mapframe import SIDE, THINNEST, draw_map, ground, line, map_size
from tocsin.quicklook import QuicklookFacts, write_quicklook
from tocsin.quicklook_sheet import km2_text, percent_text

UTM = CRS.from_epsg(32630)
LONLAT = CRS.from_epsg(4326)
COLOURS = {code: CLASSES[code].colour for code in WATER_CLASSES}


def scene(crs, height, width):
    """Build a grid of about 10 m at 60 degrees north."""
    if crs.is_geographic:
        return Grid(crs, Affine(1e-4, 0, 179.99, 0, -1e-4, 60.1), height, width)
    return Grid(crs, Affine(10, 0, 7e5, 0, -10, 6.65e6), height, width)


def facts(grid, **changes):
    """Build facts of a scene with flood."""
    known = QuicklookFacts(
        hazard="flood",
        scene_id="S1A_IW_GRDH_1SDV_20200213T051824",
        grid=grid,
        km2={FLOOD: 1.5, PERMANENT: 12.25, DRY: 1234.5, NO_DATA: 3.0},
        valid_fraction=0.9,
        acquired=datetime(2020, 2, 13, 5, 18, tzinfo=UTC),
        pre_acquired=datetime(2020, 2, 1, 17, 6, tzinfo=UTC),
        has_pre=True,
        method="Model flood 1.0.0, fp32, onnx on cpu, threshold 0.5",
    )
    return replace(known, **changes)


def shares(height, width, code):
    """Shares of a picture that is all of one class."""
    return {one: np.full((height, width), float(one == code), dtype=np.float32) for one in CLASSES}


@pytest.fixture
def texts(monkeypatch):
    """Collect what is written into the picture."""
    seen = []
    original = module.ImageDraw.ImageDraw.text

    def text(self, xy, text, *args, **kwargs):
        seen.append(text)
        return original(self, xy, text, *args, **kwargs)

    monkeypatch.setattr(module.ImageDraw.ImageDraw, "text", text)
    return seen


@pytest.mark.parametrize("crs", [UTM, LONLAT], ids=["utm", "lonlat"])
@pytest.mark.parametrize("shape", [(1, 1), (20, 3000), (3000, 20), (700, 900)])
def test_any_scene_gives_a_picture(tmp_path, crs, shape):
    """From one pixel to a ribbon, at a size that fits a screen."""
    grid = scene(crs, *shape)
    cells = shares(min(shape[0], 880), min(shape[1], 880), FLOOD)
    write_quicklook(tmp_path / "a.png", facts(grid), cells, None)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size[0] == 1400
        assert 700 < picture.size[1] < 1300
        assert picture.format == "PNG"


def test_the_picture_says_what_where_and_when(tmp_path, texts):
    """Hazard, scene, areas, times and their gap, scale, north, corners, model."""
    write_quicklook(tmp_path / "a.png", facts(scene(UTM, 700, 900)), shares(70, 90, FLOOD), None)
    for expected in (
        "FLOOD MAP",
        "S1A_IW_GRDH_1SDV_20200213T051824",
        "post-event 2020-02-13 05:18 UTC",
        "pre-event 2020-02-01 17:06 UTC",
        "gap: 11 d 12 h",
        "Flood water",
        "1.50",
        "12.2",
        "1,234",
        "90 % of the scene has a result",
        "N",
        "2 km",
        "Model flood 1.0.0, fp32, onnx on cpu, threshold 0.5",
    ):
        assert expected in texts, expected
    assert any("N  " in text and text.startswith("NW") for text in texts)


def test_unknown_times_are_called_unknown(tmp_path, texts):
    """Nothing is invented."""
    unknown = facts(scene(UTM, 70, 90), acquired=None, pre_acquired=None)
    write_quicklook(tmp_path / "a.png", unknown, shares(70, 90, DRY), None)
    assert {"post-event: time unknown", "pre-event: time unknown", "gap: unknown"} <= set(texts)


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [(0.0, "NO VALID DATA: NOTHING WAS SEEN"), (0.3, "PARTIAL: ONLY 30 % OF THE SCENE SEEN"), (0.6, None)],
)
def test_little_or_no_data_is_said_in_large_letters(tmp_path, texts, fraction, expected):
    """Nobody takes an empty map for a dry one."""
    little = facts(scene(UTM, 70, 90), valid_fraction=fraction)
    write_quicklook(tmp_path / "a.png", little, shares(70, 90, NO_DATA), None)
    large = [text for text in texts if text.isupper() and ("SEEN" in text)]
    assert large == ([expected] if expected else [])


def test_warnings_are_in_the_picture(tmp_path, texts):
    """Each one, wrapped, and no more than fit."""
    notes = tuple(f"warning {number} " + "that is rather long and goes on and on " * 5 for number in range(9))
    write_quicklook(tmp_path / "a.png", facts(scene(UTM, 70, 90), notes=notes), shares(70, 90, DRY), None)
    assert any(text.startswith("! warning 0") for text in texts)
    assert "... more in the item" in texts


@pytest.mark.parametrize(
    ("km2", "text"),
    [
        (0, "0"),
        (1e-6, "<0.0001"),
        (0.0123, "0.0123"),
        (0.5, "0.500"),
        (7.891, "7.89"),
        (45.67, "45.7"),
        (123456.7, "123,457"),
    ],
)
def test_areas_have_three_figures(km2, text):
    """Readable from a pond to a country."""
    assert km2_text(km2) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0 %"), (0.001, "less than 1 %"), (0.5, "50 %"), (0.9999, "more than 99 %"), (1, "100 %")]
)
def test_shares_are_never_rounded_to_nothing_or_all(share, text):
    """0 and 100 mean 0 and 100."""
    assert percent_text(share) == text


@pytest.mark.parametrize("crs", [UTM, LONLAT], ids=["utm", "lonlat"])
def test_the_map_has_one_scale_on_both_axes(crs):
    """A geographic pixel at 60 degrees north is half as wide as high."""
    grid = scene(crs, 800, 800)
    size = map_size(grid)
    size_x, size_y = grid.pixel_size_m()
    assert size.width / size.height == pytest.approx(size_x / size_y, rel=0.01)
    assert max(size.width, size.height) == SIDE
    assert size.metres == pytest.approx(800 * max(size_x, size_y) / SIDE)
    assert not size.stretched


def test_a_ribbon_is_widened_and_says_so(tmp_path, texts):
    """A map of seven pixels would show nothing."""
    grid = scene(UTM, 20, 3000)
    assert (map_size(grid).height, map_size(grid).stretched) == (THINNEST, True)
    write_quicklook(tmp_path / "a.png", facts(grid), shares(6, 880, WATER), None)
    assert any("short side is drawn larger" in text for text in texts)


@pytest.mark.parametrize("code", [WATER, PERMANENT, FLOOD])
def test_water_has_its_colour(code):
    """What the legend says is what the map shows."""
    image = np.asarray(draw_map(shares(40, 40, code), None, map_size(scene(UTM, 40, 40)), COLOURS))
    assert (np.abs(image.astype(int) - CLASSES[code].colour) <= 1).all()


@pytest.mark.parametrize("code", [NO_DATA, NOT_OBSERVABLE])
def test_what_was_not_seen_is_hatched(code):
    """Both colours of the hatching, and no other, so that it is never taken for dry."""
    backdrop = np.random.default_rng(0).normal(-10, 3, (40, 40)).astype(np.float32)
    image = np.asarray(draw_map(shares(40, 40, code), backdrop, map_size(scene(UTM, 40, 40)), COLOURS))
    packed = image.astype(np.int64) @ (1, 256, 65536)
    assert set(np.unique(packed).tolist()) == {np.dot(colour, (1, 256, 65536)) for colour in (ground(code), line(code))}


def test_a_little_water_in_a_cell_stays_visible():
    """A flood of a fifth of a cell shows at twice its share."""
    cells = shares(40, 40, DRY)
    cells[FLOOD][20, 20], cells[DRY][20, 20] = 0.2, 0.8
    image = np.asarray(draw_map(cells, None, map_size(scene(UTM, 40, 40)), COLOURS)).astype(int)
    flood, dry = image[SIDE // 2 + 10, SIDE // 2 + 10], image[5, 5]
    expected = dry + 0.4 * (np.array(CLASSES[FLOOD].colour) - dry)
    assert np.abs(flood - expected).max() <= 1


def test_backscatter_is_a_light_grey_that_follows_it():
    """Dark water under the map stays darker than land, and gaps are plain."""
    backdrop = np.tile(np.linspace(-25, -5, 40, dtype=np.float32), (40, 1))
    backdrop[:10] = np.nan
    image = np.asarray(draw_map(shares(40, 40, DRY), backdrop, map_size(scene(UTM, 40, 40)), COLOURS)).astype(int)
    assert (image[..., 0] == image[..., 2]).all()
    assert image[600, 20, 0] < 135
    assert image[600, 840, 0] > 240
    assert np.ptp(image[50, :, 0]) == 0
