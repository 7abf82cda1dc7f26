"""All products of a landslide map, from strips of the mask and answers of chips."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
from affine import Affine
from pystac.validation import validate_dict
from rasterio.crs import CRS
from rio_cogeo.cogeo import cog_validate
from shapely.geometry import shape as shape_of
from stand_ins import Memory

from tocsin.chips import Strip, quantise
from tocsin.grid import Grid
from tocsin.hazards.landslide import HIGH, LOW, NO_DATA, NONE, NOT_OBSERVABLE, STEP, cell_grid
from tocsin.landslide_cells import ChipAnswers
from tocsin.landslide_products import LandslideProducts, LandslideRequest
from tocsin.product_request import ModelFacts
from tocsin.result import InputFile, Provenance
from tocsin.terrain import LAYOVER, NOT_JUDGED, STEEP, USER

FACTS = ModelFacts("landslide", "1.0.0", "a" * 64, "fp32", "Apache-2.0", "0.1.0")
PROVENANCE = Provenance(
    model="landslide",
    version="1.0.0",
    sha256="a" * 64,
    precision="fp32",
    runtime="onnx",
    device="cpu",
    threshold=0.5,
    tocsin="0.1.0",
    inputs=(InputFile(href="a.tif", sha256="b" * 64), InputFile(href="b.tif", sha256="c" * 64)),
    resampled=None,
    started=datetime(2026, 1, 2, tzinfo=UTC),
    seconds=1.0,
)
BEFORE = (datetime(2025, 9, 1, 10, tzinfo=UTC), datetime(2025, 9, 13, 10, tzinfo=UTC))
AFTER = (datetime(2025, 9, 25, 10, tzinfo=UTC), datetime(2025, 10, 7, 10, tzinfo=UTC))
GRID = Grid(CRS.from_epsg(32619), Affine(10, 0, 7.4e5, 0, -10, 2.02e6), 2 * STEP + 20, 3 * STEP)
QUIET, SOME, MANY = ((0.9, 0.1, 0.0), 0.5), ((0.1, 0.8, 0.1), 10.0), ((0.0, 0.1, 0.9), 60.0)


def answers(left=MANY, right=QUIET):
    """Let the two left columns of chips answer one thing and the others another; cells of column 1 lie between."""
    said = ChipAnswers(4, 4)
    for row, col in np.ndindex(4, 4):
        shares, density = left if col < 2 else right
        said.add((row, col), np.float32(shares), density, 1.0)
    return said


def request(out, **changes):
    """Ask for the products of scene "a"."""
    changes = {"pre_acquired": BEFORE, "post_acquired": AFTER, "days_between": 12.0, "count_error": 0.2} | changes
    return LandslideRequest(
        out=out, scene_id="a", grid=GRID, cells=cell_grid(GRID), threshold=0.5, facts=FACTS, **changes
    )


def write(asked, mask, said=None):
    """Write all products and return the outcome; mask float, NaN where there is none."""
    stored = quantise(np.asarray(mask, dtype=np.float32))
    with LandslideProducts(asked) as products:
        products.add_backdrop(GRID, GRID.window, np.full(GRID.shape, -15, np.float32))
        products.consume(Strip(row, stored[row : row + 50]) for row in range(0, len(stored), 50))
        return products.commit(answers() if said is None else said, PROVENANCE)


def raster(outcome, name):
    """Read a raster product."""
    with rasterio.open(outcome.products[name]) as dataset:
        return dataset.read(1)


def features(outcome):
    """Read the polygons."""
    return json.loads(Path(outcome.products["polygons"]).read_text())["features"]


def codes(outcome):
    """Codes of the warnings."""
    return [warning.code for warning in outcome.warnings]


@pytest.fixture
def mask():
    """Return a mask with a slide in the first cell, and a larger one in the cell below it."""
    mask = np.full(GRID.shape, 0.02, np.float32)
    mask[10:20, 10:30] = 0.9
    mask[STEP : STEP + 40, :40] = 0.9
    return mask


def test_every_raster_says_what_it_is(tmp_path, mask):
    """Cells and pixels lie on grids of their own, are valid COGs with overviews, and carry the model in their tags."""
    outcome = write(request(tmp_path), mask)
    cells = cell_grid(GRID)
    expected = {
        "class": ("uint8", 255, cells),
        "probability": ("uint16", 65535, cells),
        "density": ("float32", np.nan, cells),
        "mask": ("uint16", 65535, GRID),
    }
    for name, (dtype, nodata, grid) in expected.items():
        with rasterio.open(outcome.products[name]) as dataset:
            assert (dataset.dtypes, dataset.shape, dataset.transform) == ((dtype,), grid.shape, grid.transform)
            np.testing.assert_equal(dataset.nodata, nodata)
            tags = dataset.tags()
            assert (tags["TOCSIN_MODEL_SHA256"], tags["TOCSIN_HAZARD"]) == ("a" * 64, "landslide")
            assert not any("SIEVE" in tag for tag in tags)
            assert ("TOCSIN_VALUE" in tags) == (name != "class")
            assert dataset.scales == ((1e-4,) if dtype == "uint16" else (1.0,))
        assert cog_validate(outcome.products[name], strict=True)[0]
    assert raster(outcome, "class").tolist() == [[HIGH, LOW, NONE]] * 3
    assert raster(outcome, "probability").tolist() == [[10000, 5500, 1000]] * 3
    np.testing.assert_allclose(raster(outcome, "density"), [[60, 30.25, 0.5]] * 3)
    np.testing.assert_array_equal(raster(outcome, "mask"), quantise(mask))


def test_summary_counts_cells_and_ground(tmp_path, mask):
    """Areas are true, landslides are expected from density and area, and cells are counted by class."""
    summary = write(request(tmp_path), mask).summary
    area = np.broadcast_to(GRID.pixel_area_km2(0, GRID.height), GRID.shape)
    assert summary.observed_km2 == pytest.approx(area.sum(), rel=1e-9)
    assert summary.landslide_km2 == pytest.approx(area[mask > 0.5].sum(), rel=1e-9)
    density = np.repeat([60, 30.25, 0.5], STEP)
    assert summary.expected_landslides == pytest.approx((area * density).sum(), abs=0.01)
    low, high = summary.expected_landslides_interval
    assert low < summary.expected_landslides < high
    assert (summary.cells, summary.low_cells, summary.high_cells, summary.days_between) == (9, 3, 3, 12.0)


def test_cells_are_polygons_in_the_order_of_their_rank(tmp_path, mask):
    """A desk that reads the first features reads the worst cells; each is its square, with its own figures."""
    outcome = write(request(tmp_path, gpkg=True), mask)
    found = features(outcome)
    assert [one["properties"]["rank"] for one in found] == list(range(1, 7))
    assert [one["id"] for one in found] == [3, 0, 1, 4, 6, 7]
    shares = [one["properties"]["share"] for one in found]
    assert shares == sorted(shares, reverse=True)
    first = found[0]["properties"]
    area = np.broadcast_to(cell_grid(GRID).pixel_area_km2(0, 3), (3, 3))
    assert first["area_km2"] == pytest.approx(area[1, 0], rel=1e-6)
    assert first["area_fraction"] == pytest.approx(1600 / 4096, abs=1e-4)
    assert (first["class"], first["class_name"], first["density_per_km2"]) == (HIGH, "high", 60.0)
    assert (first["probability"], first["high_probability"]) == (1.0, 0.9)
    edge = found[4]["properties"]
    assert edge["observed_km2"] == pytest.approx(edge["area_km2"] * 20 / 64, rel=1e-3)
    square = shape_of(found[0]["geometry"])
    lon, lat = GRID.lonlat(np.array([1.5 * STEP]), np.array([0.5 * STEP]))
    assert (square.centroid.x, square.centroid.y) == pytest.approx((lon[0], lat[0]), abs=1e-5)
    assert square.exterior.is_ccw
    meta, _, _, fields = pyogrio.raw.read(outcome.products["geopackage"])
    table = dict(zip(meta["fields"], fields, strict=True))
    for name in ("rank", "density_per_km2", "area_fraction", "probability", "class"):
        assert table[name].tolist() == [one["properties"][name] for one in found]


def test_excluded_ground_is_never_quiet(tmp_path, mask):
    """What the user took out and cliffs are no data in the mask and not observed; mostly excluded cells are 254."""
    excluded, heights = np.zeros(GRID.shape), np.zeros(GRID.shape)
    excluded[:STEP, STEP : STEP + 40] = 1
    heights[:, 2 * STEP :] = np.arange(STEP) * 13.0
    heights[:, -10:] = np.nan
    asked = request(tmp_path, exclude=Memory(GRID, excluded), heights=Memory(GRID, heights))
    outcome = write(asked, mask, answers(MANY, SOME))
    bits = raster(outcome, "exclusion")
    assert (bits[:STEP, STEP : STEP + 40] == USER).all()
    assert (bits[:, 2 * STEP + 1 : -11] == STEEP).all()
    assert (bits[:, -10:] == NOT_JUDGED).all()
    assert raster(outcome, "class").tolist() == [
        [HIGH, NOT_OBSERVABLE, NOT_OBSERVABLE],
        [HIGH, HIGH, NOT_OBSERVABLE],
        [HIGH, HIGH, NOT_OBSERVABLE],
    ]
    stored = raster(outcome, "mask")
    np.testing.assert_array_equal(stored == 65535, (bits != 0) & (bits != NOT_JUDGED))
    assert raster(outcome, "probability")[0, 1] == 65535
    assert np.isnan(raster(outcome, "density")[0, 1])
    area = np.broadcast_to(GRID.pixel_area_km2(0, GRID.height), GRID.shape)
    counted = (stored != 65535) & (np.kron(raster(outcome, "class") != NOT_OBSERVABLE, np.ones((STEP, STEP)))[:148] > 0)
    assert outcome.summary.observed_km2 == pytest.approx(area[counted].sum(), rel=1e-9)
    assert "orbit_pass_unknown" in codes(outcome)
    with rasterio.open(outcome.products["exclusion"]) as dataset:
        assert dataset.tags()["TOCSIN_STEEP_DEG"] == "50"


def test_a_known_pass_marks_layover(tmp_path, mask):
    """With the orbit pass, slopes that face the radar are layover; the incidence that was assumed is said."""
    heights = np.broadcast_to(np.abs(np.arange(GRID.width) - 30) * -9.0, GRID.shape)
    outcome = write(request(tmp_path, heights=Memory(GRID, heights), orbit_pass="ascending"), mask)
    bits = raster(outcome, "exclusion")
    assert (bits[50:100, 5:28] == LAYOVER).all()
    assert not bits[50:100, 80:].any()
    assert codes(outcome) == ["incidence_unknown"]
    known = request(tmp_path, heights=Memory(GRID, heights), orbit_pass="ascending", incidence_deg=39, overwrite=True)
    assert codes(write(known, mask)) == []


def test_warnings_say_what_products_cannot(tmp_path, mask):
    """One acquisition a side, mask beside the cells, little or nothing seen, and slivers are named."""
    quiet = answers(QUIET, QUIET)
    found = write(request(tmp_path, pre_acquired=BEFORE[:1], overwrite=True), mask, quiet)
    assert codes(found) == ["single_acquisition", "mask_beside_cells"]
    assert "only one before:" in found.warnings[0].message
    assert (found.summary.landslide_km2, found.summary.low_cells) == (0, 0)
    assert features(found) == []
    mask[:, :100] = np.nan
    assert codes(write(request(tmp_path, overwrite=True), mask)) == ["mostly_no_data"]
    unknown = write(request(tmp_path, overwrite=True, count_error=None), mask)
    assert codes(unknown) == ["count_error_unknown", "mostly_no_data"]
    thin = ChipAnswers(4, 4)
    thin.add((0, 3), np.float32(QUIET[0]), 0.5, 0.01)
    assert codes(write(request(tmp_path, overwrite=True), mask, thin)) == ["mostly_no_data", "thin_cells"]
    nothing = write(request(tmp_path, overwrite=True), np.full(GRID.shape, np.nan))
    assert codes(nothing) == ["empty"]
    assert (nothing.valid_fraction, nothing.summary.expected_landslides) == (0, None)
    assert (raster(nothing, "class") == NO_DATA).all()


def test_the_item_places_cells_and_names_every_pass(tmp_path, mask):
    """The item is valid STAC; cell rasters state their own grid; all times stand in it, and nowhere in the rasters."""
    outcome = write(request(tmp_path, gpkg=True, exclude=Memory(GRID, np.zeros(GRID.shape))), mask)
    item = json.loads(Path(outcome.products["item"]).read_text())
    validate_dict({**item, "stac_extensions": []})
    said = item["properties"]
    assert (said["datetime"], said["start_datetime"], said["end_datetime"]) == (
        "2025-09-25T10:00:00Z",
        "2025-09-01T10:00:00Z",
        "2025-10-07T10:00:00Z",
    )
    assert said["tocsin:pre_acquired"] == ["2025-09-01T10:00:00Z", "2025-09-13T10:00:00Z"]
    assert (said["tocsin:days_between"], said["tocsin:summary"]["high_cells"]) == (12.0, 3)
    assets = item["assets"]
    assert set(assets) == {*outcome.products} - {"item"}
    for name in ("class", "probability", "density"):
        assert assets[name]["proj:shape"] == [3, 3]
        assert assets[name]["proj:transform"][0] == 640.0
    assert said["proj:shape"] == list(GRID.shape)
    assert "proj:shape" not in assets["mask"]
    assert assets["density"]["raster:bands"] == [{"data_type": "float32", "nodata": "nan", "unit": "1/km2"}]
    assert [one["name"] for one in assets["class"]["classification:classes"]][:3] == ["none", "low", "high"]
    assert [link["href"] for link in item["links"] if link["rel"] == "derived_from"] == ["a.tif", "b.tif"]
    unknown = request(tmp_path, post_acquired=(None,), days_between=None, overwrite=True)
    said = json.loads(Path(write(unknown, mask).products["item"]).read_text())["properties"]
    assert (said["datetime"], said["tocsin:post_acquired"], said["tocsin:days_between"]) == (None, [None], None)


def test_what_is_not_committed_leaves_nothing(tmp_path, mask):
    """Leaving without a commit removes every working file."""
    stored = quantise(mask)
    with LandslideProducts(request(tmp_path)) as products:
        products.consume([Strip(0, stored)])
        assert list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []
