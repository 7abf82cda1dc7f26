"""Labelled events of 30 m, judged by a graph whose answer is known: a pixel slid as its backscatter fell."""

import csv
import json
import math
from datetime import date

import numpy as np
import pytest
from affine import Affine

from tocsin.cli import main
from tocsin.errors import NotCoveringError, UsageError
from tocsin.landslide_evaluation import evaluate_landslide, summarise, vh_ratio_db, write_predictions
from tocsin.landslide_events import EventOptions, find_pairs
from tocsin.scoring import ScoringOptions

SIZE = 48
DAY = "2024-05-24"
BEFORE = ("2024-03-01", "2024-03-13", "2024-04-06", "2024-04-18")
AFTER = ("2024-05-31", "2024-06-12")
AT_30_M = Affine(30.0, 0.0, 5e5, 0.0, -30.0, 4.4e6)
SLID = (slice(8, 40), slice(0, 32))
FALL_DB = 9.0


def acquisition(seed, fall_db=0.0):
    """Return VV and VH [2, SIZE, SIZE], linear power, that fell where it slid, with speckle of a tenth."""
    stored_db = np.empty((2, SIZE, SIZE), np.float32)
    stored_db[0], stored_db[1] = -8.0, -14.0
    stored_db[:, *SLID] -= fall_db
    speckle = 1 + 0.1 * np.random.default_rng(seed).standard_normal(stored_db.shape)
    return (10 ** (stored_db / 10) * speckle).astype(np.float32)


@pytest.fixture
def event(tmp_path, write_raster):
    """Write an event of two series: one that fell where the label says, one of which nothing changed."""
    folder = tmp_path / "data" / "place" / "event"
    for number, day in enumerate((*BEFORE, *AFTER)):
        fall = FALL_DB if day in AFTER else 0.0
        write_raster(folder / f"track9_{day}.tif", acquisition(number, fall), transform=AT_30_M)
    for number, day in enumerate((BEFORE[-1], AFTER[0])):
        write_raster(folder / f"track_133_{day}.tif", acquisition(10 + number), transform=AT_30_M)
    label = np.zeros((1, SIZE, SIZE), np.float32)
    label[:, *SLID] = 1
    label[:, :, 40:] = np.nan
    write_raster(folder / "label.tif", label, transform=AT_30_M)
    (folder / "event.json").write_text(json.dumps({"event_date": DAY}))
    return folder


def evaluate(folder, models, **changes):
    """Evaluate a folder of linear power."""
    done = []
    options = ScoringOptions(model_repository=models, quiet=True)
    report = evaluate_landslide(folder, EventOptions(units="linear", **changes), options, lambda: done.append(1))
    assert len(done) == len(report.pairs)
    return report


def days(paths):
    """Return the days of some files."""
    return [path.stem.rpartition("_")[2] for path in paths]


def test_pairs_are_the_closest_around_the_day(event) -> None:
    """Three on each side at most; a quiet pair of what lies before; a series that has one before has none."""
    pairs = find_pairs(event.parent.parent, EventOptions())
    assert [(pair.series, pair.quiet) for pair in pairs] == [("track9", False), ("track9", True), ("track_133", False)]
    across, quiet, other = pairs
    assert (days(across.pre), days(across.post)) == ([*BEFORE[1:]], [*AFTER])
    assert (days(quiet.pre), days(quiet.post)) == ([*BEFORE[:2]], [*BEFORE[2:]])
    assert (days(other.pre), days(other.post)) == ([BEFORE[-1]], [AFTER[0]])
    assert across.dem is None
    (event / "dem.tif").touch()
    assert across.dem == event / "dem.tif"
    assert len(find_pairs(event, EventOptions())) == 3


def test_what_was_taken_on_the_day_is_on_neither_side(event) -> None:
    """A day that is given for all events goes before the one that is stored."""
    for path in event.glob("track_133_*.tif"):
        path.unlink()
    across = find_pairs(event, EventOptions(event_date=date.fromisoformat(BEFORE[1])))[0]
    assert (days(across.pre), days(across.post)) == ([BEFORE[0]], [*BEFORE[2:], AFTER[0]])


def test_folders_that_are_no_events_are_refused(event, tmp_path) -> None:
    """No label, no day, a name without a day, a series on one side alone, no acquisition: each is said."""
    with pytest.raises(UsageError, match=r"without a label\.tif"):
        find_pairs(tmp_path / "data" / "nothing", EventOptions())
    with pytest.raises(UsageError, match="0 acquisitions before"):
        find_pairs(event, EventOptions(event_date=date(2020, 1, 1)))
    (event / "mosaic.tif").touch()
    with pytest.raises(UsageError, match=r"mosaic\.tif"):
        find_pairs(event, EventOptions())
    (event / "mosaic.tif").unlink()
    for text in ("[]", '{"event_date": "soon"}', "{"):
        (event / "event.json").write_text(text)
        with pytest.raises(UsageError, match="without a day"):
            find_pairs(event, EventOptions())
    for path in event.glob("track*.tif"):
        path.unlink()
    with pytest.raises(UsageError, match="alone"):
        find_pairs(event, EventOptions(event_date=date.fromisoformat(DAY)))


def test_ratio_is_of_mean_powers() -> None:
    """VH alone counts, what is missing does not, and a side that has nothing gives nothing."""
    nan = np.nan
    pre = np.full((2, 2, 1, 3), -5.0, np.float32)
    post = np.full((1, 2, 1, 3), -5.0, np.float32)
    pre[:, 1, 0] = [[-10.0, -10.0, nan], [-20.0, nan, nan]]
    post[0, 1, 0] = [-20.0, -13.0, -20.0]
    mean = (0.1 + 0.01) / 2
    assert vh_ratio_db(pre, post)[0] == pytest.approx([10 * math.log10(0.01 / mean), -3.0, nan], nan_ok=True)


def test_mask_and_ratio_are_held_against_the_label(event, landslide_models) -> None:
    """Where it fell, mask and ratio part the pixels; where nothing changed, neither does; a quiet pair is no alarm."""
    report = evaluate(event.parent.parent, landslide_models)
    across, quiet, other = report.pairs
    slid = 32 * 32
    assert (across.slid, across.pixels) == (slid, SIZE * 40)
    assert across.id == f"place/event/track9_{AFTER[0]}.tif"
    assert across.auroc == pytest.approx(1.0, abs=0.01)
    assert across.ratio_auroc == pytest.approx(1.0, abs=1e-6)
    assert across.average_precision == pytest.approx(1.0, abs=0.01)
    assert across.label == 1
    assert across.score is not None
    assert across.score >= report.threshold
    assert across.mask_inside == pytest.approx(1 / (1 + math.exp(3 - FALL_DB)), abs=0.03)
    assert across.mask_outside == pytest.approx(1 / (1 + math.exp(3)), abs=0.03)
    assert across.low_cells + across.high_cells > 0
    assert (quiet.auroc, quiet.ratio_auroc, quiet.average_precision) == (None, None, None)
    assert (quiet.label, quiet.low_cells, quiet.high_cells) == (0, 0, 0)
    assert 0.4 < other.auroc < 0.6
    assert other.label == 0
    assert report.mean_auroc == pytest.approx((across.auroc + other.auroc) / 2)
    assert report.worst_gain == pytest.approx(min(across.auroc - across.ratio_auroc, other.auroc - other.ratio_auroc))
    assert (report.quiet_cells, report.quiet_low_share, report.quiet_high_share) == (quiet.cells, 0.0, 0.0)


def test_nothing_to_add_up() -> None:
    """Without pairs no figure is invented."""
    found = summarise(())
    assert (found["mean_auroc"], found["worst_gain"], found["quiet_high_share"]) == (None, None, None)


def test_a_label_elsewhere_is_refused(event, landslide_models, write_raster) -> None:
    """A label that does not touch the acquisitions is no label of them."""
    far = Affine(30.0, 0.0, 6e5, 0.0, -30.0, 4.4e6)
    write_raster(event / "label.tif", np.zeros((1, SIZE, SIZE), np.float32), transform=far)
    with pytest.raises(NotCoveringError):
        evaluate(event, landslide_models)


def test_command_prints_one_object_and_writes_predictions(event, landslide_models, tmp_path, capsys) -> None:
    """One row per pair, with the id, the predicted label and the highest probability of a cell."""
    table = tmp_path / "predictions.csv"
    named = ["--data", str(event), "--units", "linear", "--model-repository", str(landslide_models)]
    assert main(["evaluate", "landslide", *named, "--predictions", str(table), "--json", "--quiet"]) == 0
    report = json.loads(capsys.readouterr().out)
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [pair["id"] for pair in report["pairs"]]
    assert [int(row["label"]) for row in rows] == [1, 0, 0]
    assert [float(row["score"]) for row in rows] == pytest.approx([pair["score"] for pair in report["pairs"]], abs=1e-6)
    assert main(["evaluate", "landslide", *named, "--event-date", DAY, "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "event 3 + 2" in said
    assert "quiet 2 + 2" in said
    assert "VH ratio" in said


def test_nothing_seen_has_no_score(tmp_path, event, landslide_models, write_raster) -> None:
    """A pair without a pixel that both sides show is called 0, without a score."""
    for day in AFTER:
        path = event / f"track9_{day}.tif"
        path.unlink()
        write_raster(path, np.full((2, SIZE, SIZE), np.nan, np.float32), transform=AT_30_M)
    first = evaluate(event, landslide_models).pairs[0]
    assert (first.label, first.score, first.pixels, first.auroc) == (0, None, 0, None)
    write_predictions(tmp_path / "p.csv", [first])
    assert (tmp_path / "p.csv").read_text().splitlines()[1] == f"track9_{AFTER[0]}.tif,0,"
