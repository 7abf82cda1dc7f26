"""Landslide events whose pixels are labelled, as folders: which acquisitions lie before and after, and quiet controls.

::

    EVENT/label.tif              1 slid, 0 did not, no data: nobody judged
    EVENT/event.json             {"event_date": "2024-05-24"}, unless the day is given for all events
    EVENT/SERIES_YYYY-MM-DD.tif  one acquisition, VV and VH; a series is one track
    EVENT/dem.tif                terrain height, m; optional

An event folder may lie at any depth. Every series is judged apart, by the closest three acquisitions on each side of
the day of the event; what was taken on that day is neither before nor after. Where a series has two or more
acquisitions before the event, the last six of them also make a quiet pair: an older and a newer half, between which
nothing slid.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tocsin.errors import UsageError
from tocsin.hazards.landslide import ACQUISITIONS

LABEL: Final = "label.tif"
FACTS: Final = "event.json"
HEIGHTS: Final = "dem.tif"


class EventOptions(BaseModel):
    """How folders of events are read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event_date: date | None = Field(default=None, description="day of every event; None: event.json beside each label")
    units: Literal["db", "linear"] = Field(default="db", description="unit of the acquisitions")


class _Facts(BaseModel):
    """What `event.json` says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event_date: date


@dataclass(frozen=True, slots=True)
class EventPair:
    """Acquisitions of one series before and after a day.

    Attributes
    ----------
    folder
        The event's.
    series
        What stands before the day in the names.
    quiet
        Whether nothing slid between the sides: both lie before the event.
    pre, post
        One to three files each, the oldest first.
    """

    folder: Path
    series: str
    quiet: bool
    pre: tuple[Path, ...]
    post: tuple[Path, ...]

    @property
    def label(self) -> Path:
        """Raster of what slid at the event."""
        return self.folder / LABEL

    @property
    def dem(self) -> Path | None:
        """Raster of heights, None when the folder has none."""
        path = self.folder / HEIGHTS
        return path if path.is_file() else None


def find_pairs(folder: Path, options: EventOptions) -> list[EventPair]:
    """Return the pairs of every event below `folder`: of each series the event's own, then the quiet one.

    Raises
    ------
    UsageError
        There is no event, its day is not stated, a name holds no day, or a series does not reach to both sides.
    """
    labels = sorted(folder.rglob(LABEL))
    if not labels:
        raise UsageError(
            f"--data {folder} without a {LABEL}",
            f"folders with {LABEL} and acquisitions SERIES_YYYY-MM-DD.tif",
            "name the folder of an event, or one above",
        )
    return [pair for label in labels for pair in _pairs(label.parent, options)]


def _pairs(folder: Path, options: EventOptions) -> Iterator[EventPair]:
    day = options.event_date or _stated_day(folder)
    series: dict[str, list[tuple[date, Path]]] = {}
    for path in sorted(folder.glob("*.tif")):
        if path.name in {LABEL, HEIGHTS}:
            continue
        name, taken = _named(path)
        series.setdefault(name, []).append((taken, path))
    if not series:
        raise UsageError(f"{folder} with {LABEL} alone", "acquisitions SERIES_YYYY-MM-DD.tif beside it", "add them")
    for name, taken_on in sorted(series.items()):
        before = [path for taken, path in sorted(taken_on) if taken < day]
        after = [path for taken, path in sorted(taken_on) if taken > day]
        if not before or not after:
            raise UsageError(
                f"series {name} of {folder} with {len(before)} acquisitions before {day} and {len(after)} after",
                "one or more on each side",
                "add acquisitions, correct the day of the event, or take the series away",
            )
        yield EventPair(folder, name, quiet=False, pre=tuple(before[-ACQUISITIONS:]), post=tuple(after[:ACQUISITIONS]))
        calm = before[-2 * ACQUISITIONS :]
        if len(calm) > 1:
            half = len(calm) // 2
            yield EventPair(folder, name, quiet=True, pre=tuple(calm[:half]), post=tuple(calm[half:]))


def _stated_day(folder: Path) -> date:
    path = folder / FACTS
    expected = f'{FACTS} with {{"event_date": "YYYY-MM-DD"}}'
    try:
        return _Facts.model_validate(json.loads(path.read_text(encoding="utf-8"))).event_date
    except (OSError, ValueError, ValidationError) as error:
        raise UsageError(f"{folder} without a day in {FACTS}", expected, "add it, or pass --event-date") from error


def _named(path: Path) -> tuple[str, date]:
    series, _, day = path.stem.rpartition("_")
    try:
        taken = date.fromisoformat(day)
    except ValueError:
        series = ""
    if not series:
        raise UsageError(f"{path}", "SERIES_YYYY-MM-DD.tif", "name it so, or take it away")
    return series, taken
