"""The flood decision and its areas."""

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from rasterio.crs import CRS

from tocsin.grid import Grid
from tocsin.hazards.flood import (
    CLASSES,
    DRY,
    FLOOD,
    NO_DATA,
    NOT_OBSERVABLE,
    PERMANENT,
    WATER,
    AreaTally,
    FloodInputs,
    decide,
    permanence,
    split,
    stored_threshold,
)

UTM = Grid(CRS.from_epsg(32630), Affine(10, 0, 7e5, 0, -10, 4.2e6), 90, 300)
GEOGRAPHIC = Grid(CRS.from_epsg(4326), Affine(1e-4, 0, -0.5, 0, -1e-4, 60.0), 90, 300)
MERCATOR = Grid(CRS.from_epsg(3857), Affine(20, 0, 0, 0, -20, 8.4e6), 90, 300)


@pytest.mark.parametrize(
    ("threshold", "stored"), [(0.5, 5000), (0.55, 5500), (0.12345, 1235), (0.29, 2900), (0.57, 5700), (1e-5, 1)]
)
def test_the_threshold_is_compared_with_what_is_stored(threshold, stored):
    """Rounded up to the next 1e-4, and floating point never moves a round threshold."""
    assert stored_threshold(threshold) == stored
    codes = decide(np.array([[stored - 1, stored]], dtype=np.uint16), threshold)
    assert codes.tolist() == [[DRY, WATER]]


def test_no_data_wins_over_excluded_and_excluded_over_everything_else():
    """255 where nothing was seen, 254 where radar cannot judge, dry and water elsewhere."""
    probability = np.array([[0, 9000, 65535, 9000, 65535]], dtype=np.uint16)
    blocked = np.array([[False, False, False, True, True]])
    assert decide(probability, 0.5, blocked).tolist() == [[DRY, WATER, NO_DATA, NOT_OBSERVABLE, NO_DATA]]


def test_either_source_says_permanent_and_unknown_takes_both():
    """All nine combinations of pre-event water and reference water."""
    pre = np.repeat(np.array([9000, 100, 65535], dtype=np.uint16), 3)[None]
    reference = np.tile(np.array([1, 0, np.nan], dtype=np.float32), 3)[None]
    expected = [WATER, WATER, WATER, WATER, DRY, DRY, WATER, DRY, NO_DATA]
    assert permanence(pre, reference, 0.5).tolist() == [expected]
    assert permanence(None, reference, 0.5).tolist() == [[WATER, DRY, NO_DATA] * 3]
    assert permanence(pre, None, 0.5)[0, ::3].tolist() == [WATER, DRY, NO_DATA]
    assert permanence(None, None, 0.5) is None


def test_water_is_split_where_it_is_known_and_stays_water_elsewhere():
    """Only class 1 changes."""
    codes = np.array([[WATER, WATER, WATER, DRY, NOT_OBSERVABLE, NO_DATA]], dtype=np.uint8)
    permanent = np.array([[WATER, DRY, NO_DATA, WATER, WATER, WATER]], dtype=np.uint8)
    assert split(codes, permanent).tolist() == [[PERMANENT, FLOOD, WATER, DRY, NOT_OBSERVABLE, NO_DATA]]
    assert split(codes, None) is codes


@settings(max_examples=30, deadline=None)
@given(
    arrays(np.uint8, (90, 300), elements=st.sampled_from(list(CLASSES)), fill=st.sampled_from(list(CLASSES))),
    st.sampled_from([UTM, GEOGRAPHIC, MERCATOR]),
    st.integers(1, 90),
)
def test_areas_are_true_and_no_strip_changes_them(codes, grid, height):
    """Sums equal the pixels' ellipsoidal areas to 1e-7, and those of one strip exactly."""
    tally, whole = AreaTally(grid), AreaTally(grid)
    whole.add(codes, whole.weights(0, 90))
    for row in range(0, 90, height):
        tally.add(codes[row : row + height], tally.weights(row, len(codes[row : row + height])))
    assert tally.units == whole.units
    area = np.broadcast_to(grid.pixel_area_km2(0, 90), codes.shape)
    for code in CLASSES:
        assert tally.km2(code) == pytest.approx(area[codes == code].sum(), rel=2e-6, abs=1e-9)
    assert sum(tally.pixels.values()) == codes.size
    assert tally.valid_fraction == pytest.approx((codes != NO_DATA).mean())


def test_what_was_not_seen_is_not_observed():
    """254 and 255 are in no figure of the summary; without a split flood and permanent are unknown, not 0."""
    tally = AreaTally(UTM)
    codes = np.repeat(np.array(list(CLASSES), dtype=np.uint8), 50)[None].repeat(90, axis=0)
    tally.add(codes, tally.weights(0, 90))
    summary = tally.summary(7, is_split=True)
    pixel = 90 * 50 * 1e-4
    assert summary.observed_km2 == pytest.approx(4 * pixel, rel=2e-3)
    assert summary.water_km2 == pytest.approx(3 * pixel, rel=2e-3)
    assert summary.flood_km2 == tally.km2(FLOOD)
    assert summary.polygons == 7
    unsplit = tally.summary(7, is_split=False)
    assert unsplit.flood_km2 is None
    assert unsplit.permanent_km2 is None


@pytest.mark.parametrize(
    "wrong",
    [{}, {"post": ""}, {"post": "a", "units": "amplitude"}, {"post": "a", "incidence_deg": 90}, {"post": "a", "s3": 1}],
)
def test_inputs_refuse_what_they_do_not_know(wrong):
    """Missing, empty, out of bounds or misspelt."""
    with pytest.raises(ValidationError):
        FloodInputs(**wrong)


def test_inputs_take_paths(tmp_path):
    """A Path is as good as a string."""
    assert FloodInputs(post=tmp_path / "a.tif").post == str(tmp_path / "a.tif")


def test_every_class_can_be_told_apart():
    """No two classes share a name or a colour."""
    assert len({facts.name for facts in CLASSES.values()}) == len({facts.colour for facts in CLASSES.values()}) == 6
