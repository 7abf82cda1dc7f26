"""All products of an interferogram, from strips of probability and verdicts on chips."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyogrio
import pystac
import pytest
import rasterio
from affine import Affine
from pystac.validation import validate_dict
from rasterio.crs import CRS
from rio_cogeo.cogeo import cog_validate
from scipy import ndimage
from shapely.geometry import shape as shape_of
from stand_ins import Memory

from tocsin.chips import Strip, quantise
from tocsin.errors import ProductExistsError
from tocsin.grid import Grid, Window
from tocsin.hazards.classes import stored_threshold
from tocsin.hazards.volcano import CLASSES, DEFORMING, NO_DATA, NOT_OBSERVABLE, SOURCES, STABLE, ChipVerdict
from tocsin.product_request import ModelFacts
from tocsin.result import InputFile, Provenance, ResultWarning
from tocsin.sieve import SIEVE_PX
from tocsin.simulate import InterferogramSettings, NumpyRandom, interferogram
from tocsin.stac import MISSION_START
from tocsin.volcano_products import VolcanoProducts, VolcanoRequest

UTM = CRS.from_epsg(32630)
LONLAT = CRS.from_epsg(4326)
FACTS = ModelFacts("volcano", "1.0.0", "a" * 64, "fp32", "Apache-2.0", "0.1.0")
PROVENANCE = Provenance(
    model="volcano",
    version="1.0.0",
    sha256="a" * 64,
    precision="fp32",
    runtime="onnx",
    device="cpu",
    threshold=0.5,
    tocsin="0.1.0",
    inputs=(InputFile(href="a.tif", sha256="b" * 64),),
    resampled=None,
    started=datetime(2026, 1, 2, tzinfo=UTC),
    seconds=1.0,
)
EARLIER = datetime(2016, 10, 31, tzinfo=UTC)
LATER = datetime(2017, 2, 4, tzinfo=UTC)
DYKE = (0.02, 0.9, 0.02, 0.02, 0.02, 0.02)
SILL = (0.1, 0.1, 0.6, 0.1, 0.05, 0.05)


def place(height, width, crs=LONLAT):
    """Build a grid of about 100 m, or one without a place on Earth."""
    if not crs:
        return Grid(CRS(), Affine(1, 0, 0, 0, -1, height), height, width)
    if crs.is_geographic:
        return Grid(crs, Affine(1e-3, 0, 40.4, 0, -1e-3, 13.8), height, width)
    return Grid(crs, Affine(100, 0, 7e5, 0, -100, 4.2e6), height, width)


def verdict(row, col, deformation, source=DYKE, scale=1, size=224):
    """Say something of a chip."""
    return ChipVerdict(Window(row, col, size, size), scale, deformation, source, 1.0)


def request(out, grid, **changes):
    """Ask for the products of scene "a"."""
    changes = {"acquired": LATER, "reference_acquired": EARLIER, **changes}
    return VolcanoRequest(out=out, scene_id="a", grid=grid, threshold=0.5, facts=FACTS, sources=SOURCES, **changes)


def write(asked, probability, verdicts=(), height=100, warnings=()):
    """Write all products and return the outcome; probability float, NaN where there is none."""
    stored = quantise(np.asarray(probability, dtype=np.float32))
    with VolcanoProducts(asked) as products:
        products.add_backdrop(asked.grid, asked.grid.window, np.zeros(asked.grid.shape, np.float32))
        products.consume(Strip(row, stored[row : row + height]) for row in range(0, len(stored), height))
        return products.commit(PROVENANCE, warnings, verdicts)


def raster(outcome, name):
    """Read a raster product."""
    with rasterio.open(outcome.products[name]) as dataset:
        return dataset.read(1)


def features(outcome):
    """Read the polygons."""
    return json.loads(Path(outcome.products["polygons"]).read_text())["features"]


def item(outcome):
    """Read the item."""
    return json.loads(Path(outcome.products["item"]).read_text())


@pytest.fixture(scope="module")
def simulated():
    """Simulate deformation with incoherent and missing ground: phase, truth, and where coherence is too low."""
    settings = InterferogramSettings(deforming_share=1.0, hole_share=1.0, lost_share=0.0, pixel_m=(100, 100.001))
    scene = interferogram(NumpyRandom(12), (300, 260), settings)
    phase = np.array(scene.wrapped_rad)
    phase[:20] = np.nan
    low = (scene.coherence < 0.2) & np.isfinite(phase)
    return phase, np.asarray(scene.mask), low


@pytest.fixture
def answered(simulated):
    """Return what a faultless model says of it: high where it deforms, low elsewhere, nothing where it saw nothing."""
    phase, mask, low = simulated
    return np.where(np.isfinite(phase) & ~low, np.where(mask, 0.9, 0.1), np.nan)


@pytest.mark.parametrize("crs", [UTM, LONLAT], ids=["utm", "lonlat"])
def test_areas_are_those_of_the_simulated_truth(tmp_path, simulated, answered, crs):
    """Class, summary and polygons agree with the known mask, but for patches below the sieve's size."""
    phase, mask, low = simulated
    grid = place(*mask.shape, crs)
    outcome = write(request(tmp_path, grid, unobservable=Memory(grid, low)), answered, [verdict(0, 0, 0.95)])
    codes = raster(outcome, "class")
    assert ((codes == NO_DATA) == np.isnan(phase)).all()
    assert ((codes == NOT_OBSERVABLE) == low).all()
    area = np.broadcast_to(grid.pixel_area_km2(0, grid.height), codes.shape)
    summary = outcome.summary
    assert summary.observed_km2 == pytest.approx(area[~np.isnan(answered)].sum(), rel=1e-5)
    assert summary.deforming_km2 == pytest.approx(area[codes == DEFORMING].sum(), rel=1e-5)
    assert summary.deforming_km2 == pytest.approx(area[answered > 0.5].sum(), rel=0.03)
    assert summary.deforming_km2 > 10
    found = features(outcome)
    assert summary.detections == len(found) == ndimage.label(codes == DEFORMING)[1]
    assert sum(one["properties"]["area_km2"] for one in found) == pytest.approx(summary.deforming_km2, abs=1e-8)
    assert outcome.valid_fraction == pytest.approx(np.isfinite(answered).mean())


def test_the_class_follows_from_the_stored_probability(tmp_path):
    """Who reads the probability and applies the threshold gets the class back, also within rounding of it."""
    grid = place(80, 90)
    values = np.full(grid.shape, 0.3, np.float32)
    values[20:40, 20:40], values[60:70, 60:70], values[50, 50] = 0.49996, 0.49994, 0.9
    outcome = write(request(tmp_path, grid), values, [verdict(0, 0, 0.49996)])
    codes, stored = raster(outcome, "class"), raster(outcome, "probability")
    assert np.array_equal(stored, quantise(values))
    assert (codes[20:40, 20:40] == DEFORMING).all()
    assert (codes == DEFORMING).sum() == 400 >= SIEVE_PX
    assert (stored[codes == DEFORMING] >= stored_threshold(0.5)).all()
    # A chip is rounded as its pixels are: no detection in a scene that is called stable.
    assert outcome.summary.label == "deformation"
    assert outcome.summary.deformation_probability == 0.5


def test_polygons_carry_the_verdict_of_the_most_certain_chip_over_them(tmp_path):
    """Overlap by one pixel counts, touching does not; chips without a valid pixel say nothing."""
    grid = place(600, 700)
    values = np.full(grid.shape, 0.1)
    values[10:30, 10:30], values[300:330, 400:450], values[590:, 690:] = 0.8, 0.7, 0.6
    verdicts = [
        verdict(0, 0, 0.8, SILL),
        verdict(29, 29, 0.85, DYKE, scale=3, size=100),
        verdict(30, 0, 0.99, SILL, size=200),
        verdict(200, 300, float("nan"), (float("nan"),) * 6),
        verdict(200, 300, 0.7, SILL),
    ]
    outcome = write(request(tmp_path, grid, gpkg=True), values, verdicts)
    one, two, three = (feature["properties"] for feature in features(outcome))
    assert [one[name] for name in ("class", "class_name", "probability")] == [DEFORMING, "deforming", 0.8]
    assert [one[name] for name in ("chip_probability", "source", "source_probability", "scale")] == [
        0.85,
        "dyke",
        0.9,
        3,
    ]
    assert [two[name] for name in ("chip_probability", "source", "source_probability", "scale")] == [
        0.7,
        "sill",
        0.6,
        1,
    ]
    assert [three[name] for name in ("chip_probability", "source", "source_probability", "scale")] == [None] * 4
    meta, _, geometry, fields = pyogrio.raw.read(outcome.products["geopackage"])
    columns = dict(zip(meta["fields"], fields, strict=True))
    assert columns["source"].tolist() == ["dyke", "sill", None]
    assert columns["scale"].tolist()[:2] == [3, 1]
    assert np.isnan(columns["scale"][2])
    assert len(geometry) == 3


def test_polygons_lie_where_the_ground_deforms(tmp_path, simulated, answered):
    """GeoJSON in longitude and latitude, valid, inside the scene."""
    grid = place(*simulated[1].shape, UTM)
    found = features(write(request(tmp_path, grid), answered, [verdict(0, 0, 0.9)]))
    rows, cols = np.nonzero(answered > 0.5)
    lon, lat = grid.lonlat(np.array([rows.min(), rows.max() + 1.0]), np.array([cols.min(), cols.max() + 1.0]))
    for feature in found:
        polygon = shape_of(feature["geometry"])
        assert polygon.is_valid
        west, south, east, north = polygon.bounds
        assert lon.min() - 0.01 < west < east < lon.max() + 0.01
        assert lat.min() - 0.01 < south < north < lat.max() + 0.01


def test_the_scene_has_the_label_of_its_highest_chip(tmp_path):
    """The most certain chip decides, its kind of source is told only with deformation."""
    grid = place(40, 50)
    quiet = np.full(grid.shape, 0.1)
    chips = [verdict(0, 0, 0.2), verdict(0, 10, 0.12345, SILL), verdict(0, 0, float("nan"))]
    stable = write(request(tmp_path / "s", grid), quiet, chips).summary
    assert (stable.label, stable.deformation_probability, stable.source) == ("stable", 0.2, None)
    assert stable.verdict == "No deformation seen, highest P 0.20"
    moving = write(request(tmp_path / "d", grid), quiet, [*chips, verdict(0, 0, 0.97, SILL, 3)])
    assert moving.summary.verdict == "Deformation, P 0.97, sill"
    assert (moving.summary.source, moving.summary.source_probability) == ("sill", 0.6)
    assert [warning.code for warning in moving.warnings] == ["deformation_not_located"]


def test_nothing_seen_is_empty_and_never_stable(tmp_path):
    """No data and incoherent ground alone: no label, no observed area, a warning; a known warning comes first."""
    grid = place(40, 50)
    nothing = np.full(grid.shape, np.nan)
    low = np.zeros(grid.shape)
    low[:, :25] = 1
    known = ResultWarning(code="acquired_unknown", message="no time")
    outcome = write(request(tmp_path, grid, unobservable=Memory(grid, low)), nothing, warnings=(known,))
    codes = raster(outcome, "class")
    assert (codes[:, :25] == NOT_OBSERVABLE).all()
    assert (codes[:, 25:] == NO_DATA).all()
    assert outcome.valid_fraction == 0
    assert outcome.summary.model_dump() == {
        "observed_km2": 0,
        "deforming_km2": 0,
        "deformation_probability": None,
        "label": None,
        "source": None,
        "source_probability": None,
        "detections": 0,
    }
    assert outcome.summary.verdict == "Nothing observed"
    assert features(outcome) == []
    assert [warning.code for warning in outcome.warnings] == ["acquired_unknown", "empty"]


def test_outside_the_area_of_interest_is_no_data_even_where_incoherent(tmp_path):
    """In both rasters and in all figures."""
    grid = place(40, 50)
    inside, low = np.zeros(grid.shape), np.zeros(grid.shape)
    inside[:, :20], low[:10] = 1, 1
    asked = request(tmp_path, grid, aoi=Memory(grid, inside), unobservable=Memory(grid, low))
    outcome = write(asked, np.full(grid.shape, 0.9), [verdict(0, 0, 0.9)])
    codes = raster(outcome, "class")
    assert (codes[:, 20:] == NO_DATA).all()
    assert (codes[:10, :20] == NOT_OBSERVABLE).all()
    assert (codes[10:, :20] == DEFORMING).all()
    assert (raster(outcome, "probability")[:, 20:] == 65535).all()
    assert outcome.valid_fraction == pytest.approx(30 * 20 / 2000)


def test_rasters_are_cogs_that_explain_themselves(tmp_path):
    """Valid COGs on the scene's grid with scale, nodata, colours and tags, and no time among them."""
    grid = place(700, 900)
    outcome = write(request(tmp_path, grid), np.full(grid.shape, 0.2), [verdict(0, 0, 0.2)])
    for name in ("class", "probability"):
        assert cog_validate(outcome.products[name], strict=True)[0]
        with rasterio.open(outcome.products[name]) as dataset:
            assert (dataset.crs, dataset.transform, dataset.shape) == (grid.crs, grid.transform, grid.shape)
            tags = dataset.tags()
        assert (tags["TOCSIN_HAZARD"], tags["TOCSIN_MODEL"], tags["TOCSIN_MODEL_SHA256"]) == (
            "volcano",
            "volcano",
            "a" * 64,
        )
        assert not [key for key in tags if "TIME" in key.upper() or "DATE" in key.upper()]
    with rasterio.open(outcome.products["probability"]) as dataset:
        assert (dataset.dtypes[0], dataset.nodata, dataset.scales) == ("uint16", 65535, (1e-4,))
    with rasterio.open(outcome.products["class"]) as dataset:
        assert (dataset.dtypes[0], dataset.nodata) == ("uint8", 255)
        assert dataset.colormap(1)[DEFORMING] == (*CLASSES[DEFORMING].colour, 255)
        assert json.loads(dataset.tags()["TOCSIN_CLASSES"]) == {
            str(code): facts.name for code, facts in CLASSES.items()
        }


@pytest.mark.parametrize(
    ("earlier", "later", "times"),
    [
        (EARLIER, LATER, ("2016-10-31T00:00:00Z", "2017-02-04T23:59:59Z", "2017-02-04T00:00:00Z")),
        (
            EARLIER.replace(hour=3),
            LATER.replace(hour=3),
            ("2016-10-31T03:00:00Z", "2017-02-04T03:00:00Z", "2017-02-04T03:00:00Z"),
        ),
        (None, LATER.replace(hour=3), (None, None, "2017-02-04T03:00:00Z")),
        (EARLIER, None, ("2016-10-31T00:00:00Z", "2026-01-02T00:00:00Z", None)),
        (None, None, (MISSION_START.isoformat().replace("+00:00", "Z"), "2026-01-02T00:00:00Z", None)),
    ],
)
def test_the_item_spans_the_pair(tmp_path, earlier, later, times):
    """Its time is the later acquisition, its range the pair; what is unknown is never invented."""
    grid = place(40, 50)
    asked = request(tmp_path, grid, acquired=later, reference_acquired=earlier)
    built = item(write(asked, np.full(grid.shape, 0.2), [verdict(0, 0, 0.2)]))
    validate_dict(built | {"stac_extensions": []})
    said = built["properties"]
    assert (said.get("start_datetime"), said.get("end_datetime"), said["datetime"]) == times
    assert said.get("tocsin:days_between") == (96 if earlier and later else None)


def test_the_item_describes_every_file(tmp_path):
    """Assets with their classes and bands, hazard, summary and title."""
    grid = place(40, 50)
    outcome = write(request(tmp_path, grid, gpkg=True), np.full(grid.shape, 0.2), [verdict(0, 0, 0.2)])
    built = item(outcome)
    assert set(built["assets"]) == set(outcome.products) - {"item"}
    codes = [one["value"] for one in built["assets"]["class"]["classification:classes"]]
    assert codes == [STABLE, DEFORMING, NOT_OBSERVABLE, NO_DATA]
    assert built["assets"]["probability"]["raster:bands"][0]["scale"] == 1e-4
    assert built["properties"]["tocsin:hazard"] == "volcano"
    assert built["properties"]["tocsin:summary"] == outcome.summary.model_dump(mode="json")
    assert pystac.Item.from_file(outcome.products["item"]).assets["class"].title == "Deformation class"


def test_a_picture_gives_class_probability_and_quicklook(tmp_path):
    """Without a place on Earth there are no polygons, item or areas, but detections are counted."""
    grid = place(100, 90, CRS())
    values = np.full(grid.shape, 0.1)
    values[20:40, 20:40], values[60:80, 60:80] = 0.9, 0.8
    outcome = write(request(tmp_path, grid, gpkg=True), values, [verdict(0, 0, 0.9)])
    assert list(outcome.products) == ["probability", "quicklook", "class"]
    assert {str(path) for path in tmp_path.iterdir()} == set(outcome.products.values())
    summary = outcome.summary
    assert (summary.observed_km2, summary.deforming_km2, summary.detections) == (None, None, 2)
    assert summary.verdict == "Deformation, P 0.90, dyke"


def test_no_strips_change_a_byte(tmp_path, simulated, answered):
    """Rasters and polygons are the same files for any strips."""
    _, mask, low = simulated
    grid = place(*mask.shape)
    outcomes = [
        write(
            request(tmp_path / str(height), grid, unobservable=Memory(grid, low)),
            answered,
            [verdict(0, 0, 0.9)],
            height,
        )
        for height in (448, 64, 7)
    ]
    for name in ("class", "probability", "polygons", "quicklook"):
        first, *others = [Path(outcome.products[name]).read_bytes() for outcome in outcomes]
        assert all(other == first for other in others), name
    assert outcomes[0].summary == outcomes[1].summary == outcomes[2].summary


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1)])
def test_the_smallest_scenes_pass(tmp_path, shape):
    """One pixel, one row, one column."""
    outcome = write(request(tmp_path, place(*shape)), np.full(shape, 0.9), [verdict(0, 0, 0.9)])
    assert raster(outcome, "class").shape == shape


def test_existing_products_are_refused_at_once_and_kept(tmp_path):
    """Before any strip is asked for; with overwriting they are replaced."""
    grid = place(40, 50)
    first = write(request(tmp_path, grid), np.full(grid.shape, 0.1), [verdict(0, 0, 0.1)])
    with pytest.raises(ProductExistsError):
        VolcanoProducts(request(tmp_path, grid))
    assert (raster(first, "class") == STABLE).all()
    again = write(replace(request(tmp_path, grid), overwrite=True), np.full(grid.shape, 0.9), [verdict(0, 0, 0.9)])
    assert (raster(again, "class") == DEFORMING).all()


def test_a_failure_half_way_leaves_nothing(tmp_path):
    """Neither products nor working files, whether it comes in a strip or at the end."""
    grid = place(600, 50)
    stored = np.full((600, 50), 9000, np.uint16)

    def broken():
        yield Strip(0, stored[:500])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), VolcanoProducts(request(tmp_path, grid, gpkg=True)) as products:
        products.consume(broken())
    assert list(tmp_path.iterdir()) == []
    with VolcanoProducts(replace(request(tmp_path, grid), sources=())) as products:
        products.consume([Strip(0, stored)])
        with pytest.raises(IndexError):
            products.commit(PROVENANCE, (), [verdict(0, 0, 0.9)])
    assert list(tmp_path.iterdir()) == []
