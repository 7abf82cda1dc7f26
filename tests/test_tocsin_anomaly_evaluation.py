"""Ranks, baselines, and the file of predictions."""

import csv
from datetime import date

import numpy as np
import pytest

from tocsin.anomaly.evaluation import (
    BASELINES,
    AnomalyReport,
    EpochScore,
    auroc,
    baseline_scores,
    event_figures,
    write_predictions,
)
from tocsin.errors import UsageError, WrongDatesError

DAYS = (date(2020, 1, 1), date(2020, 1, 13), date(2020, 1, 25), date(2020, 2, 6), date(2020, 2, 18))


def test_auroc_counts_what_scores_lower():
    """Ties count half, and without others there is no figure."""
    assert auroc(2.0, np.array([1.0, 2.0, 3.0, 1.5])) == 2.5 / 4
    assert auroc(2.0, np.array([])) is None


def test_baselines_are_what_they_say():
    """Largest deviation, standard deviation, and largest z against the fit epochs; -inf where nothing is."""
    random = np.random.default_rng(2)
    motion = random.normal(size=(5, 8, 9)).astype(np.float32)
    motion[4] = np.nan
    motion[2, :2] = np.nan
    found = baseline_scores(motion, [0, 1, 2])
    centred = motion[3].astype(float) - motion[3].mean(dtype=float)
    assert found["largest"][3] == pytest.approx(np.abs(centred).max())
    assert found["deviation"][3] == pytest.approx(centred.std())
    fit = np.array([image - np.nanmean(image, dtype=float) for image in motion[:3].astype(float)])
    z = np.abs(centred - np.nanmean(fit, axis=0)) / np.nanstd(fit, axis=0, ddof=1)
    assert found["pixel_z"][3] == pytest.approx(z.max())
    assert all(found[name][4] == -np.inf for name in BASELINES)


def test_an_event_ranks_among_later_epochs_without_other_events():
    """Fit epochs and other events do not count."""
    scores = {name: np.array([9.0, 8.0, 1.0, 5.0, 3.0]) for name in ("score", *BASELINES)}
    later = np.array([False, False, True, True, True])
    first, second = event_figures([DAYS[4], DAYS[3]], DAYS, scores, later, 4.0)
    assert (first.rank, first.auroc, first.anomalous) == (1, 1.0, False)
    assert (second.rank, second.auroc, second.anomalous) == (1, 1.0, True)
    with pytest.raises(WrongDatesError, match="2020-01-13"):
        event_figures([DAYS[1]], DAYS, scores, later, 4.0)
    with pytest.raises(WrongDatesError, match="2021"):
        event_figures([date(2021, 1, 1)], DAYS, scores, later, 4.0)


def report(scores):
    """Return a report of these scores."""
    return AnomalyReport(
        series="a",
        method="padim",
        fit_until=DAYS[1],
        fit_epochs=2,
        later_epochs=3,
        threshold=2.0,
        threshold_rule="highest",
        alarms=1,
        false_alarm_rate=None,
        events=(),
        epochs=tuple(
            EpochScore(id=day, fitted=False, score=each, anomalous=None if each is None else each > 2)
            for day, each in zip(DAYS, scores, strict=True)
        ),
    )


def test_predictions_are_days_labels_and_scores(tmp_path):
    """Label is the threshold's; an epoch without a measurement has no row."""
    path = tmp_path / "made/predictions.csv"
    write_predictions(path, report((1.0, 3.0, None, 2.0, 2.5)))
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert [row["id"] for row in rows] == ["2020-01-01", "2020-01-13", "2020-02-06", "2020-02-18"]
    assert [row["label"] for row in rows] == ["0", "1", "0", "1"]
    assert [float(row["score"]) for row in rows] == [1.0, 3.0, 2.0, 2.5]


def test_predictions_that_cannot_be_written(tmp_path):
    """A folder in place of the file is a usage error."""
    with pytest.raises(UsageError, match="--predictions"):
        write_predictions(tmp_path, report((1.0,) * 5))
