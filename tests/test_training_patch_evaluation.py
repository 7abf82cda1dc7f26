"""Patches in the published layout, judged by a graph whose answer is known: a pixel slid as its backscatter fell."""

import csv
import json
from datetime import date

import numpy as np
import pytest

h5py = pytest.importorskip("h5py", reason="needs the extra train")

from tocsin.cli import main  # noqa: E402 - after the skip: it needs h5py
from tocsin.errors import GridMismatchError  # noqa: E402
from training.patch_evaluation import PatchOptions, evaluate_patches, figures  # noqa: E402

CHIP = 128
DAYS = ("2023-04-01", "2023-04-13", "2023-05-25", "2023-06-06")
SLID = (slice(20, 80), slice(30, 120))


def patch(folder, name, *, fall_db=0.0, slid=False, event="2023-05-16", size=CHIP):
    """Write a patch whose backscatter fell after its landslide, with a little noise."""
    random = np.random.default_rng(len(name))
    mask = np.zeros((len(DAYS), size, size), np.uint8)
    if slid:
        mask[:, *SLID] = 1
    days = np.array([(date.fromisoformat(day) - date.fromisoformat(DAYS[0])).days for day in DAYS])
    fell = fall_db * mask * (days > 30)[:, None, None]
    stored = {band: (level - fell + 0.3 * random.standard_normal(mask.shape)).astype(np.float32)
              for band, level in (("VV", -9.0), ("VH", -15.0))}  # fmt: skip
    stored |= {"MASK": mask, "DEM": np.zeros(mask.shape, np.int16)}
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / f"{name}.nc", "w") as file:
        file["time"], file["x"] = days, 755200.0 + 10 * np.arange(size)
        file["y"] = 4881920.0 - 10 * np.arange(size)
        file["time"].attrs["units"] = f"days since {DAYS[0]}"
        for axis in ("time", "y", "x"):
            file[axis].make_scale(axis)
        for key, values in stored.items():
            file[key] = values
            for axis, dimension in enumerate(("time", "y", "x")):
                file[key].dims[axis].attach_scale(file[dimension])
        file.attrs.update({"event_date": event, "date_confidence": "1.0", "annotated": "True", "crs": "EPSG:32632"})


@pytest.fixture
def release(tmp_path):
    """Write four patches of two regions: one that fell, one that did not though it slid, a calm one, an undated one."""
    folder = tmp_path / "data"
    patch(folder / "s1asc", "italy_s1asc_1", fall_db=9.0, slid=True)
    patch(folder / "s1asc", "italy_s1asc_2")
    patch(folder / "s1dsc", "nepal_s1dsc_1", slid=True)
    patch(folder / "s1dsc", "nepal_s1dsc_2", slid=True, event="None")
    return folder


def test_patches_are_judged_and_added_up(release, landslide_models):
    """What fell where the mask says is told apart, what did not is not, and an undated patch is counted."""
    done = []
    report = evaluate_patches(release, PatchOptions(model_repository=landslide_models), lambda: done.append(1))
    assert len(done) == 4
    assert report.days_unknown == 1
    fell, calm, still = report.patches
    assert [each.id for each in report.patches] == [
        "s1asc/italy_s1asc_1.nc",
        "s1asc/italy_s1asc_2.nc",
        "s1dsc/nepal_s1dsc_1.nc",
    ]
    assert [each.truth for each in report.patches] == [1, 0, 1]
    assert fell.auroc == pytest.approx(1.0, abs=1e-3)
    assert fell.ratio_auroc == pytest.approx(1.0, abs=1e-3)
    assert (calm.auroc, calm.ratio_auroc) == (None, None)
    assert 0.45 < still.auroc < 0.55
    assert fell.score == pytest.approx(0.35, abs=0.05)
    assert (report.figures.patches, report.figures.with_landslides) == (3, 2)
    assert [each.name for each in report.regions] == ["italy", "nepal"]
    assert report.regions[0].patch_auroc == 1.0
    assert report.regions[1].patch_auroc is None


def test_patches_of_another_size_are_refused(tmp_path, landslide_models):
    """A patch that is no chip is named."""
    patch(tmp_path, "italy_s1asc_1", size=64)
    with pytest.raises(GridMismatchError, match="italy_s1asc_1"):
        evaluate_patches(tmp_path, PatchOptions(model_repository=landslide_models), lambda: None)


def test_nothing_has_no_figures():
    """Without verdicts there is no figure."""
    found = figures("none", ())
    assert (found.patches, found.patch_auroc, found.auroc, found.below) == (0, None, None, 0)


def test_command_prints_one_object_and_writes_predictions(release, landslide_models, tmp_path, capsys):
    """One row per judged patch, with the predicted label at the threshold that was given."""
    table = tmp_path / "predictions.csv"
    named = ["--data", str(release), "--model-repository", str(landslide_models), "--threshold", "0.2", "--quiet"]
    assert main(["evaluate", "sen12landslides", *named, "--predictions", str(table), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [each["id"] for each in report["patches"]]
    assert [int(row["label"]) for row in rows] == [1, 0, 0]
    assert main(["evaluate", "sen12landslides", *named]) == 0
    said = capsys.readouterr().out
    assert "nepal" in said
    assert "1 patches without known days" in said
