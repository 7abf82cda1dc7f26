"""Pictures in folders 0 and 1, judged by a graph whose answer is known."""

import csv
import hashlib
import json
import logging
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tocsin.cli import main
from tocsin.errors import NotARasterError, TruncatedError, UsageError
from tocsin.interferograms import PHASE, chip_of, find_pictures
from tocsin.phase_pictures import read_picture
from tocsin.volcano_evaluation import (
    NOT_STATED,
    EvaluationOptions,
    PictureVerdict,
    evaluate_volcano,
    figures,
    roughness,
    summarise,
    write_predictions,
)

CHIP = 64
S1_NAME = "africa_erta_ale_014A_07688_131313_erta_ale_20161031_20170204_184_118_0.png"


@pytest.fixture(scope="module")
def models(tmp_path_factory, logistic_models):
    """Return a repository with a model volcano whose P(deformation) is the share of measured pixels above 0 rad."""
    onnx = pytest.importorskip("onnx", reason="needs the extra train")
    from onnx import TensorProto, helper, numpy_helper

    from tocsin.manifest import TensorSpec
    from tocsin.repository import read_manifest

    nodes = [
        helper.make_node("IsNaN", ["phase"], ["missing"]),
        helper.make_node("Not", ["missing"], ["measured"]),
        helper.make_node("Cast", ["measured"], ["valid"], to=TensorProto.FLOAT),
        helper.make_node("Greater", ["phase", "zero"], ["above"]),
        helper.make_node("Cast", ["above"], ["counted"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["valid", "axes"], ["all"], keepdims=0),
        helper.make_node("ReduceSum", ["counted", "axes"], ["some"], keepdims=0),
        helper.make_node("Div", ["some", "all"], ["deformation"]),
    ]
    constants = [
        numpy_helper.from_array(np.array(0, np.float32), "zero"),
        numpy_helper.from_array(np.array([2, 3], np.int64), "axes"),
    ]
    graph = helper.make_graph(
        nodes,
        "share",
        [helper.make_tensor_value_info("phase", TensorProto.FLOAT, ["batch", 1, CHIP, CHIP])],
        [helper.make_tensor_value_info("deformation", TensorProto.FLOAT, ["batch", 1])],
        constants,
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    onnx.checker.check_model(content)
    folder = tmp_path_factory.mktemp("models")
    (folder / "volcano" / "1").mkdir(parents=True)
    (folder / "volcano" / "1" / "model.onnx").write_bytes(content)
    manifest = read_manifest("flood", logistic_models)
    named = {"name": "phase", "description": "Phase", "bands": ("phase",), "unit": "rad", "shape": (1, CHIP, CHIP)}
    said = {"name": "deformation", "description": "P", "bands": ("P",), "unit": "1", "shape": (1,)}
    artifact = manifest.artifacts[0].model_copy(
        update={"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    )
    changed = {"name": "volcano", "hazard": "volcano", "chip_px": CHIP, "artifacts": (artifact,)}
    changed |= {"inputs": (TensorSpec(**named),), "outputs": (TensorSpec(**said),)}
    (folder / "volcano" / "manifest.json").write_text(manifest.model_copy(update=changed).to_json())
    return folder


def grey(share, rows=CHIP, cols=CHIP):
    """Return a grey picture whose top left chip has that share of its pixels above 0 rad."""
    level = np.linspace(0, 1, CHIP * CHIP, endpoint=False).reshape(CHIP, CHIP)
    pixels = np.full((rows, cols), 130, np.uint8)
    kept = np.where(level < share, 200, 60).astype(np.uint8)[:rows, :cols]
    pixels[: kept.shape[0], : kept.shape[1]] = kept
    return pixels


@pytest.fixture
def pictures(tmp_path):
    """Make pictures of both subsets: right, wrong, odd in size, blank and no interferogram."""
    photo = np.random.default_rng(0).integers(0, 2, (80, 80, 3), np.uint8) * [250, 20, 240] + [3, 5, 7]
    made = {
        f"S1/Train/1/{S1_NAME}": grey(0.9),
        "S1/Test/0/quiet.png": grey(0.1),
        "S1/Test/0/small.png": grey(0.7, 20, 30),
        "C1/1/Cerro_Azul_20160125_20160406.geo.diff1_0.png": grey(0.25, 100, 120),
        "C1/0/quiet.png": grey(0.2),
        "C1/0/blank.png": np.zeros((64, 64), np.uint8),
        "C1/1/photo.png": photo.astype(np.uint8),
    }
    folder = tmp_path / "data"
    for name, pixels in made.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
    (folder / "C1/0/readme.txt").write_text("no picture")
    (folder / "C1/preview.png").write_bytes((folder / "C1/0/quiet.png").read_bytes())
    return folder


def evaluate(folder, models, **options):
    """Evaluate a folder."""
    done = []
    report = evaluate_volcano(folder, EvaluationOptions(model_repository=models, **options), lambda: done.append(1))
    assert len(done) == len(report.pictures)
    return report


def test_every_picture_gets_a_verdict(pictures, models):
    """Ids are paths relative to the folder, the same name in two folders included; scores are the graph's."""
    report = evaluate(pictures, models)
    found = {picture.id: picture for picture in report.pictures}
    assert list(found) == sorted(found)
    assert found.keys() == {
        path.relative_to(pictures).as_posix() for path in pictures.rglob("*.png") if path.parent.name in {"0", "1"}
    }
    assert found["S1/Test/0/quiet.png"].score == pytest.approx(0.1, abs=1e-3)
    assert found["C1/0/quiet.png"].score == pytest.approx(0.2, abs=1e-3)
    assert (found[f"S1/Train/1/{S1_NAME}"].label, found[f"S1/Train/1/{S1_NAME}"].truth) == (1, 1)
    assert found[f"S1/Train/1/{S1_NAME}"].volcano == "erta_ale"
    assert found["C1/0/quiet.png"].volcano == NOT_STATED


def test_odd_sizes_are_judged_by_their_top_left(pictures, models):
    """A larger picture is cut, a smaller one is filled with NaN; neither is resized."""
    found = {picture.id: picture.score for picture in evaluate(pictures, models).pictures}
    assert found["C1/1/Cerro_Azul_20160125_20160406.geo.diff1_0.png"] == pytest.approx(0.25, abs=1e-3)
    expected = float((grey(0.7, 20, 30) > 127).mean())
    assert found["S1/Test/0/small.png"] == pytest.approx(expected, abs=1e-3)


def test_what_cannot_be_judged_has_no_score(pictures, models, caplog):
    """Blank pictures and those of no known rendering are called stable, counted, and have no score; the second warn."""
    with caplog.at_level(logging.WARNING, logger="tocsin"):
        report = evaluate(pictures, models)
    found = {picture.id: picture for picture in report.pictures}
    for name in ("C1/0/blank.png", "C1/1/photo.png"):
        assert (found[name].label, found[name].score) == (0, None)
    assert (found["C1/0/blank.png"].rendering, found["C1/0/blank.png"].refused) == ("blank", "")
    assert found["C1/1/photo.png"].rendering == "unknown"
    assert "photo.png" in found["C1/1/photo.png"].refused
    assert "photo.png" in caplog.text
    assert (report.figures.not_observable, report.figures.refused) == (2, 1)


def test_the_figures_are_those_of_the_labels(pictures, models):
    """Counts over all, per subset, rendering and volcano add up."""
    report = evaluate(pictures, models)
    counts = report.figures.counts
    assert (counts.tp, counts.fp, counts.fn, counts.tn) == (1, 1, 2, 3)
    assert report.figures.accuracy == pytest.approx(4 / 7)
    assert report.figures.balanced_accuracy == pytest.approx((1 / 3 + 3 / 4) / 2)
    assert {part.name: part.pictures for part in report.subsets} == {"C1": 4, "S1": 3}
    assert {part.name: part.pictures for part in report.renderings} == {"grey": 5, "blank": 1, "unknown": 1}
    assert {part.name: part.pictures for part in report.volcanoes} == {NOT_STATED: 5, "cerro_azul": 1, "erta_ale": 1}
    assert report.groups == 7
    assert report.learnt_from == ("none",)


def test_scores_without_observation_leave_ranking_alone(pictures, models):
    """AUROC and calibration error are taken over pictures that have a score."""
    report = evaluate(pictures, models)
    scored = [picture for picture in report.pictures if picture.score is not None]
    assert report.figures.auroc == figures("scored", scored).auroc
    assert report.figures.calibration_error == figures("scored", scored).calibration_error


@pytest.mark.parametrize("batch", [1, 3])
def test_the_batch_changes_nothing(pictures, models, batch):
    """However many pictures run together, each gets the same score."""
    assert evaluate(pictures, models, batch=batch) == evaluate(pictures, models)


def test_the_threshold_decides(pictures, models):
    """The model's threshold holds unless another one is given."""
    assert evaluate(pictures, models).threshold == 0.5
    strict = {picture.id: picture.label for picture in evaluate(pictures, models, threshold=0.15).pictures}
    assert strict["C1/0/quiet.png"] == 1
    assert strict["S1/Test/0/quiet.png"] == 0


def test_one_subset_is_not_listed_again(pictures, models):
    """A folder that holds 0 and 1 itself has no subsets, and its ids start with them."""
    report = evaluate(pictures / "C1", models)
    assert report.subsets == ()
    assert {picture.id.split("/")[0] for picture in report.pictures} == {"0", "1"}


@pytest.mark.parametrize(("content", "error"), [(b"no picture at all", NotARasterError), (None, TruncatedError)])
def test_a_file_that_cannot_be_read_is_an_error(pictures, models, content, error):
    """A broken file is named, never left out or judged."""
    broken = pictures / "C1/0/broken.png"
    broken.write_bytes(content or (pictures / "C1/0/quiet.png").read_bytes()[:60])
    with pytest.raises(error, match=r"broken\.png"):
        evaluate(pictures, models)


def test_a_folder_without_classes_is_refused(tmp_path):
    """A folder that holds no picture in 0 or 1 says what was expected."""
    (tmp_path / "2").mkdir()
    Image.fromarray(grey(0.5)).save(tmp_path / "2/a.png")
    with pytest.raises(UsageError, match="0 or 1"):
        find_pictures(tmp_path)


def test_one_class_alone_gives_what_can_be_said(tmp_path, models):
    """With negatives only there is an accuracy and a false-alarm count, and nothing that needs both classes."""
    (tmp_path / "0").mkdir()
    for share in (0.2, 0.8):
        Image.fromarray(grey(share)).save(tmp_path / f"0/{share}.png")
    found = evaluate(tmp_path, models).figures
    assert (found.counts.fp, found.counts.tn, found.accuracy) == (1, 1, 0.5)
    assert (found.balanced_accuracy, found.auroc, found.shortcuts) == (None, None, ())


def verdict(number, truth, incoherent, rough=1.0):
    """Return a verdict without deformation."""
    facts = {"id": f"{truth}/{number}.png", "truth": truth, "label": 0, "score": 0.5, "subset": "", "rendering": "grey"}
    return PictureVerdict(**facts, volcano=NOT_STATED, incoherent=incoherent, roughness=rough)


def test_shortcuts_stand_beside_the_model():
    """What incoherence or roughness alone would tell is in every report of both classes."""
    verdicts = [verdict(n, n % 2, 0.9 if n % 2 else 0.1, rough=1 + n % 4) for n in range(8)]
    incoherent, rough = figures("all", verdicts).shortcuts
    assert (incoherent.auroc, incoherent.accuracy, incoherent.more_is_positive) == (1, 1, True)
    assert rough.auroc == pytest.approx(0.75)
    assert summarise(verdicts)["subsets"] == ()


def test_roughness_is_taken_around_the_circle():
    """A step across the seam is small, missing pixels do not count, and nothing is as rough as noise."""
    seam = np.tile(np.array([math.pi - 0.05, -math.pi + 0.05], np.float32), (4, 3))
    assert roughness(seam) == pytest.approx(0.1, abs=1e-5)
    seam[:, 2] = np.nan
    assert roughness(seam) == pytest.approx(0.1, abs=1e-5)
    assert roughness(np.full((4, 4), np.nan, np.float32)) == pytest.approx(math.pi / 2)
    noise = np.random.default_rng(0).uniform(-math.pi, math.pi, (200, 200)).astype(np.float32)
    assert roughness(noise) == pytest.approx(math.pi / 2, abs=0.02)


def test_models_are_given_the_phase_with_its_noise(pictures):
    """The chip is cut from the one phase that training, scoring and evaluation share."""
    picture = read_picture(pictures / "C1/0/quiet.png")
    np.testing.assert_array_equal(chip_of(picture, 32), getattr(picture, PHASE)[:32, :32])
    assert PHASE == "noisy_phase"


def test_predictions_hold_the_predicted_class(tmp_path):
    """Each row is id, predicted class and probability; what has no score has an empty one."""
    unseen = verdict(1, 1, 0.5).model_copy(update={"score": None})
    write_predictions(tmp_path / "p.csv", [verdict(0, 1, 0.5), unseen])
    with (tmp_path / "p.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"id": "1/0.png", "label": "0", "score": "0.500000"},
        {"id": "1/1.png", "label": "0", "score": ""},
    ]


def test_the_command_prints_one_object_and_writes_rows(pictures, models, tmp_path, capsys):
    """`tocsin evaluate volcano --json` gives the report on stdout and one row per picture in the CSV."""
    arguments = ["evaluate", "volcano", "--data", str(pictures), "--model-repository", str(models)]
    assert main([*arguments, "--predictions", str(tmp_path / "p.csv"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["hazard"], found["model"], found["runtime"]) == ("volcano", "volcano 0.0.1", "onnx")
    with (tmp_path / "p.csv").open(encoding="utf-8") as file:
        assert [row["id"] for row in csv.DictReader(file)] == [picture["id"] for picture in found["pictures"]]


def test_the_command_as_text(pictures, models, capsys):
    """A person reads every part, the shortcuts beside it and what the figures mean."""
    assert main(["evaluate", "volcano", "--data", str(pictures), "--model-repository", str(models)]) == 0
    said = capsys.readouterr().out
    for word in ("all pictures", "C1", "grey", "cerro_azul", "INCOHERENT", "7 groups", "threshold 0.5", "learnt from"):
        assert word in said


def test_the_command_refuses_a_folder_without_pictures(tmp_path, models, capsys):
    """A folder without pictures exits 2."""
    arguments = ["evaluate", "volcano", "--data", str(tmp_path), "--model-repository", str(models), "--json"]
    assert main(arguments) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "usage"


@pytest.mark.data
def test_real_pictures_are_all_understood(data: Path, models):
    """Every picture of the part of C1 at hand is drawn in a known way, and its shortcuts are strong."""
    report = evaluate(data / "deepcube/C1", models)
    assert len(report.pictures) == 458
    assert report.figures.refused == 0
    assert report.figures.shortcuts[0].auroc > 0.95
    assert {part.name for part in report.renderings} == {"palette_3bit", "hue"}
    assert {part.name for part in report.volcanoes} == {"cerro_azul", "ale_bagu", NOT_STATED}
