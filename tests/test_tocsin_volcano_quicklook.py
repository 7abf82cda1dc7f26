"""The quicklook of an interferogram: pictures are judged by eye, their logic here."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from affine import Affine
from PIL import Image
from rasterio.crs import CRS

from tocsin import volcano_quicklook as module
from tocsin.grid import Grid, Window
from tocsin.hazards.volcano import CLASSES, DEFORMING, NO_DATA, NOT_OBSERVABLE, STABLE
from tocsin.map_labels import free_place, overlap
from tocsin.mapframe import map_size
from tocsin.result import VolcanoSummary, probability_text
from tocsin.volcano_quicklook import Detection, VolcanoPicture, write_volcano_quicklook

PLACED = Grid(CRS.from_epsg(4326), Affine(1e-3, 0, 40.4, 0, -1e-3, 13.8), 300, 400)
PICTURE = Grid(CRS(), Affine(1, 0, 0, 0, -1, 224), 224, 224)
MOVING = VolcanoSummary(
    observed_km2=100,
    deforming_km2=5,
    deformation_probability=0.97,
    label="deformation",
    source="dyke",
    source_probability=0.9,
    detections=7,
)
STILL = MOVING.model_copy(
    update={
        "deformation_probability": 0.12,
        "label": "stable",
        "source": None,
        "source_probability": None,
        "detections": 0,
    }
)
NOTHING = STILL.model_copy(update={"deformation_probability": None, "label": None})


def facts(grid=PLACED, **changes):
    """Build facts of a scene with a dyke."""
    known = VolcanoPicture(
        scene_id="20161031_20170204",
        grid=grid,
        summary=MOVING,
        km2={DEFORMING: 5.0, STABLE: 95.0, NOT_OBSERVABLE: 12.0, NO_DATA: 3.0},
        pixels={DEFORMING: 500, STABLE: 9500, NOT_OBSERVABLE: 1200, NO_DATA: 300},
        valid_fraction=0.87,
        acquired=datetime(2017, 2, 4, tzinfo=UTC),
        reference_acquired=datetime(2016, 10, 31, tzinfo=UTC),
        days=96,
        detections=(Detection(Window(40, 60, 20, 30), "dyke", 0.97, 4.2),),
        method="Model volcano 1.0.0, fp32, onnx on cpu, threshold 0.5",
        notes=("look at the interferogram",),
    )
    return replace(known, **changes)


@pytest.fixture
def said(tmp_path, monkeypatch):
    """Return what draws a picture and gives all that is written in it."""
    original = module.ImageDraw.ImageDraw.text

    def draw(known, *, has_phase=True):
        seen = []

        def text(self, xy, text, *args, **kwargs):
            seen.append(text)
            return original(self, xy, text, *args, **kwargs)

        monkeypatch.setattr(module.ImageDraw.ImageDraw, "text", text)
        shares = {code: np.full((30, 40), float(code == STABLE), dtype=np.float32) for code in CLASSES}
        phase = np.ones((2, 30, 40), np.float32) if has_phase else None
        write_volcano_quicklook(tmp_path / "a.png", known, shares, phase)
        with Image.open(tmp_path / "a.png") as picture:
            assert (picture.format, picture.size[0]) == ("PNG", 1400)
        return seen

    return draw


def test_the_picture_says_whether_where_what_and_when(said):
    """Label with probability and source, days and their gap, what a fringe means, scale, north, detections, model."""
    texts = said(facts())
    for expected in (
        "VOLCANIC DEFORMATION",
        "20161031_20170204",
        "2016-10-31 to 2017-02-04",
        "gap: 96 days",
        "Deformation",
        "P 0.97, dyke",
        "Not observable",
        "(low coherence)",
        "87 % of the scene has a result",
        "-pi",
        "One fringe, -pi to pi: 2.8 cm away from the satellite;",
        "Detections: 7",
        "1  dyke, P 0.97",
        "4.20",
        "10 km",
        "N",
        "! look at the interferogram",
        "Model volcano 1.0.0, fp32, onnx on cpu, threshold 0.5",
    ):
        assert expected in texts, expected
    assert texts.count("1  dyke, P 0.97") == 2


@pytest.mark.parametrize(
    ("summary", "expected"),
    [(STILL, ["No deformation seen", "highest P 0.12"]), (NOTHING, ["Nothing observed"])],
)
def test_a_quiet_or_unseen_scene_is_called_so(said, summary, expected):
    """Nobody takes what was not seen for stable."""
    texts = said(facts(summary=summary, detections=()))
    assert all(text in texts for text in expected)
    assert "Deformation" not in texts


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"acquired": None, "days": None}, {"2016-10-31 to unknown day", "gap: unknown"}),
        ({"reference_acquired": None, "days": None}, {"unknown day to 2017-02-04", "gap: unknown"}),
        ({"days": 1}, {"gap: 1 day"}),
    ],
)
def test_unknown_days_are_called_unknown(said, changes, expected):
    """Nothing is invented."""
    assert expected <= set(said(facts(**changes)))


@pytest.mark.parametrize(("fraction", "stamped"), [(0.0, True), (0.05, True), (0.4, False)])
def test_hardly_any_data_is_said_in_large_letters(said, fraction, stamped):
    """Half a scene without coherence is common around volcanoes; almost all of it is not."""
    texts = said(facts(valid_fraction=fraction))
    assert any(text.isupper() and "SEEN" in text for text in texts) == stamped


def test_a_picture_of_phase_has_pixels_instead_of_areas(said):
    """Without a place on Earth there is no scale, no north and no km2."""
    one = Detection(Window(40, 60, 20, 30), "sill", 0.9, float("nan"))
    texts = said(facts(PICTURE, detections=(one,)))
    assert {"pixels", "9,500", "10,000", "1  sill, P 0.90"} <= set(texts)
    assert "No georeference: 224 x 224 px of unknown size" in texts
    assert not {"N", "km"} & set(texts)


def test_without_phase_no_fringe_is_explained(said):
    """A scene of no data has no colours to explain."""
    assert "-pi" not in said(facts(), has_phase=False)


def test_labels_lie_in_the_map_and_not_on_each_other():
    """Also those of detections in a heap or in a corner, and those of detections without a verdict."""
    size = map_size(PLACED)
    taken = []
    for row, col in ((0, 0), (5, 5), (10, 5), (290, 390), (295, 395), (100, 100)):
        scale = size.height / PLACED.height
        box = (col * scale, row * scale, (col + 4) * scale, (row + 4) * scale)
        place = free_place(box, (110, 22), size, taken)
        assert place[0] >= 0
        assert place[1] >= 0
        assert place[2] <= size.width
        assert place[3] <= size.height
        assert not any(overlap(place, other) for other in taken)
        taken.append(place)
    assert Detection(Window(0, 0, 1, 1), None, None, 1.0).text == "deformation"


@pytest.mark.parametrize(
    ("probability", "text"),
    [(0, "P 0.00"), (0.0001, "P < 0.01"), (0.97, "P 0.97"), (0.9999, "P > 0.99"), (1, "P 1.00")],
)
def test_probabilities_are_never_rounded_to_certainty(probability, text):
    """0 and 1 mean 0 and 1."""
    assert probability_text(probability) == text
