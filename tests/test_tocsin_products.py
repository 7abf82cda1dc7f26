"""All products of a scene, from strips of probability."""

import json
import weakref
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rio_cogeo.cogeo import cog_validate
from scipy import ndimage
from stand_ins import Memory

from tocsin.chips import Strip
from tocsin.errors import ProductExistsError
from tocsin.grid import Grid
from tocsin.hazards.flood import CLASSES, DRY, FLOOD, NO_DATA, NOT_OBSERVABLE, PERMANENT, WATER
from tocsin.products import FloodProducts, FloodRequest, ModelFacts
from tocsin.result import InputFile, Provenance, ResultWarning
from tocsin.sieve import SIEVE_PX
from tocsin.terrain import NOT_JUDGED, USER

UTM = CRS.from_epsg(32630)
LONLAT = CRS.from_epsg(4326)
FACTS = ModelFacts("flood", "1.0.0", "a" * 64, "fp32", "Apache-2.0", "0.1.0")
PROVENANCE = Provenance(
    model="flood",
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


def scene(height=700, width=530, crs=UTM):
    """Build a grid of 10 m pixels."""
    if crs.is_geographic:
        return Grid(crs, Affine(1e-4, 0, -0.5, 0, -1e-4, 38.0), height, width)
    return Grid(crs, Affine(10, 0, 7e5, 0, -10, 4.2e6), height, width)


def probability(shape, seed=0):
    """Draw blobs of water with specks, holes and a swath edge."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal(shape), 4)
    values = 1 / (1 + np.exp(-40 * (field - 0.03))) + rng.normal(0, 0.08, shape)
    stored = np.clip(np.rint(values * 1e4), 0, 10000).astype(np.uint16)
    stored[np.add.outer(np.arange(shape[0]), np.arange(shape[1])) < shape[0] // 4] = 65535
    return stored


def strips(values, height=448, pre=None):
    """Cut a scene into strips."""
    for row in range(0, len(values), height):
        rows = slice(row, row + height)
        yield Strip(row, values[rows], None if pre is None else pre[rows])


def request(out, grid, **changes):
    """Ask for the products of scene "a"."""
    return FloodRequest(out=out, scene_id="a", grid=grid, threshold=0.5, facts=FACTS, **changes)


def write(asked, values, height=448, pre=None, warnings=()):
    """Write all products and return the outcome."""
    with FloodProducts(asked) as products:
        products.consume(strips(values, height, pre))
        return products.commit(PROVENANCE, warnings)


def raster(outcome, name):
    """Read a raster product."""
    with rasterio.open(outcome.products[name]) as dataset:
        return dataset.read(1)


def features(outcome):
    """Read the polygons."""
    with open(outcome.products["polygons"], encoding="utf-8") as file:  # noqa: PTH123 - products are strings
        return json.load(file)["features"]


@pytest.mark.parametrize("crs", [UTM, LONLAT], ids=["utm", "lonlat"])
def test_no_strips_change_a_byte(tmp_path, crs):
    """Rasters and polygons are the same files for any strips, pre-event scene, DEM and exclusion included."""
    grid = scene(crs=crs)
    values, pre = probability(grid.shape), probability(grid.shape, 1)
    dem = Memory(grid, np.kron(np.random.default_rng(2).uniform(0, 500, (70, 53)), np.ones((10, 10))))
    exclude = Memory(grid, probability(grid.shape, 3) > 9500)
    outcomes = [
        write(request(tmp_path / str(height), grid, pre=True, dem=dem, exclude=exclude), values, height, pre)
        for height in (448, 64, 700)
    ]
    for name in ("class", "probability", "exclusion", "polygons"):
        first, *others = [
            (tmp_path / folder / outcomes[0].products[name].split("/")[-1]).read_bytes()
            for folder in ("448", "64", "700")
        ]
        assert all(other == first for other in others), name
    assert outcomes[0].summary == outcomes[1].summary == outcomes[2].summary


@pytest.mark.parametrize("crs", [UTM, LONLAT], ids=["utm", "lonlat"])
def test_figures_rasters_and_polygons_agree(tmp_path, crs):
    """Areas of polygons, of classes and of the summary are the same; each polygon's probability is its pixels' mean."""
    grid = scene(crs=crs)
    values = probability(grid.shape)
    outcome = write(request(tmp_path, grid, pre=True), values, pre=probability(grid.shape, 1))
    codes = raster(outcome, "class")
    area = np.broadcast_to(grid.pixel_area_km2(0, grid.height), codes.shape)
    summary = outcome.summary
    found = features(outcome)
    assert summary.polygons == len(found) > 20
    assert summary.observed_km2 == pytest.approx(area[codes < 254].sum(), rel=1e-6)
    assert summary.water_km2 == pytest.approx(
        summary.flood_km2 + summary.permanent_km2 + area[codes == WATER].sum(), rel=1e-6
    )
    for code, km2 in ((FLOOD, summary.flood_km2), (PERMANENT, summary.permanent_km2)):
        assert km2 == pytest.approx(area[codes == code].sum(), rel=1e-6)
        assert km2 == pytest.approx(
            sum(f["properties"]["area_km2"] for f in found if f["properties"]["class"] == code), abs=1e-8
        )
    largest = max(found, key=lambda feature: feature["properties"]["area_km2"])["properties"]
    labels, _ = ndimage.label(codes == largest["class"])
    inside = labels == labels.ravel()[largest["id"]]
    assert largest["probability"] == pytest.approx(values[inside].mean() * 1e-4, abs=6e-5)
    assert outcome.valid_fraction == pytest.approx((codes != NO_DATA).mean())


def test_the_class_follows_from_the_stored_probability(tmp_path):
    """Probability is stored as given; the class is its threshold, but for patches below the sieve's size."""
    grid = scene()
    values = probability(grid.shape)
    outcome = write(request(tmp_path, grid), values)
    assert np.array_equal(raster(outcome, "probability"), values)
    codes = raster(outcome, "class")
    assert np.array_equal(codes == NO_DATA, values == 65535)
    assert set(np.unique(codes)) == {DRY, WATER, NO_DATA}
    changed, count = ndimage.label((codes == WATER) != ((values >= 5000) & (values != 65535)))
    assert count > 20
    water, _ = ndimage.label(codes == WATER)
    assert np.bincount(water.ravel())[1:].min() >= SIEVE_PX
    assert changed.max() == count


def test_rasters_are_cogs_that_explain_themselves(tmp_path):
    """Valid COGs on the scene's grid with scale, nodata, colours and tags, and no time among them."""
    grid = scene(1100, 1300)
    exclude = Memory(grid, np.eye(1100, 1300))
    outcome = write(request(tmp_path, grid, exclude=exclude), probability(grid.shape))
    for name in ("class", "probability", "exclusion"):
        assert cog_validate(outcome.products[name], strict=True)[0]
        with rasterio.open(outcome.products[name]) as dataset:
            assert (dataset.crs, dataset.transform, dataset.shape) == (grid.crs, grid.transform, grid.shape)
            tags = dataset.tags()
            assert dataset.overviews(1)
        assert (tags["TOCSIN_MODEL"], tags["TOCSIN_MODEL_SHA256"], tags["TOCSIN_VERSION"]) == (
            "flood",
            "a" * 64,
            "0.1.0",
        )
        assert not [key for key in tags if "TIME" in key.upper() or "DATE" in key.upper()]
    with rasterio.open(outcome.products["probability"]) as dataset:
        assert (dataset.dtypes[0], dataset.nodata, dataset.scales, dataset.offsets) == (
            "uint16",
            65535,
            (1e-4,),
            (0.0,),
        )
    with rasterio.open(outcome.products["class"]) as dataset:
        assert (dataset.dtypes[0], dataset.nodata) == ("uint8", 255)
        assert dataset.colormap(1)[WATER] == (*CLASSES[WATER].colour, 255)
        assert dataset.tags()["TOCSIN_SIEVE_PX"] == str(SIEVE_PX)
        assert dataset.tags()["TOCSIN_SIEVE_KM2"] == "0.001"


def test_only_what_was_asked_is_made(tmp_path):
    """Five products always; exclusion and GeoPackage when asked for."""
    grid = scene(60, 50)
    values = probability(grid.shape)
    always = {"class", "probability", "polygons", "quicklook", "item"}
    assert set(write(request(tmp_path / "a", grid), values).products) == always
    more = write(request(tmp_path / "b", grid, exclude=Memory(grid, np.zeros(grid.shape)), gpkg=True), values)
    assert set(more.products) == always | {"exclusion", "geopackage"}
    assert {str(path) for path in (tmp_path / "b").iterdir()} == set(more.products.values())
    with open(more.products["item"], encoding="utf-8") as file:  # noqa: PTH123 - products are strings
        assert set(json.load(file)["assets"]) == set(more.products) - {"item"}


def test_what_radar_cannot_judge_is_never_dry_nor_observed(tmp_path):
    """Excluded pixels are 254 and count for nothing; no data stays 255."""
    grid = scene(80, 90)
    values = np.full(grid.shape, 9000, dtype=np.uint16)
    values[:10] = 65535
    excluded = np.zeros(grid.shape)
    excluded[5:40] = 1
    excluded[40:50] = np.nan
    outcome = write(request(tmp_path, grid, exclude=Memory(grid, excluded)), values)
    codes = raster(outcome, "class")
    assert (codes[:10] == NO_DATA).all()
    assert (codes[10:40] == NOT_OBSERVABLE).all()
    assert (codes[40:] == WATER).all()
    assert set(np.unique(raster(outcome, "exclusion")[5:40])) == {USER}
    assert outcome.summary.observed_km2 == outcome.summary.water_km2 == pytest.approx(40 * 90 * 1e-4, rel=2e-3)


def test_a_dem_that_knows_half_judges_half_and_says_so(tmp_path):
    """Without a height nothing was judged: no data in the exclusion raster, the radar's word in the class."""
    grid = scene(80, 90)
    heights = np.zeros(grid.shape)
    heights[:, 45:] = np.nan
    excluded = np.zeros(grid.shape)
    excluded[:20] = 1
    asked = request(tmp_path, grid, dem=Memory(grid, heights), exclude=Memory(grid, excluded))
    outcome = write(asked, np.full(grid.shape, 9000, dtype=np.uint16))
    bits = raster(outcome, "exclusion")
    assert (bits[20:, 45:] == NOT_JUDGED).all()
    assert (bits[20:, :45] == 0).all()
    assert (bits[:20] == USER).all()
    assert (raster(outcome, "class")[20:] == WATER).all()
    codes = {warning.code: warning.message for warning in outcome.warnings}
    assert set(codes) == {"orbit_pass_unknown", "incidence_unknown", "dem_incomplete"}
    assert "50.0%" in codes["dem_incomplete"]


def test_known_geometry_and_full_dem_need_no_warning(tmp_path):
    """Only what is unknown is warned of; what was known before comes first."""
    grid = scene(60, 50)
    asked = request(tmp_path, grid, dem=Memory(grid, np.zeros(grid.shape)), orbit_pass="descending", incidence_deg=35)
    known = ResultWarning(code="time_unknown", message="time unknown")
    outcome = write(asked, np.full(grid.shape, 100, dtype=np.uint16), warnings=(known,))
    assert outcome.warnings == (known,)
    with rasterio.open(outcome.products["exclusion"]) as dataset:
        tags = dataset.tags()
    assert (tags["TOCSIN_ORBIT_PASS"], tags["TOCSIN_INCIDENCE_DEG"]) == ("descending", "35")
    assert float(tags["TOCSIN_LOOK_AZIMUTH_DEG"]) == pytest.approx(283.5, abs=1)


def test_reference_water_and_pre_event_water_are_permanent(tmp_path):
    """Either says permanent; where both are unknown water stays water, with a warning."""
    grid = scene(90, 90)
    values = np.full(grid.shape, 9000, dtype=np.uint16)
    pre = np.full(grid.shape, 65535, dtype=np.uint16)
    reference = np.full(grid.shape, np.nan)
    pre[:30], reference[:, :30] = 9000, 0
    pre[60:, :60] = 100
    outcome = write(request(tmp_path, grid, pre=True, reference_water=Memory(grid, reference)), values, pre=pre)
    codes = raster(outcome, "class")
    assert (codes[:30] == PERMANENT).all()
    assert (codes[30:, :30] == FLOOD).all()
    assert (codes[60:, :60] == FLOOD).all()
    assert (codes[30:60, 30:] == WATER).all()
    assert [warning.code for warning in outcome.warnings] == ["reference_incomplete"]
    assert outcome.summary.water_km2 > outcome.summary.flood_km2 + outcome.summary.permanent_km2


def test_a_small_island_in_a_lake_never_becomes_flood(tmp_path):
    """A hole that the sieve fills is filled in permanent water too."""
    grid = scene(90, 90)
    values = np.full(grid.shape, 9000, dtype=np.uint16)
    values[40:42, 40:42] = 100
    outcome = write(request(tmp_path, grid, pre=True), values, pre=values)
    assert (raster(outcome, "class") == PERMANENT).all()
    assert outcome.summary.flood_km2 == 0


def test_outside_the_area_of_interest_is_no_data(tmp_path):
    """In both rasters and in all figures."""
    grid = scene(80, 90)
    inside = np.zeros(grid.shape)
    inside[:, :30] = 1
    outcome = write(request(tmp_path, grid, aoi=Memory(grid, inside)), np.full(grid.shape, 9000, dtype=np.uint16))
    assert (raster(outcome, "class")[:, 30:] == NO_DATA).all()
    assert (raster(outcome, "probability")[:, 30:] == 65535).all()
    assert outcome.valid_fraction == pytest.approx(1 / 3)


def test_a_scene_without_data_gives_empty_products(tmp_path):
    """No error: everything is no data, and the picture and a warning say so."""
    grid = scene(40, 50)
    outcome = write(request(tmp_path, grid), np.full(grid.shape, 65535, dtype=np.uint16))
    assert (raster(outcome, "class") == NO_DATA).all()
    assert outcome.valid_fraction == 0
    assert outcome.summary.observed_km2 == 0
    assert features(outcome) == []
    assert [warning.code for warning in outcome.warnings] == ["empty"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1)])
def test_the_smallest_scenes_pass(tmp_path, shape):
    """One pixel, one row, one column."""
    grid = scene(*shape)
    outcome = write(request(tmp_path, grid), np.full(shape, 9000, dtype=np.uint16), 64)
    assert raster(outcome, "class").shape == shape
    assert outcome.summary.observed_km2 == pytest.approx(shape[0] * shape[1] * 1e-4, rel=2e-3)


def test_existing_products_are_refused_at_once_and_kept(tmp_path):
    """Before any strip is asked for; with overwriting they are replaced."""
    grid = scene(40, 50)
    first = write(request(tmp_path, grid), np.full(grid.shape, 100, dtype=np.uint16))
    with pytest.raises(ProductExistsError):
        FloodProducts(request(tmp_path, grid))
    assert (raster(first, "class") == DRY).all()
    again = write(replace(request(tmp_path, grid), overwrite=True), np.full(grid.shape, 9000, dtype=np.uint16))
    assert (raster(again, "class") == WATER).all()


def test_a_failure_half_way_leaves_nothing(tmp_path):
    """Neither products nor working files."""
    grid = scene()

    def broken():
        yield Strip(0, probability(grid.shape)[:600])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), FloodProducts(request(tmp_path, grid, gpkg=True)) as products:
        products.consume(broken())
    assert list(tmp_path.iterdir()) == []


def test_strips_are_taken_one_by_one(tmp_path):
    """When a strip is asked for, all but a few rows before it have left for their files."""
    grid = scene(6000, 64)
    behind = []
    with FloodProducts(request(tmp_path, grid, pre=True)) as products:
        written = []
        original = products._write
        products._write = lambda rows, *rest: (written.append(len(rows.codes)), original(rows, *rest))

        def watched():
            for strip in strips(probability(grid.shape), 100, probability(grid.shape, 1)):
                behind.append(strip.row - sum(written))
                yield strip

        products.consume(watched())
    assert max(behind) <= 512


def test_strips_are_let_go(tmp_path):
    """A strip's array is free once its rows have left: memory does not grow with the number of strips."""
    grid = scene(6000, 64)
    alive = []

    def watched():
        for strip in strips(probability(grid.shape), 100, probability(grid.shape, 1)):
            own = Strip(strip.row, strip.probability.copy(), strip.pre_probability.copy())
            alive.append(weakref.ref(own.probability))
            yield own
            del own
            assert sum(reference() is not None for reference in alive) <= 10

    with FloodProducts(request(tmp_path, grid, pre=True)) as products:
        products.consume(watched())
