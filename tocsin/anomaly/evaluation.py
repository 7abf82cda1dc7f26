"""How a fitted model ranks a series' epochs, beside scores that need no network."""

import csv
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tocsin.anomaly.gaussian import Method
from tocsin.anomaly.preparation import measured_pixels
from tocsin.errors import UsageError, WrongDatesError
from tocsin.manifest import Record

CONVENTIONS: Final = (
    "epochs fitted: scores by fits without them and their neighbours; later epochs: by the fit to all of those; "
    "AUROC of an event: the share of later epochs, other events left out, that score lower; alarms: later epochs above "
    "the threshold"
)

BASELINES: Final = ("largest", "deviation", "pixel_z")
"""Scores without a network: largest absolute deviation from the image's mean, m; standard deviation, m; largest
deviation of a pixel from its mean over fit epochs, in its standard deviations."""


class EpochScore(Record):
    """One epoch."""

    id: date = Field(description="day that it ends")
    fitted: bool = Field(description="whether it was fitted; then the score is a held-out one")
    score: float | None = Field(description="null when nothing was measured")
    anomalous: bool | None = Field(description="score above the threshold")


class EventFigures(Record):
    """How one later epoch ranks."""

    event: date
    rank: int = Field(ge=1, description="1: no later epoch scores higher, other events left out")
    auroc: float | None = Field(ge=0, le=1, description="null without another later epoch")
    anomalous: bool
    baselines: dict[str, float] = Field(description="AUROC of each score without a network")


class AnomalyReport(Record):
    """Every epoch, and what they add up to."""

    hazard: str = "volcano"
    conventions: str = CONVENTIONS
    series: str
    method: Method
    fit_until: date
    fit_epochs: int
    later_epochs: int
    threshold: float
    threshold_rule: str
    alarms: int = Field(ge=0, description="later epochs above the threshold, events included")
    false_alarm_rate: float | None = Field(description="alarms outside events over later epochs outside events")
    events: tuple[EventFigures, ...]
    epochs: tuple[EpochScore, ...]


def auroc(event: float, others: NDArray[np.float64]) -> float | None:
    """Return the share of other scores below one score, ties half (Mann and Whitney 1947); None without others."""
    if not len(others):
        return None
    return float(np.mean(others < event) + np.mean(others == event) / 2)


def baseline_scores(motion: NDArray[np.float32], fitted: Sequence[int]) -> dict[str, NDArray[np.float64]]:
    """Return the scores without a network, each [epoch], of motion [epoch, row, col], m; -inf where nothing is."""
    valid = measured_pixels(motion)
    values = np.where(valid, motion, 0).astype(np.float64)
    count = np.maximum(valid.sum(axis=(1, 2), keepdims=True), 1)
    apart = np.where(valid, values - values.sum(axis=(1, 2), keepdims=True) / count, 0)
    seen = np.maximum(valid[fitted].sum(axis=0), 1)
    mean = apart[fitted].sum(axis=0) / seen
    spread = np.sqrt((np.where(valid[fitted], apart[fitted] - mean, 0) ** 2).sum(axis=0) / np.maximum(seen - 1, 1))
    known = valid & (spread > 0)
    z = np.where(known, np.abs(apart - mean) / np.where(spread > 0, spread, 1), 0)
    deviation = np.sqrt((apart**2).sum(axis=(1, 2)) / count[:, 0, 0])
    empty = ~valid.any(axis=(1, 2))
    found = (np.abs(apart).max(axis=(1, 2)), deviation, z.max(axis=(1, 2)))
    return {name: np.where(empty, -np.inf, each) for name, each in zip(BASELINES, found, strict=True)}


def event_figures(
    events: Sequence[date],
    dates: Sequence[date],
    scores: dict[str, NDArray[np.float64]],
    later: NDArray[np.bool_],
    threshold: float,
) -> tuple[EventFigures, ...]:
    """Return how events rank among later epochs.

    Parameters
    ----------
    events
        Their days.
    dates
        Of all epochs.
    scores
        Each [epoch]: ``score`` of the model, and the baselines.
    later
        bool [epoch]: not fitted, and measured.
    threshold
        Of ``score``.

    Raises
    ------
    WrongDatesError
        An event is no later epoch.
    """
    places = []
    for event in events:
        if event not in dates or not later[list(dates).index(event)]:
            raise WrongDatesError(f"--event {event}", "a measured epoch after --fit-until", "mend the date")
        places.append(list(dates).index(event))
    quiet = later.copy()
    quiet[places] = False
    figures = []
    for event, place in zip(events, places, strict=True):
        own = scores["score"]
        figures.append(
            EventFigures(
                event=event,
                rank=int((own[quiet] > own[place]).sum()) + 1,
                auroc=auroc(float(own[place]), own[quiet]),
                anomalous=bool(own[place] > threshold),
                baselines={
                    name: value
                    for name in BASELINES
                    if (value := auroc(float(scores[name][place]), scores[name][quiet])) is not None
                },
            )
        )
    return tuple(figures)


def write_predictions(path: Path, report: AnomalyReport) -> None:
    """Write id (day), label (0 or 1 by the threshold) and score of every measured epoch as CSV.

    Raises
    ------
    UsageError
        The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("id", "label", "score"))
            writer.writerows(
                (each.id.isoformat(), int(bool(each.anomalous)), f"{each.score:.9g}")
                for each in report.epochs
                if each.score is not None
            )
    except OSError as error:
        raise UsageError(
            f"--predictions {path} ({error.strerror})", "a file that can be written", "choose another"
        ) from error
