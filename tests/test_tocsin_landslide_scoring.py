"""A whole landslide scoring with a graph whose answer is known: chips, cells, missing data, what is refused."""

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from stand_ins import InterruptedRuntime

import tocsin
from tocsin import scoring
from tocsin.chips import quantise
from tocsin.errors import InterruptedScoringError, ModelInvalidError, ProductExistsError, UsageError
from tocsin.grid import Grid, Window
from tocsin.hazards.landslide import CHIP, NO_DATA, STEP
from tocsin.inference import Chip
from tocsin.landslide_inference import Ahead, LandslideInference, windows_of
from tocsin.result import ScoringPlan
from tocsin.runtimes.fake import FakeRuntime

PRE = ("2024-01-01T18:00:00Z", "2024-01-13T18:00:10Z", "2024-01-25T18:00:20Z")
POST = ("2024-02-06T18:00:00Z", "2024-02-18T18:00:00Z", "2024-03-01T18:00:00Z")


def mean_of(values, axis):
    """Mean of what is not NaN; NaN where nothing is, without a word."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis=axis, dtype=np.float32) / known.sum(axis=axis, dtype=np.float32)


def answer(pre, post):
    """What the graph of these tests answers for pixels; sides float32 [acquisition, band, row, col]."""
    return np.clip((mean_of(pre, (0, 1)) - mean_of(post, (0, 1))) / np.float32(6), 0, 1)


def respond(inputs):
    """Answer as that graph does."""
    mask = np.stack([answer(*pair) for pair in zip(inputs["pre"], inputs["post"], strict=True)])[:, None]
    share = mean_of(mask, (1, 2, 3))[:, None]
    shares = np.concatenate([1 - share, share - share**2, share**2], axis=1)
    return {"density_class": shares, "density": 60 * share, "mask": mask}


def sides(height, width, seed=2, counts=(2, 3), gap=0.1):
    """Return backscatter before and after, [acquisition, 2, height, width] dB each, with missing pixels."""
    random = np.random.default_rng(seed)
    fall = 6 * random.random((height, width))
    made = []
    for count, change in zip(counts, (0, fall), strict=True):
        values = np.array([-10, -16])[:, None, None] + random.normal(0, 1, (count, 2, height, width)) - change
        values[random.random((count, 1, height, width)).repeat(2, axis=1) < gap] = np.nan
        made.append(values.astype(np.float32))
    return made


@pytest.fixture
def write(tmp_path, write_raster):
    """Return a function that writes both sides and returns their names as inputs."""

    def make(pre, post, size_m=10.0, folder="in", **tags):
        at = Affine(size_m, 0.0, 5e5, 0.0, -size_m, 4.4e6)
        named = {}
        for side, stack, times in (("pre", pre, PRE), ("post", post, POST)):
            named[side] = [
                write_raster(
                    tmp_path / folder / f"{side}{number}.tif", image, transform=at, ACQUISITION_START=when, **tags
                )
                for number, (image, when) in enumerate(zip(stack, times, strict=False))
            ]
        return named

    return make


@pytest.fixture
def score(landslide_models, tmp_path):
    """Return a function that scores with that model, by default into a folder `out` of the test."""

    def run(out=tmp_path / "out", **named):
        named.setdefault("model_repository", landslide_models)
        return tocsin.score("landslide", out=out, quiet=True, **named)

    return run


def read(result, product):
    """Band of a product as it is stored."""
    with rasterio.open(result.products[product]) as raster:
        return raster.read(1)


def features(result):
    """Cells with landslides, in the order of the file."""
    return json.loads(Path(result.products["polygons"]).read_text())["features"]


def codes(result):
    """Codes of the warnings, those of noise aside."""
    return [warning.code for warning in result.warnings if warning.code != "mask_beside_cells"]


@pytest.mark.parametrize("shape", [(1, 1), (5, 70), (128, 64), (129, 200), (3 * CHIP + 7, 3 * CHIP + 7)])
def test_every_valid_pixel_gets_its_own_answer(score, write, shape):
    """From 1 px to 3 chips + 7 px, chips and mosaic add nothing: what a pixel answers comes out, and nothing else."""
    pre, post = sides(*shape, gap=0.0 if shape == (1, 1) else 0.5)
    result = score(**write(pre, post))
    expected = answer(pre, post)
    stored = read(result, "mask")
    np.testing.assert_array_equal(stored == 65535, np.isnan(expected))
    difference = stored.astype(float) - 1e4 * np.nan_to_num(expected, nan=6.5535)
    assert np.abs(difference).max() <= 0.5 + 0.01
    assert result.status == "ok"
    assert read(result, "class").shape == (-(-shape[0] // STEP), -(-shape[1] // STEP))


def test_cells_are_means_of_chips(score, write):
    """Probability and density of a cell are the mean over the four chips around it, what lies outside being missing."""
    pre, post = sides(170, 230)
    result = score(**write(pre, post), threshold=0.45)
    mask = np.pad(answer(pre, post), STEP, constant_values=np.nan)
    share = np.full((4, 5), np.nan)
    for row, col in np.ndindex(4, 5):
        share[row, col] = np.nanmean(mask[row * STEP : row * STEP + CHIP, col * STEP : col * STEP + CHIP])
    mean = (share[:-1, :-1] + share[1:, :-1] + share[:-1, 1:] + share[1:, 1:]) / 4
    np.testing.assert_allclose(read(result, "density"), 60 * mean, atol=6e-4)
    assert np.abs(read(result, "probability") - 1e4 * mean).max() <= 0.51
    square = share**2
    high = (square[:-1, :-1] + square[1:, :-1] + square[:-1, 1:] + square[1:, 1:]) / 4
    np.testing.assert_array_equal(read(result, "class"), (mean >= 0.45).astype(int) + ((mean >= 0.45) & (high >= 0.45)))
    assert (result.summary.cells, result.scene.shape) == (12, (170, 230))
    observed = np.isfinite(answer(pre, post)).sum() * 1e-4
    assert result.summary.observed_km2 == pytest.approx(observed, rel=2e-3)
    assert result.summary.days_between == pytest.approx(24 if len(pre) == 2 else 12, abs=1e-3)


@pytest.mark.parametrize("options", [{"batch": 3}, {"batch": 64}, {"threads": 1}, {"threads": 3}])
def test_how_it_runs_changes_nothing(score, write, tmp_path, options):
    """Batch size and threads leave classes and rank as they are, and all else but for the last stored digit."""
    named = write(*sides(150, 170)) | {"threshold": 0.4}
    first, second = score(**named), score(out=tmp_path / "other", **named, **options)
    np.testing.assert_array_equal(read(first, "class"), read(second, "class"))
    for product, step in (("probability", 1), ("density", 1.1e-3), ("mask", 1)):
        np.testing.assert_allclose(read(first, product), read(second, product), atol=step, rtol=0)
    ranked = [features(each) for each in (first, second)]
    assert [one["id"] for one in ranked[0]] == [one["id"] for one in ranked[1]]
    assert ranked[0][0]["properties"]["rank"] == 1
    again = score(out=tmp_path / "again", **named)
    for product in ("class", "probability", "density", "mask", "polygons"):
        assert Path(again.products[product]).read_bytes() == Path(first.products[product]).read_bytes()


def test_the_order_of_windows_changes_nothing():
    """Windows may come in any order and in any batches: mask and answers are the same."""
    grid = Grid(CRS.from_epsg(32630), Affine(10, 0, 5e5, 0, -10, 4.4e6), 150, 170)
    random, found = np.random.default_rng(3), []
    chips = [Chip(window, (random.normal(-15, 2, (13, CHIP, CHIP)).astype(np.float32),)) for window in windows_of(grid)]
    for seed in range(3):
        inference = LandslideInference(FakeRuntime(respond), grid, batch=seed + 1)
        order = np.random.default_rng(seed).permutation(len(chips)) if seed else range(len(chips))
        strips = list(inference.strips(inference.results(chips[at] for at in order)))
        assert [strip.row for strip in strips] == np.cumsum(
            [0, *(len(each.probability) for each in strips[:-1])]
        ).tolist()
        found.append((np.concatenate([strip.probability for strip in strips]), inference.answers.means()))
    for mask, means in found[1:]:
        np.testing.assert_array_equal(mask, found[0][0])
        np.testing.assert_array_equal(means, found[0][1])
    assert found[0][0].shape == grid.shape


def test_rows_are_read_some_steps_at_once():
    """Whatever windows are asked for from the top down, they hold the source's pixels, and few rows are read again."""

    class Counted:
        """A source that notes which rows are read."""

        grid = Grid(CRS.from_epsg(32630), Affine(10, 0, 5e5, 0, -10, 4.4e6), 300, 3 << 13)
        rows: ClassVar[list[int]] = []

        def read(self, window):
            """Return row numbers."""
            self.rows.extend(range(window.row, window.row_stop))
            numbers = np.arange(window.row, window.row_stop, dtype=np.float32)
            return np.broadcast_to(numbers[None, :, None], (1, *window.shape))

    source = Counted()
    ahead = Ahead(source, layers=1)
    for row in range(-STEP, 300, STEP):
        got = ahead.read(Window(row, 100, STEP + 10, 5))
        expected = np.arange(row, row + STEP + 10, dtype=np.float32)
        expected[(expected < 0) | (expected >= 300)] = np.nan
        np.testing.assert_array_equal(got, np.broadcast_to(expected[None, :, None], got.shape))
    assert sorted(set(source.rows)) == list(range(300))
    assert len(source.rows) < 2 * 300


def test_one_side_alone_is_no_data(score, write):
    """Where nothing was seen before, or nothing after, there is no data; one band of one acquisition is enough."""
    pre, post = sides(128, 192, gap=0.0)
    pre[:, :, :64], post[:, :, 64:] = np.nan, np.nan
    result = score(**write(pre, post))
    assert result.status == "empty"
    assert (read(result, "class") == NO_DATA).all()
    assert (read(result, "mask") == 65535).all()
    assert np.isnan(read(result, "density")).all()
    summary = result.summary
    assert (summary.observed_km2, summary.cells, summary.expected_landslides) == (0, 0, None)
    assert summary.expected_landslides_interval is None
    pre, post = sides(128, 192, gap=0.0)
    pre[:, 0, :64], post[1:], post[0, 1, 64:] = np.nan, np.nan, np.nan
    whole = score(**write(pre, post), overwrite=True)
    assert (read(whole, "mask") < 65535).all()
    post[:, :, :, :128] = np.nan
    right = score(**write(pre, post), overwrite=True)
    assert (read(right, "class") == NO_DATA).tolist() == [[True, True, False]] * 2
    assert right.scene.valid_fraction == pytest.approx(1 / 3)


NODATA = {
    "NaN": (np.nan, np.nan),
    "undeclared NaN": (np.nan, None),
    "declared": (-9999.0, -9999.0),
    "declared 0 that is also a value": (0.0, 0.0),
    "alpha": (-12.5, None),
}


@pytest.mark.parametrize("kind", NODATA)
def test_what_is_stored_under_nodata_changes_nothing(score, tmp_path, kind):
    """However a file marks missing pixels, every product is the same."""
    fill, declared = NODATA[kind]
    pre, post = sides(90, 100)
    alpha = kind == "alpha"
    named = {}
    for side, stack, times in (("pre", pre, PRE), ("post", post, POST)):
        named[side] = []
        for number, (image, when) in enumerate(zip(stack, times, strict=False)):
            path = tmp_path / f"{side}{number}.tif"
            profile = {"driver": "GTiff", "dtype": "float32", "count": 2 + alpha, "height": 90, "width": 100}
            profile |= {"nodata": declared, "crs": "EPSG:32630", "transform": Affine(10, 0, 5e5, 0, -10, 4.4e6)}
            with rasterio.open(path, "w", **profile) as file:
                file.write(np.where(np.isnan(image), np.float32(fill), image), (1, 2))
                file.descriptions = ("VV", "VH", "alpha")[: 2 + alpha]
                if alpha:
                    file.write(np.where(np.isnan(image[0]), 0, 255).astype(np.float32), 3)
                    file.colorinterp = (*file.colorinterp[:2], rasterio.enums.ColorInterp.alpha)
                file.update_tags(ACQUISITION_START=when)
            named[side].append(path)
    result = score(**named)
    np.testing.assert_allclose(read(result, "mask"), quantise(answer(pre, post)), atol=1)
    np.testing.assert_array_equal(read(result, "mask") == 65535, np.isnan(answer(pre, post)))


def test_coarse_pixels_come_back_on_their_own_grid(score, write):
    """30 m runs at 10 m and comes back at 30 m; a pixel without both sides stays no data, whatever lies beside it."""
    pre, post = sides(70, 90, counts=(1, 1), gap=0.0)
    pre[:, :, 20:22, 30:40], post[:, :, 50:60, 70:] = np.nan, np.nan
    result = score(**write(pre, post, 30.0))
    mask = read(result, "mask")
    np.testing.assert_array_equal(mask == 65535, np.isnan(answer(pre, post)))
    seen = mask[mask < 65535] / 1e4
    wanted = answer(pre, post)[mask < 65535]
    assert np.corrcoef(seen, wanted)[0, 1] > 0.9
    assert read(result, "class").shape == (4, 5)
    ran = result.provenance.resampled
    assert (ran.from_m, ran.to_m) == ((30, 30), (10, 10))
    assert "linear power" in ran.method
    assert result.summary.observed_km2 == pytest.approx(np.isfinite(answer(pre, post)).sum() * 9e-4, rel=2e-3)
    assert codes(result) == ["single_acquisition"]


def test_only_the_area_of_interest(score, write, tmp_path, monkeypatch):
    """Outside the area all is no data, and only windows that meet it are run."""
    opened = []
    monkeypatch.setattr(scoring, "open_runtime", lambda *_: opened.append(FakeRuntime(respond)) or opened[-1])
    area = tmp_path / "area.geojson"
    ring = [[-3.0, 39.7485], [-2.9985, 39.7485], [-2.9985, 39.7475], [-3.0, 39.7475], [-3.0, 39.7485]]
    area.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    named = write(*sides(400, 400, gap=0.0)) | {"aoi": area}
    result = score(**named)
    inside = read(result, "mask") != 65535
    assert 0 < inside.mean() < 0.01
    assert (read(result, "class") != NO_DATA).sum() <= 2
    assert result.summary.observed_km2 == pytest.approx(inside.sum() * 1e-4, rel=2e-3)
    planned = score(**named, dry_run=True, overwrite=True)
    assert planned.summary.windows_to_run == opened[0].calls <= 6


def test_dry_run(score, write, tmp_path):
    """A dry run counts the windows, one step around the scene included, and writes nothing."""
    result = score(**write(*sides(150, 170)), dry_run=True)
    assert isinstance(result.summary, ScoringPlan)
    assert (result.summary.windows, result.summary.windows_to_run) == (16, 16)
    assert (result.summary.chip_px, result.summary.overlap_px) == (CHIP, CHIP - STEP)
    assert result.products == {}
    assert not (tmp_path / "out").exists()


def test_refusals_come_before_any_work(score, write, tmp_path, landslide_models, logistic_models, monkeypatch):
    """Products that exist, an overlap that makes no cells, and a model of another kind are refused at once."""
    named = write(*sides(70, 70))
    score(**named)
    monkeypatch.setattr(scoring, "open_runtime", lambda *_: pytest.fail("the graph was opened"))
    with pytest.raises(ProductExistsError):
        score(**named)
    with pytest.raises(UsageError, match="64 px"):
        score(**named, overlap=32, overwrite=True)
    facts = json.loads((landslide_models / "landslide/manifest.json").read_text())
    facts["outputs"] = facts["outputs"][1:]
    (tmp_path / "models/landslide/1").mkdir(parents=True)
    graph = (landslide_models / "landslide/1/model.onnx").read_bytes()
    (tmp_path / "models/landslide/1/model.onnx").write_bytes(graph)
    (tmp_path / "models/landslide/manifest.json").write_text(json.dumps(facts))
    with pytest.raises(ModelInvalidError, match="density_class"):
        score(**named, model_repository=tmp_path / "models", overwrite=True)


@pytest.mark.parametrize("size_m", [10.0, 30.0])
def test_an_interrupt_leaves_nothing(score, write, tmp_path, monkeypatch, size_m):
    """Ctrl-C in the middle leaves no file, the probability that waits for the way back included."""
    monkeypatch.setattr(scoring, "open_runtime", lambda *_: InterruptedRuntime(respond))
    with pytest.raises(InterruptedScoringError):
        score(**write(*sides(200, 200), size_m))
    assert list((tmp_path / "out").iterdir()) == []
