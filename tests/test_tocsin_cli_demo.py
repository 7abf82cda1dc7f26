"""`tocsin demo`, `bench` and `evaluate` run from simulation to figures."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from tocsin.cli import main
from tocsin.evaluation import evaluate_flood
from tocsin.scoring import ScoringOptions
from tocsin.simulate import NumpyRandom, flood_scene


@pytest.fixture
def chips(tmp_path: Path) -> Path:
    """Write three simulated chips in the layout of Sen1Floods11; the last holds no valid pixel."""
    folder = tmp_path / "data"
    for seed, name in enumerate(("Ebro_1", "Ebro_2", "Void_3")):
        simulated = flood_scene(NumpyRandom(seed), (64, 80))
        bands, label = np.asarray(simulated.post_db), np.asarray(simulated.water).astype(np.int16)
        label[:8] = -1
        if name == "Void_3":
            bands[:] = np.nan
        write(folder / f"S1Hand/{name}_S1Hand.tif", bands)
        write(folder / f"LabelHand/{name}_LabelHand.tif", label[np.newaxis], nodata=-1)
    return folder


def write(path: Path, bands: np.ndarray, nodata: float = np.nan) -> None:
    """Write bands [band, row, col] as a GeoTIFF of 10 m pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = bands.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": bands.dtype}
    profile |= {"crs": "EPSG:32630", "transform": from_origin(6e5, 4.6e6, 10, 10), "nodata": nodata}
    with rasterio.open(path, "w", **profile) as file:
        file.write(bands)


def read(path: str | Path) -> np.ndarray:
    """Return the first band of a raster."""
    with rasterio.open(path) as file:
        return file.read(1)


@pytest.mark.slow
def test_demo_says_how_right_it_is(tiny_repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The demo's IoU is that of its class raster and the truth it wrote, and it runs twice in one folder."""
    arguments = ["demo", "-o", str(tmp_path / "demo"), "--model-repository", str(tiny_repository), "--json"]
    assert main(arguments) == 0
    first = json.loads(capsys.readouterr().out)
    classes, truth = read(first["result"]["products"]["class"]), read(first["truth"]) == 1
    observed, water = classes < 254, np.isin(classes, (1, 2, 3))
    expected = (water & truth).sum() / ((water | truth) & observed).sum()
    assert first["iou"] == pytest.approx(expected)
    assert main(arguments) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["result"]["summary"] == first["result"]["summary"]
    assert (first["volcano"], first["landslide"]) == (None, None)


@pytest.mark.slow
def test_demo_scores_landslides_and_an_interferogram_too(
    tiny_repository: Path,
    volcano_models: Path,
    landslide_models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    """With all models there, each further figure is that of its map and the truth that the demo wrote."""
    shutil.copytree(volcano_models / "volcano", tiny_repository / "volcano")
    shutil.copytree(landslide_models / "landslide", tiny_repository / "landslide")
    arguments = ["demo", "-o", str(tmp_path / "demo"), "--model-repository", str(tiny_repository), "--json"]
    assert main(arguments) == 0
    everything = json.loads(capsys.readouterr().out)
    slides = everything["landslide"]
    mask, slid = read(slides["result"]["products"]["mask"]), read(slides["truth"]) == 1
    inside, outside = (mask[(mask < 65535) & part].astype(float) for part in (slid, ~slid))
    pairs = np.sign(inside[:, None] - outside[None, ::50])
    assert slides["auroc"] == pytest.approx((pairs.mean() + 1) / 2, abs=0.02)
    assert slides["auroc"] > 0.7
    assert slides["landslides"] > 10
    found = everything["volcano"]
    classes, truth = read(found["result"]["products"]["class"]), read(found["truth"]) == 1
    observed, deforming = classes < 254, classes == 1
    both, either = (deforming & truth & observed).sum(), ((deforming | truth) & observed).sum()
    assert truth.any()
    assert found["source"] in {"mogi", "dyke", "sill"}
    assert found["iou"] == pytest.approx(both / either)


def test_bench_measures_both(tiny_repository: Path, chips: Path, capsys: pytest.CaptureFixture[str]):
    """The ratio is end to end over graph alone, both measured on the scene that was named."""
    scene = chips / "S1Hand/Ebro_1_S1Hand.tif"
    assert main(["bench", "--scene", str(scene), "--model-repository", str(tiny_repository), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ratio"] == pytest.approx(found["end_to_end_seconds"] / found["graph_seconds"], rel=0.2)
    assert (found["shape"], found["windows"]) == ([64, 80], 1)


def test_bench_as_text(tiny_repository: Path, chips: Path, capsys: pytest.CaptureFixture[str]):
    """A person reads both times and their ratio."""
    scene = chips / "S1Hand/Ebro_1_S1Hand.tif"
    assert main(["bench", "--scene", str(scene), "--model-repository", str(tiny_repository)]) == 0
    assert "ratio" in capsys.readouterr().out


def test_bench_needs_a_valid_pixel(tiny_repository: Path, chips: Path, capsys: pytest.CaptureFixture[str]):
    """A scene without data has nothing to compare with, and exits 2."""
    scene = chips / "S1Hand/Void_3_S1Hand.tif"
    assert main(["bench", "--scene", str(scene), "--model-repository", str(tiny_repository), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "usage"


def test_evaluate_counts_what_was_written(tiny_repository: Path, chips: Path, tmp_path: Path):
    """Figures are those of the class rasters that `tocsin flood` writes, counted here another way."""
    report = evaluate_flood(chips, ScoringOptions(model_repository=tiny_repository), lambda _: None)
    both = either = 0
    for name in ("Ebro_1", "Ebro_2"):
        scene = chips / f"S1Hand/{name}_S1Hand.tif"
        assert main(["flood", str(scene), "-o", str(tmp_path), "--model-repository", str(tiny_repository)]) == 0
        water = np.isin(read(tmp_path / f"{name}_S1Hand_class.tif"), (1, 2, 3))
        with rasterio.open(scene) as file:
            judged = np.isfinite(file.read()).all(axis=0)
        label = read(chips / f"LabelHand/{name}_LabelHand.tif")
        judged &= label >= 0
        both += int((water & (label == 1) & judged).sum())
        either += int(((water | (label == 1)) & judged).sum())
    assert report.pooled_iou == pytest.approx(both / either)
    assert report.chips[2].counts.judged == 0


def test_evaluate_writes_predictions(tiny_repository: Path, chips: Path, tmp_path: Path, capsys):
    """One row per chip, its id relative to --data, and stdout stays one JSON object."""
    predictions = tmp_path / "p.csv"
    arguments = ["evaluate", "flood", "--data", str(chips), "--predictions", str(predictions), "--json"]
    assert main([*arguments, "--model-repository", str(tiny_repository)]) == 0
    found = json.loads(capsys.readouterr().out)
    with predictions.open(encoding="utf-8") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert set(rows) == {chip["id"] for chip in found["chips"]}
    assert all((chips / each).is_file() for each in rows)
    assert float(rows["S1Hand/Void_3_S1Hand.tif"]["score"]) == 0


def test_evaluate_as_text(tiny_repository: Path, chips: Path, capsys: pytest.CaptureFixture[str]):
    """A person reads each chip, both conventions and what they mean."""
    assert main(["evaluate", "flood", "--data", str(chips), "--model-repository", str(tiny_repository)]) == 0
    said = capsys.readouterr().out
    for word in ("Ebro_1", "OTSU", "pooled over 3 chips", "mean over chips with water", "label -1"):
        assert word in said


def test_evaluate_refuses_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A folder without chips exits 2."""
    assert main(["evaluate", "flood", "--data", str(tmp_path), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "usage"


@pytest.mark.data
@pytest.mark.slow
def test_shipped_model_on_real_chips(sen1floods11: Path, capsys: pytest.CaptureFixture[str]):
    """On chips that it has seen in training, the shipped model is far above Otsu: a floor, no proof of accuracy."""
    assert main(["evaluate", "flood", "--data", str(sen1floods11), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pooled_iou"] > found["otsu_pooled_iou"] + 0.15
