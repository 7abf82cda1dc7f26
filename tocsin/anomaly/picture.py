"""The picture of an anomaly scoring: is it an alarm, how far above the threshold, and where."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tocsin.anomaly.reading import Motion
from tocsin.hazards.classes import NO_DATA, NOT_OBSERVABLE
from tocsin.mapframe import hatch_unseen, map_size, resized, to_image
from tocsin.quicklook_sheet import (
    ALARM,
    FAINT,
    INK,
    PANEL_X,
    PAPER,
    SOFT,
    TOP,
    WIDTH,
    SheetFacts,
    compose,
    corner_lines,
    font_of,
    north_arrow,
    save,
    scale_bar,
)
from tocsin.result import AnomalySummary, ResultWarning

_PANEL_HEIGHT: Final = 620
_LOW: Final = np.array([232, 232, 228], dtype=np.float32)
_MIDDLE: Final = np.array([253, 174, 97], dtype=np.float32)
_HIGH: Final = np.array([165, 0, 38], dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFacts:
    """What the picture says.

    Attributes
    ----------
    motion
        What was scored.
    summary
        Score, threshold, verdict.
    fitted
        Number of epochs fitted.
    method
        Model, method, runtime.
    notes
        Warnings.
    """

    motion: Motion
    summary: AnomalySummary
    fitted: int
    method: str
    notes: tuple[ResultWarning, ...]


def write_picture(path: Path, facts: PictureFacts, values: NDArray[np.float32]) -> None:
    """Write the picture of a map, float32 [row, col], NaN where not judged, as PNG."""
    grid, when = facts.motion.grid, facts.motion.acquired
    size = map_size(grid)
    canvas = np.empty((size.height, size.width, 3), dtype=np.float32)
    canvas[:] = colours(resized(np.nan_to_num(values, nan=0.0), size), values, facts.summary.threshold)
    unseen = (~np.isfinite(values)).astype(np.float32)
    hatch_unseen(canvas, {NO_DATA: unseen, NOT_OBSERVABLE: np.zeros_like(unseen)}, size)
    sheet = SheetFacts(
        title="ANOMALY MAP",
        scene_id=facts.motion.id,
        lines=((f"until {when:%Y-%m-%d}" if when else "time unknown", PAPER), (f"{facts.fitted} normal epochs", SOFT)),
        grid=grid,
        valid_fraction=float(np.isfinite(values).mean()),
        enough=0.1,
        method=facts.method,
        notes=tuple(note.message for note in facts.notes),
    )
    picture = compose(sheet, to_image(canvas), size, _PANEL_HEIGHT)
    _panel(picture, facts, _range(values, facts.summary.threshold))
    draw = ImageDraw.Draw(picture)
    scale_bar(draw, size, TOP + 330)
    north_arrow(draw, grid, (WIDTH - 62, TOP + 342))
    corner_lines(draw, grid, TOP + 412)
    save(picture, path)


def _range(values: NDArray[np.float32], threshold: float) -> tuple[float, float]:
    """Return the distances of the first and the last colour; the threshold lies between them."""
    known = values[np.isfinite(values)]
    low = float(np.min(known, initial=threshold - 1))
    return low, max(float(np.max(known, initial=threshold)), threshold + 0.5 * (threshold - low))


def colours(drawn: NDArray[np.float32], values: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """Return colours [row, col, 3], 0-255: grey below, orange at the threshold, dark red at the largest distance.

    Parameters
    ----------
    drawn
        Distances at the size of the map.
    values
        All distances, for the range.
    threshold
        Where orange lies.
    """
    low, high = _range(values, threshold)
    below = np.clip((drawn - low) / max(threshold - low, 1e-6), 0, 1)[..., None]
    above = np.clip((drawn - threshold) / max(high - threshold, 1e-6), 0, 1)[..., None]
    mixed = np.where(
        drawn[..., None] <= threshold, _LOW + below * (_MIDDLE - _LOW), _MIDDLE + above * (_HIGH - _MIDDLE)
    )
    return np.asarray(mixed, dtype=np.float32)


def _panel(picture: Image.Image, facts: PictureFacts, reach: tuple[float, float]) -> None:
    draw, summary = ImageDraw.Draw(picture), facts.summary
    verdict = {True: "Anomalous", False: "Normal", None: "Nothing seen"}[summary.anomalous]
    draw.text((PANEL_X, TOP - 8), "Beside its normal epochs", fill=INK, font=font_of(22))
    draw.text((PANEL_X, TOP + 22), verdict, fill=INK if summary.anomalous is False else ALARM, font=font_of(54))
    score = "-" if summary.score is None else f"{summary.score:.1f}"
    draw.text((PANEL_X, TOP + 104), f"score {score}, alarm above {summary.threshold:.1f}", fill=INK, font=font_of(19))
    ramp = np.linspace(*reach, 300, dtype=np.float32)[None].repeat(22, axis=0)
    bar = colours(ramp, np.array(reach, dtype=np.float32), summary.threshold)
    picture.paste(to_image(bar), (PANEL_X, TOP + 160))
    draw.rectangle((PANEL_X, TOP + 160, PANEL_X + 300, TOP + 182), outline=INK)
    at = PANEL_X + 300 * (summary.threshold - reach[0]) / (reach[1] - reach[0])
    draw.line((at, TOP + 154, at, TOP + 188), fill=INK, width=3)
    # Above the bar, so that it meets neither end's number; kept inside the panel.
    named = min(max(at, PANEL_X + 30), PANEL_X + 270)
    draw.text((named, TOP + 150), "threshold", fill=FAINT, font=font_of(14), anchor="mb")
    for x, text, anchor in ((PANEL_X, f"{reach[0]:.0f}", "la"), (PANEL_X + 300, f"{reach[1]:.0f}", "ra")):
        draw.text((x, TOP + 192), text, fill=FAINT, font=font_of(14), anchor=anchor)
    draw.text((PANEL_X, TOP + 228), "Distance of each place from what it", fill=FAINT, font=font_of(15))
    draw.text((PANEL_X, TOP + 248), "looked like in the epochs fitted", fill=FAINT, font=font_of(15))
