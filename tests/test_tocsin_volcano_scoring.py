"""A whole volcano scoring with a graph whose answer is known: scales, windows, missing data, what is refused."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from stand_ins import InterruptedRuntime

import tocsin
from tocsin import scoring
from tocsin.chips import plan, quantise
from tocsin.errors import InterruptedScoringError, ModelInvalidError, ProductExistsError, WrongUnitsError
from tocsin.inference import Chip, SlidingRows, read_chips
from tocsin.result import ScoringPlan
from tocsin.runtimes.fake import FakeRuntime
from tocsin.volcano_inference import ScaleInference
from tocsin.volcano_scene import Scale

CHIP = 64
SHARES = np.array([0.1, 0.5, 0.1, 0.1, 0.1, 0.1], np.float32)
NATIVE_M = 150
"""Three such pixels are beyond the model's range: one scale only."""


def answer(phase):
    """What the graph of these tests answers for a pixel: |phase| / pi."""
    return np.abs(phase) * np.float32(1 / math.pi)


def respond(inputs, pixel=answer):
    """Answer as that graph does: a chip deforms as its most deforming pixel does."""
    mask = pixel(inputs["phase"])
    deformation = np.nan_to_num(mask).max(axis=(1, 2, 3))[:, None]
    several = len(mask)
    return {
        "deformation": deformation,
        "source": np.tile(SHARES, (several, 1)),
        "mask": mask,
        "embedding": np.zeros((several, 3), np.float32),
    }


@pytest.fixture
def write(write_raster):
    """Return a function that writes phase [height, width] with pixels of a size."""

    def make(path, phase, size_m=NATIVE_M):
        return write_raster(path, phase[None].astype(np.float32), transform=Affine(size_m, 0, 5e5, 0, -size_m, 4.4e6))

    return make


@pytest.fixture
def score(volcano_models, tmp_path):
    """Return a function that scores an interferogram with that model, by default into a folder `out` of the test."""

    def run(interferogram, out=tmp_path / "out", **named):
        named.setdefault("model_repository", volcano_models)
        return tocsin.score("volcano", interferogram=interferogram, out=out, quiet=True, **named)

    return run


@pytest.fixture
def fake(monkeypatch):
    """Return a function that puts another answer in the place of the graph, and returns the runtimes that it opened."""

    def use(pixel):
        opened = []

        def make(*_):
            opened.append(FakeRuntime(lambda inputs: respond(inputs, pixel)))
            return opened[-1]

        monkeypatch.setattr(scoring, "open_runtime", make)
        return opened

    return use


def noise(height, width, seed=2):
    """Return phase without a pattern, float32 [height, width], rad, with missing pixels."""
    random = np.random.default_rng(seed)
    phase = random.uniform(-3.1, 3.1, (height, width)).astype(np.float32)
    phase[random.random((height, width)) < 0.1] = np.nan
    return phase


def read(result, product):
    """Band of a product as it is stored."""
    with rasterio.open(result.products[product]) as raster:
        return raster.read(1)


def codes(result):
    """Codes of the warnings, those about time aside."""
    return [warning.code for warning in result.warnings if "acquired" not in warning.code]


@pytest.mark.parametrize("overlap", [None, 0, 20, 63])
@pytest.mark.parametrize("shape", [(1, 1), (5, 63), (64, 64), (65, 130), (3 * CHIP + 7, 3 * CHIP + 7)])
def test_every_valid_pixel_gets_its_own_answer(score, tmp_path, write, shape, overlap):
    """From 1 px to 3 chips + 7 px, at any overlap, chips and mosaic add nothing: what a pixel answers comes out."""
    phase = noise(*shape) if shape != (1, 1) else np.full((1, 1), 1.5, np.float32)
    result = score(write(tmp_path / "ifg.tif", phase), overlap=overlap)
    np.testing.assert_array_equal(read(result, "probability"), quantise(answer(phase)))
    np.testing.assert_array_equal(read(result, "class") == 255, np.isnan(phase))
    assert result.summary.deformation_probability == pytest.approx(np.nanmax(answer(phase)), abs=1e-4)
    assert result.status == "ok"


@pytest.mark.parametrize("options", [{"batch": 3}, {"batch": 64}, {"threads": 1}, {"threads": 3}])
def test_how_it_runs_changes_nothing(score, tmp_path, write, options):
    """Batch size and threads leave class, probability and polygons as they are, at two scales."""
    path = write(tmp_path / "ifg.tif", noise(150, 170), 100)
    first, second = score(path), score(path, out=tmp_path / "other", **options)
    for product in ("class", "probability"):
        np.testing.assert_array_equal(read(first, product), read(second, product))
    texts = [Path(each.products["polygons"]).read_bytes() for each in (first, second)]
    assert texts[0] == texts[1]
    assert first.summary == second.summary


class Held:
    """A source of phase in memory."""

    def __init__(self, grid, phase):
        self.grid = grid
        self._phase = phase

    def read(self, window):
        """Return the pixels of a window, NaN outside."""
        out = np.full((1, *window.shape), np.nan, np.float32)
        inside = window.intersection(self.grid.window)
        rows = slice(inside.row - window.row, inside.row_stop - window.row)
        cols = slice(inside.col - window.col, inside.col_stop - window.col)
        out[0, rows, cols] = self._phase[inside.row : inside.row_stop, inside.col : inside.col_stop]
        return out


def test_the_order_of_windows_changes_nothing():
    """Windows may come in any order: strips and verdicts are the same."""
    from rasterio.crs import CRS

    from tocsin.grid import Grid

    phase = noise(150, 170)
    grid = Grid(CRS.from_epsg(32630), Affine(100, 0, 5e5, 0, -100, 4.4e6), *phase.shape)
    windows = plan(phase.shape, CHIP, CHIP // 2)
    found = []
    for seed in range(3):
        runtime = FakeRuntime(respond)
        inference = ScaleInference(runtime, Scale(1, (1, 1), Held(grid, phase), None), windows, "phase", batch=seed + 1)
        chips: list[Chip] = list(read_chips((SlidingRows(inference.scale.source, windows),), windows))
        if seed:
            np.random.default_rng(seed).shuffle(chips)
        strips = list(inference.strips(inference.results(chips)))
        verdicts = sorted(inference.verdicts, key=lambda verdict: (verdict.window.row, verdict.window.col))
        found.append((np.concatenate([strip.probability for strip in strips]), verdicts))
    for probability, verdicts in found[1:]:
        np.testing.assert_array_equal(probability, found[0][0])
        assert verdicts == found[0][1]


def test_both_scales_count(score, tmp_path, write, fake):
    """A pixel gets the higher answer of both scales, and provenance states their pixel sizes."""
    fake(lambda phase: np.where(np.isnan(phase), phase, np.float32(0.9) * (np.abs(phase) > 2)))
    phase = np.where(np.indices((150, 170)).sum(axis=0) % 2, 1.0, -1.0).astype(np.float32)
    phase[:60, :60] = 2.5
    phase[90:, 90:] = np.nan
    result = score(write(tmp_path / "ifg.tif", phase, 100))
    probability = read(result, "probability")
    assert (probability[:60, :60] == 9000).all()
    assert (probability[70:85, :80] == 0).all()
    assert (probability[90:, 90:] == 65535).all()
    assert result.provenance.scales_m == ((100, 100), (300, 300))
    assert result.provenance.resampled is None
    only_third = np.where(np.indices((150, 170)).sum(axis=0) % 3, np.float32(2.5), np.float32(1.5))
    raised = read(score(write(tmp_path / "third.tif", only_third, 100)), "probability")
    # The mean of 2.5, 2.5 and 1.5 is above 2: what the finer scale leaves out the coarser one finds.
    assert (raised == 9000).all()
    alone = read(score(write(tmp_path / "alone.tif", only_third)), "probability")
    np.testing.assert_array_equal(alone == 9000, only_third > 2)


def test_phase_is_never_averaged_across_the_wrap(score, tmp_path, write, fake):
    """A plane that alternates between 3.1 and -3.1 rad is near pi at every scale, nowhere near 0."""
    fake(lambda phase: np.float32(1) - answer(phase))
    checked = np.where(np.indices((150, 170)).sum(axis=0) % 2, 3.1, -3.1)
    for size_m in (100, 40):
        result = score(write(tmp_path / f"{size_m}.tif", checked, size_m), out=tmp_path / f"out{size_m}")
        assert len(result.provenance.scales_m) == 2
        assert read(result, "probability").max() <= 150


def test_fine_pixels_come_back_on_their_own_grid(score, tmp_path, write):
    """Pixels of 40 m run at 80 m and come back at 40 m; what was missing stays no data."""
    phase = np.full((100, 120), 1.5, np.float32)
    phase[20:27, 30:45] = np.nan
    phase[60:80, 60:100] = 3.0
    result = score(write(tmp_path / "ifg.tif", phase, 40))
    probability = read(result, "probability")
    np.testing.assert_array_equal(probability == 65535, np.isnan(phase))
    inner = probability[62:78, 62:98]
    np.testing.assert_array_equal(inner, np.full_like(inner, quantise(answer(np.float32([3.0])))[0]))
    resampled = result.provenance.resampled
    assert (resampled.from_m, resampled.to_m) == ((40, 40), (80, 80))
    assert "unit vectors" in resampled.method
    assert result.provenance.scales_m == ((80, 80),)


NODATA = {
    "NaN": (math.nan, math.nan, "ifg.tif"),
    "undeclared NaN": (math.nan, None, "ifg.tif"),
    "declared": (-9999.0, -9999.0, "ifg.tif"),
    "declared 0": (0.0, 0.0, "ifg.tif"),
    "LiCSAR 0": (0.0, None, "20200101_20200113.geo.diff_pha.tif"),
    "alpha": (1.25, None, "ifg.tif"),
}


@pytest.mark.parametrize("kind", NODATA)
def test_what_is_stored_under_nodata_changes_nothing(score, tmp_path, kind):
    """However a file marks missing pixels, every product is the same."""
    fill, declared, name = NODATA[kind]
    phase = noise(90, 100)
    stored = np.where(np.isnan(phase), np.float32(fill), phase)
    alpha = kind == "alpha"
    profile = {
        "driver": "GTiff",
        "dtype": "float32",
        "count": 1 + alpha,
        "height": 90,
        "width": 100,
        "nodata": declared,
    }
    path = tmp_path / name
    transform = Affine(NATIVE_M, 0, 5e5, 0, -NATIVE_M, 4.4e6)
    with rasterio.open(path, "w", crs="EPSG:32630", transform=transform, **profile) as file:
        file.write(stored, 1)
        if alpha:
            file.write(np.where(np.isnan(phase), 0, 255).astype(np.float32), 2)
            file.descriptions = ("phase", "alpha")
    result = score(path)
    np.testing.assert_array_equal(read(result, "probability"), quantise(answer(phase)))
    np.testing.assert_array_equal(read(result, "class") == 255, np.isnan(phase))
    assert result.scene.valid_fraction == pytest.approx(np.isfinite(phase).mean())


def test_zero_is_a_value_elsewhere(score, tmp_path, write):
    """Where 0 is not declared it is phase, and that is said when there is much of it."""
    phase = np.where(np.indices((90, 100)).sum(axis=0) % 3, np.float32(2), np.float32(0))
    result = score(write(tmp_path / "ifg.tif", phase))
    np.testing.assert_array_equal(read(result, "probability"), quantise(answer(phase)))


def test_incoherent_pixels_are_not_observable(score, tmp_path, write):
    """What was seen and not coherent is 254 and not in the observed area; what has no phase stays 255."""
    phase = noise(90, 100)
    coherence = np.full((90, 100), 0.7)
    coherence[:30] = 0.1
    beside = write(tmp_path / "cc.tif", coherence)
    result = score(write(tmp_path / "ifg.tif", phase), coherence=beside)
    classes = read(result, "class")
    np.testing.assert_array_equal(classes == 255, np.isnan(phase))
    np.testing.assert_array_equal(classes == 254, np.isfinite(phase) & (coherence < 0.2))
    seen = np.isfinite(phase) & (coherence >= 0.2)
    np.testing.assert_array_equal(read(result, "probability") == 65535, ~seen)
    assert result.summary.observed_km2 == pytest.approx(seen.sum() * NATIVE_M**2 / 1e6, rel=2e-3)
    assert [item.href for item in result.provenance.inputs] == [str(tmp_path / "ifg.tif"), str(beside)]


def test_nothing_seen(score, tmp_path, write):
    """A file without a valid pixel is no error: empty, all no data, no verdict."""
    result = score(write(tmp_path / "ifg.tif", np.full((90, 100), np.nan)))
    assert (result.status, result.summary.deformation_probability, result.summary.label) == ("empty", None, None)
    assert (read(result, "class") == 255).all()


def test_a_small_file_says_on_how_little_it_rests(score, tmp_path, write):
    """The answer for 20 x 20 px comes with a warning that states the share of a chip; that for half a chip does not."""
    small = score(write(tmp_path / "small.tif", noise(20, 20)))
    assert (small.status, codes(small)) == ("ok", ["small_scene"])
    share = np.isfinite(noise(20, 20)).sum() / CHIP**2
    assert f"{share:.2%}" in small.warnings[-1].message
    assert codes(score(write(tmp_path / "half.tif", noise(45, 45)))) == []


def test_windows_with_next_to_nothing_are_not_judged(score, tmp_path, write):
    """A few lone pixels raise no alarm and are never stable: no data, and said; where others see them they count."""
    phase = np.full((3 * CHIP, 3 * CHIP), np.nan, np.float32)
    phase[: CHIP + 10, : CHIP + 10] = 1.0
    phase[150, 150], phase[152, 170] = 3.0, 3.0
    result = score(write(tmp_path / "ifg.tif", phase))
    classes, probability = read(result, "class"), read(result, "probability")
    assert (classes[150, 150], classes[152, 170]) == (255, 255)
    assert result.summary.deformation_probability == pytest.approx(1 / math.pi, abs=1e-4)
    assert (probability[: CHIP + 10, : CHIP + 10] == quantise(answer(np.float32([1.0])))[0]).all()
    assert "sparse_windows" in codes(result)


def test_only_the_area_of_interest(score, tmp_path, write, fake):
    """Outside the area all is no data, and windows outside it are not run."""
    opened = fake(answer)
    area = tmp_path / "area.geojson"
    ring = [[-3.0, 39.745], [-2.99, 39.745], [-2.99, 39.74], [-3.0, 39.74], [-3.0, 39.745]]
    area.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    path = write(tmp_path / "ifg.tif", noise(300, 300))
    result = score(path, aoi=area)
    assert opened[0].calls <= 2
    seen = read(result, "class") != 255
    assert 0 < seen.mean() < 0.01
    planned = score(path, aoi=area, dry_run=True)
    assert planned.summary.windows_to_run == opened[0].calls
    unseen = noise(300, 300)
    unseen[np.nonzero(seen)[0].min() - 3 : np.nonzero(seen)[0].max() + 3] = np.nan
    empty = score(write(tmp_path / "unseen.tif", unseen), aoi=area)
    assert (empty.status, empty.summary.label) == ("empty", None)


def test_dry_run(score, tmp_path, write):
    """A dry run counts the windows of both scales and writes nothing."""
    result = score(write(tmp_path / "ifg.tif", noise(150, 170), 100), dry_run=True)
    assert isinstance(result.summary, ScoringPlan)
    finest, third = plan((150, 170), CHIP, CHIP // 2), plan((50, 57), CHIP, CHIP // 2)
    assert result.summary.windows == result.summary.windows_to_run == len(finest) + len(third)
    assert (result.summary.chip_px, result.summary.overlap_px) == (CHIP, CHIP // 2)
    assert result.summary.bytes_to_write >= 3 * 150 * 170
    assert (result.products, result.provenance.scales_m) == ({}, ((100, 100), (300, 300)))
    assert not (tmp_path / "out").exists()


def test_a_picture_is_a_partial_result(score, tmp_path):
    """Of a picture there are class, probability and quicklook without a place, and that is said."""
    phase = np.random.default_rng(1).uniform(-3, 3, (90, 100))
    path = tmp_path / "20200101_20200113.geo.diff.png"
    Image.fromarray(np.rint((phase + math.pi) * 255 / (2 * math.pi)).astype(np.uint8)).save(path)
    result = score(path)
    assert (result.status, sorted(result.products)) == ("partial", ["class", "probability", "quicklook"])
    assert (result.summary.observed_km2, result.summary.deforming_km2) == (None, None)
    assert result.summary.deformation_probability == pytest.approx(3 / math.pi, abs=0.01)
    assert codes(result) == ["no_georeference"]
    assert result.provenance.scales_m is None
    np.testing.assert_allclose(read(result, "probability") * 1e-4, np.abs(phase) / math.pi, atol=0.005)


def test_existing_products_are_refused_before_any_work(score, tmp_path, write, monkeypatch):
    """Products that exist are refused before the graph is opened."""
    path = write(tmp_path / "ifg.tif", noise(70, 70))
    score(path)
    monkeypatch.setattr(scoring, "open_runtime", lambda *_: pytest.fail("the graph was opened"))
    with pytest.raises(ProductExistsError):
        score(path)


@pytest.mark.parametrize("size_m", [100, 40])
def test_an_interrupt_leaves_nothing(score, tmp_path, write, monkeypatch, size_m):
    """Ctrl-C in the middle of any scale leaves no file, working files of another scale included."""
    monkeypatch.setattr(scoring, "open_runtime", lambda *_: InterruptedRuntime(respond))
    with pytest.raises(InterruptedScoringError, match=r"ifg\.tif"):
        score(write(tmp_path / "ifg.tif", noise(400, 400), size_m))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_model_of_another_hazard_is_refused(score, tmp_path, write, volcano_models, logistic_models):
    """A model without the outputs of a volcano model is refused with their names."""
    facts = json.loads((volcano_models / "volcano/manifest.json").read_text())
    facts["outputs"] = facts["outputs"][:1]
    (tmp_path / "models/volcano/1").mkdir(parents=True)
    (tmp_path / "models/volcano/1/model.onnx").write_bytes((volcano_models / "volcano/1/model.onnx").read_bytes())
    (tmp_path / "models/volcano/manifest.json").write_text(json.dumps(facts))
    with pytest.raises(ModelInvalidError, match="source, mask"):
        score(write(tmp_path / "ifg.tif", noise(70, 70)), model_repository=tmp_path / "models")


@pytest.mark.data
def test_real_interferograms(score, data, tmp_path, write_raster):
    """Unwrapped phase with coherence, and an increment stated to be in metres, run to the end; metres alone do not."""
    unwrapped = min((data / "pyrate_cropA").glob("*_unw.tif"))
    coherence = unwrapped.with_name(unwrapped.name.replace("_eqa_unw", "_flat_eqa_cc"))
    result = score(unwrapped, coherence=coherence)
    assert (result.status, codes(result)) == ("ok", [])
    assert result.scene.acquired.isoformat() == "2018-01-30T00:40:21+00:00"
    series = data / "licsar_series/licsalert_erta_ale_014A_07688_131313.npz"
    with np.load(series) as arrays:
        increment, lats, lons = arrays["inc"][55][None].astype(np.float32), arrays["lats"], arrays["lons"]
    step = float(lons[1] - lons[0])
    transform = Affine(step, 0, float(lons[0]) - step / 2, 0, -step, float(lats.max()) + step / 2)
    path = write_raster(tmp_path / "increment.tif", increment, crs="EPSG:4326", transform=transform)
    assert score(path, units="m").status == "ok"
    with pytest.raises(WrongUnitsError, match="--units m"):
        score(path)
