"""Classes, inputs, cells and decision of landslides."""

import numpy as np
import pytest
from affine import Affine
from pydantic import ValidationError
from rasterio.crs import CRS

from tocsin.grid import Grid
from tocsin.hazards import flood, landslide
from tocsin.hazards.landslide import (
    CELL_KM2,
    CHIP_KM2,
    CLASSES,
    HIGH,
    LOW,
    NONE,
    LandslideInputs,
    cell_grid,
    class_of_density,
    decide,
)


def test_codes_are_those_of_the_contract():
    """0 is none, 1 low, 2 high, 254 not observable and 255 no data, each with a name and a colour of its own."""
    assert {code: facts.name for code, facts in CLASSES.items()} == {
        0: "none",
        1: "low",
        2: "high",
        254: "not_observable",
        255: "no_data",
    }
    assert len({facts.colour for facts in CLASSES.values()}) == len(CLASSES)
    assert (landslide.NOT_OBSERVABLE, landslide.NO_DATA) == (flood.NOT_OBSERVABLE, flood.NO_DATA)
    assert landslide.LANDSLIDE_CLASSES == (LOW, HIGH)


def test_sizes_are_those_of_the_contract():
    """A chip is 128 px of 10 m or 1.638 km2, and steps by half of it; a cell is what a step covers."""
    assert (landslide.MODEL, landslide.CHIP, landslide.STEP, landslide.GSD_M) == ("landslide", 128, 64, 10.0)
    assert pytest.approx((1.6384, 0.4096)) == (CHIP_KM2, CELL_KM2)
    assert (landslide.BANDS, landslide.ACQUISITIONS) == (("VV", "VH"), 3)


def test_density_becomes_a_class():
    """No landslide is none, 25 per km2 are still low, more are high, and what is unknown is no data."""
    density = np.array([[0, 1e-6, 25, 25.001, np.nan]])
    assert class_of_density(density).tolist() == [[NONE, LOW, LOW, HIGH, 255]]
    heads = np.array([0, 1, 40, 41], np.float32)
    assert class_of_density(heads / np.float32(CHIP_KM2)).tolist() == [NONE, LOW, LOW, HIGH]


def test_class_is_the_highest_that_is_reached():
    """The threshold decides for any and for high alike; high alone never makes a landslide."""
    some = np.array([[0, 4999, 5000, 9000, 9000, 4999]], np.uint16)
    high = np.array([[0, 0, 4999, 4999, 5000, 5000]], np.uint16)
    assert decide(some, high, 0.5).tolist() == [[NONE, NONE, LOW, LOW, HIGH, NONE]]
    assert decide(some, high, 0.49995).tolist() == [[NONE, NONE, LOW, LOW, HIGH, NONE]]
    assert decide(some, high, 0.4999).tolist() == [[NONE, LOW, HIGH, HIGH, HIGH, HIGH]]


def test_decision_never_calls_the_unseen_free_of_landslides():
    """What radar cannot judge is 254 and what nobody saw is 255, also where both hold."""
    some = np.array([[0, 10000, 65535, 65535, 10000]], np.uint16)
    high = np.array([[0, 10000, 65535, 65535, 65535]], np.uint16)
    blocked = np.array([[True, True, True, False, False]])
    assert decide(some, high, 0.5, blocked).tolist() == [[254, 254, 255, 255, LOW]]


@pytest.mark.parametrize(("shape", "cells"), [((128, 128), (2, 2)), ((129, 64), (3, 1)), ((1, 1), (1, 1))])
def test_cells_cover_the_grid(shape, cells):
    """Cells start at the upper left corner and cover the grid, the last ones beyond its edge."""
    grid = Grid(CRS.from_epsg(32619), Affine(10.0, 0.0, 7e5, 0.0, -10.0, 2e6), *shape)
    found = cell_grid(grid)
    assert found.shape == cells
    assert found.transform == Affine(640.0, 0.0, 7e5, 0.0, -640.0, 2e6)
    assert found.pixel_area_km2(0, 1)[0, 0] == pytest.approx(CELL_KM2, rel=2e-3)


def test_inputs_are_named_as_in_the_contract():
    """The fields are those that command line, HTTP and batch name; the scene comes first."""
    named = ("post", "pre", "dem", "exclude", "units", "orbit_pass", "incidence_deg")
    assert tuple(LandslideInputs.model_fields) == named


@pytest.mark.parametrize(
    "wrong",
    [
        {"pre": ()},
        {"post": ()},
        {"pre": ("a", "b", "c", "d")},
        {"post": ("e", "f", "g", "h")},
        {"pre": ("a", "a")},
        {"pre": ("z",)},
        {"pre": ("",)},
        {"units": "power"},
        {"reference_water": "x"},
        {"dem": ""},
    ],
)
def test_inputs_are_bounded(wrong):
    """One to three acquisitions on each side, each named once; everything else is refused."""
    with pytest.raises(ValidationError):
        LandslideInputs(**{"pre": ("a",), "post": ("z",), **wrong})


def test_inputs_take_paths_and_one_name(tmp_path):
    """A path is as good as its text, and one name alone is one acquisition."""
    inputs = LandslideInputs(pre=[tmp_path, "b.tif"], post="vv.tif;vh.tif", dem=tmp_path)
    assert inputs.pre == (str(tmp_path), "b.tif")
    assert (inputs.post, inputs.dem, inputs.units) == (("vv.tif;vh.tif",), str(tmp_path), "db")
