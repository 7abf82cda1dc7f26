"""A whole scoring with a graph whose answer is known: what comes out, what is refused, what an accident leaves."""

import hashlib
import json
import signal
from datetime import UTC, datetime

import numpy as np
import pytest
import rasterio

import tocsin
from tocsin import scoring
from tocsin.chips import plan, quantise
from tocsin.errors import (
    InterruptedScoringError,
    ModelUnknownError,
    ProductExistsError,
    RuntimeUnavailableError,
    StorageFullError,
    TruncatedError,
    UsageError,
)
from tocsin.raster import Backscatter
from tocsin.result import FloodSummary, ScoringPlan
from tocsin.runtimes.fake import FakeRuntime
from tocsin.scoring import ScoringOptions, expected_peak_bytes

CHIP = 64
ENDINGS = {
    "class": "class.tif",
    "probability": "probability.tif",
    "polygons": "polygons.geojson",
    "quicklook": "quicklook.png",
    "item": "item.json",
}


def water_probability(vh_db):
    """What the graph of these tests answers: logistic in VH, one half at -21 dB."""
    return 1 / (1 + np.exp(np.float32(vh_db) + np.float32(21)))


def read(result, product):
    """Band of a product as it is stored."""
    with rasterio.open(result.products[product]) as raster:
        return raster.read(1)


@pytest.fixture
def scene(tmp_path, backscatter, write_raster):
    """Scene of 3 x 3 windows with water on its left and a hole in its middle."""
    values = backscatter(150, 130)
    values[:, 70:90, 30:70] = np.nan
    return write_raster(tmp_path / "in" / "scene.tif", values, ACQUISITION_START="2024-10-31T18:03:04Z")


def hidden_and_visible(folder):
    """Names in a folder, hidden ones included; none when it does not exist."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_known_answer(score_flood, scene):
    """Probability is the graph's at every valid pixel, class its threshold, no data where nothing was seen."""
    result = score_flood(scene)
    with rasterio.open(scene) as raster:
        vh_db = raster.read(2)
    expected = quantise(water_probability(vh_db).astype(np.float32))
    probability, classes = read(result, "probability"), read(result, "class")
    np.testing.assert_allclose(probability.astype(int), expected.astype(int), atol=1)
    np.testing.assert_array_equal(probability == 65535, np.isnan(vh_db))
    np.testing.assert_array_equal(classes, np.where(np.isnan(vh_db), 255, (vh_db < -21).astype(int)))


def test_result_says_what_ran(score_flood, scene, logistic_models):
    """The result states scene, model, runtime and inputs as they are."""
    result = score_flood(scene)
    assert (result.hazard, result.status) == ("flood", "ok")
    assert (result.scene.id, result.scene.crs, result.scene.shape) == ("scene", "EPSG:32630", (150, 130))
    assert result.scene.bounds == pytest.approx((5e5, 4.4e6 - 1500, 5e5 + 1300, 4.4e6))
    assert result.scene.valid_fraction == pytest.approx(1 - 20 * 40 / (150 * 130))
    assert result.scene.acquired == datetime(2024, 10, 31, 18, 3, 4, tzinfo=UTC)
    ran = result.provenance
    assert (ran.model, ran.version, ran.precision, ran.runtime, ran.device) == ("flood", "0.0.1", "fp32", "onnx", "cpu")
    assert ran.sha256 == hashlib.sha256((logistic_models / "flood/1/model.onnx").read_bytes()).hexdigest()
    assert (ran.threshold, ran.resampled, ran.tocsin) == (0.5, None, tocsin.__version__)
    assert [item.sha256 for item in ran.inputs] == [hashlib.sha256(scene.read_bytes()).hexdigest()]
    assert result.warnings == ()
    assert isinstance(result.summary, FloodSummary)
    assert result.summary.observed_km2 == pytest.approx((150 * 130 - 800) * 1e-4, rel=2e-3)


def test_products_and_nothing_else(score_flood, scene, tmp_path):
    """All products are there under the scene's name, and no working file."""
    result = score_flood(scene)
    names = {name: tmp_path / "out" / f"scene_{ending}" for name, ending in ENDINGS.items()}
    assert {name: str(path) for name, path in names.items()} == dict(result.products)
    assert hidden_and_visible(tmp_path / "out") == sorted(path.name for path in names.values())


@pytest.mark.parametrize(
    "options", [{"batch": 3}, {"batch": 64}, {"threads": 1}, {"threads": 4}, {"options": ScoringOptions}]
)
def test_how_it_runs_changes_no_class(score_flood, scene, tmp_path, logistic_models, options):
    """Batch size, threads and the way options are passed leave class, probability and polygons as they are."""
    first = score_flood(scene, overlap=20)
    if "options" in options:
        chosen = ScoringOptions(overlap=20, model_repository=logistic_models, quiet=True)
        second = tocsin.score("flood", post=scene, out=tmp_path / "other", options=chosen)
    else:
        second = score_flood(scene, tmp_path / "other", overlap=20, **options)
    for product in ("class", "probability"):
        np.testing.assert_array_equal(read(first, product), read(second, product))
    polygons = [json.loads((tmp_path / folder / "scene_polygons.geojson").read_text()) for folder in ("out", "other")]
    assert polygons[0]["features"] == polygons[1]["features"]


def test_all_no_data_is_no_error(score_flood, tmp_path, write_raster):
    """A scene without a valid pixel gives status empty and rasters that are all no data."""
    result = score_flood(write_raster(tmp_path / "void.tif", np.full((2, 100, 70), np.nan, np.float32)))
    assert result.status == "empty"
    assert result.scene.valid_fraction == 0
    assert (read(result, "class") == 255).all()
    assert (read(result, "probability") == 65535).all()
    assert result.summary.observed_km2 == 0


def test_one_pixel(score_flood, tmp_path, backscatter, write_raster):
    """A scene of one pixel is scored like any other."""
    result = score_flood(write_raster(tmp_path / "dot.tif", backscatter(1, 1)))
    assert read(result, "class").shape == (1, 1)
    assert result.status == "ok"


def test_dry_run_plans_and_writes_nothing(score_flood, scene, tmp_path):
    """A dry run counts windows, memory and bytes, and makes not even the folder."""
    result = score_flood(scene, dry_run=True, overlap=4)
    assert isinstance(result.summary, ScoringPlan)
    assert result.summary.windows == len(plan((150, 130), CHIP, 4)) == 9
    assert result.summary.windows_to_run == 9
    assert result.summary.expected_peak_bytes > 100e6
    assert result.summary.bytes_to_write >= 3 * 150 * 130
    assert (result.status, result.products, result.scene.valid_fraction) == ("ok", {}, None)
    assert result.provenance.inputs[0].sha256 is None
    assert not (tmp_path / "out").exists()


def test_expected_peak_grows_with_width_only():
    """The expected peak knows the width of a scene, not its height."""
    low, high, wide = (plan(shape, 512, 64) for shape in ((1024, 8192), (9000, 8192), (1024, 16384)))
    assert expected_peak_bytes(low, 8192, 1) == expected_peak_bytes(high, 8192, 1)
    assert expected_peak_bytes(wide, 16384, 1) > expected_peak_bytes(low, 8192, 1)
    assert expected_peak_bytes(low, 8192, 2) > expected_peak_bytes(low, 8192, 1)


@pytest.mark.parametrize(
    ("named", "error", "said"),
    [
        ({"hazard": "fire"}, UsageError, "flood, landslide, volcano"),
        ({"hazard": "landslide"}, UsageError, "pre"),
        ({"hazard": "landslide", "pre": "before.tif"}, ModelUnknownError, "landslide"),
        ({"hazard": "volcano"}, UsageError, "post.*inputs.*interferogram"),
        ({"posts": "x"}, UsageError, "posts.*inputs.*post.*options.*overlap"),
        ({"overlap": CHIP}, UsageError, "0 to 63"),
        ({"overlap": -1}, UsageError, "overlap"),
        ({"threshold": 1.5}, UsageError, "threshold"),
        ({"units": "amplitude"}, UsageError, "units"),
        ({"options": ScoringOptions(), "overlap": 3}, UsageError, "overlap"),
        ({"runtime": "tensorrt"}, RuntimeUnavailableError, "tensorrt"),
        ({"precision": "int8"}, ModelUnknownError, "int8"),
    ],
)
def test_wrong_options_are_refused(scene, logistic_models, tmp_path, named, error, said):
    """What does not exist is refused with what does, before anything is written."""
    hazard = named.pop("hazard", "flood")
    if "options" not in named:
        named["model_repository"] = logistic_models
    with pytest.raises(error, match=said):
        tocsin.score(hazard, post=scene, out=tmp_path / "out", **named)
    assert hidden_and_visible(tmp_path / "out") == []


def test_missing_scene_is_usage(logistic_models, tmp_path):
    """Leaving out the scene is refused by name."""
    with pytest.raises(UsageError, match="post"):
        tocsin.score("flood", out=tmp_path / "out", model_repository=logistic_models)


def test_existing_product_is_kept(score_flood, scene, tmp_path):
    """A product that exists is refused and kept unless overwriting was asked for."""
    first = score_flood(scene)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(ProductExistsError):
        score_flood(scene, threshold=0.999)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    second = score_flood(scene, threshold=0.999, overwrite=True)
    assert (read(second, "class") == 1).sum() == 0
    assert second.products == first.products


class Interrupting(FakeRuntime):
    """Sends the signal of Ctrl-C to its own process at the third chip."""

    def run(self, inputs):
        """As the fake."""
        if self.calls == 2:
            signal.raise_signal(signal.SIGINT)
        return super().run(inputs)


def broken(error):
    """A runtime that fails at the third chip."""

    def function(inputs):
        if fake.calls == 3:
            raise error
        return {"water": inputs["s1"][:, :1] * 0}

    fake = FakeRuntime(function)
    return fake


def test_interrupt_leaves_nothing(score_flood, scene, tmp_path, monkeypatch):
    """Ctrl-C ends as `interrupted`, without a partial product, and a former product is kept."""
    score_flood(scene)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(scoring, "open_runtime", lambda *_: Interrupting(lambda inputs: {"water": inputs["s1"][:, :1]}))
    with pytest.raises(InterruptedScoringError) as caught:
        score_flood(scene, overwrite=True)
    assert caught.value.exit_code == 6
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("stage", ["reader", "runtime", "writer", "commit"])
def test_failing_stage_leaves_nothing(score_flood, scene, tmp_path, monkeypatch, stage):
    """Whichever stage fails, its own error comes out and no file is left."""
    errors = {
        "reader": TruncatedError("a", "b", "c"),
        "runtime": RuntimeUnavailableError("a", "b", "c"),
        "writer": StorageFullError("a", "b", "c"),
        "commit": StorageFullError("a", "b", "c"),
    }

    def fail(*_arguments, **_named):
        raise errors[stage]

    if stage == "runtime":
        monkeypatch.setattr(scoring, "open_runtime", lambda *_: broken(errors[stage]))
    elif stage == "reader":
        monkeypatch.setattr(Backscatter, "read", fail)
    elif stage == "writer":
        monkeypatch.setattr("tocsin.raster.RasterWriter.write_rows", fail)
    else:
        monkeypatch.setattr("tocsin.raster.RasterWriter.commit", fail)
    with pytest.raises(type(errors[stage])) as caught:
        score_flood(scene)
    assert caught.value is errors[stage]
    assert hidden_and_visible(tmp_path / "out") == []


def test_public_options_are_pinned():
    """The options of a scoring are these; a new one is a decision."""
    assert set(ScoringOptions.model_fields) == {
        "runtime",
        "device",
        "precision",
        "threads",
        "model_repository",
        "overlap",
        "threshold",
        "aoi",
        "datetime",
        "overwrite",
        "dry_run",
        "quiet",
        "gpkg",
        "batch",
        "deadline_s",
        "shared_memory",
    }


@pytest.fixture(scope="module")
def shipped():
    """The shipped model's repository."""
    from tocsin.repository import find_repository, list_models

    repository = find_repository()
    if "flood" not in list_models(repository):
        pytest.skip("model_repository/flood was not exported")
    return repository


def test_shipped_model_does_not_depend_on_how_it_runs(shipped, tmp_path, write_raster):
    """With the shipped model batch size and threads change no class raster and no polygon, nor does a second run."""
    from tocsin.simulate import FloodSettings, NumpyRandom, flood_scene

    settings = FloodSettings(water_share=0.3, swath_edge_share=1.0, pre_event=False)
    values = np.asarray(flood_scene(NumpyRandom(5), (600, 700), settings).post_db, np.float32)
    post = write_raster(tmp_path / "scene.tif", values)
    found = []
    for number, options in enumerate(({}, {}, {"threads": 1}, {"threads": 4, "batch": 3})):
        out = tmp_path / str(number)
        result = tocsin.score("flood", post=post, out=out, model_repository=shipped, quiet=True, **options)
        polygons = json.loads((out / "scene_polygons.geojson").read_text())["features"]
        found.append(([read(result, name) for name in ("class", "probability")], polygons))
    assert {0, 1} <= set(np.unique(found[0][0][0]))
    for rasters, polygons in found[1:]:
        np.testing.assert_array_equal(rasters[0], found[0][0][0])
        np.testing.assert_array_equal(rasters[1], found[0][0][1])
        assert polygons == found[0][1]


def test_flood_results_keep_their_keys(score_flood, tmp_path, backscatter, write_raster):
    """The pixel sizes of scales stand in results of volcanoes only."""
    result = score_flood(write_raster(tmp_path / "scene.tif", backscatter(64, 64)))
    assert "scales_m" not in json.loads(result.to_json())["provenance"]
