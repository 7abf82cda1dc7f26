"""The picture an observatory looks at first: is there deformation, where, from what source, between which days."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from tocsin.fringes import colour_of, draw_fringes
from tocsin.grid import Grid, Window
from tocsin.hazards.volcano import CLASSES, DEFORMING, NO_DATA, NOT_OBSERVABLE, STABLE
from tocsin.map_labels import Box, free_place
from tocsin.mapframe import SIDE, MapSize, map_size
from tocsin.phase import WAVELENGTH_M
from tocsin.quicklook_sheet import (
    ALARM,
    AMBER,
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
    km2_text,
    north_arrow,
    percent_text,
    save,
    scale_bar,
    superscript,
    swatch,
)
from tocsin.result import VolcanoSummary, probability_text

_PANEL_HEIGHT: Final = 780
_ENOUGH: Final = 0.1
"""Share of the scene below which the picture warns in large letters: around volcanoes half is often incoherent."""
_OUTLINE: Final = CLASSES[DEFORMING].colour
_SHOWN: Final = 5
"""Detections that are listed."""
_LABEL_HEIGHT: Final = 22


@dataclass(frozen=True, slots=True)
class Detection:
    """A polygon that the picture names.

    Attributes
    ----------
    box : Window
        Its bounding box on the scene's grid.
    source : str or None
        Kind of source, None when unknown.
    probability : float or None
        Of its chip.
    km2 : float
        Area; NaN without a CRS.
    """

    box: Window
    source: str | None
    probability: float | None
    km2: float

    @property
    def text(self) -> str:
        """Kind of source and probability."""
        said = [self.source, None if self.probability is None else probability_text(self.probability)]
        return ", ".join(part for part in said if part) or "deformation"


@dataclass(frozen=True, slots=True, kw_only=True)
class VolcanoPicture:
    """What the picture says.

    Attributes
    ----------
    scene_id : str
        For the title.
    grid : Grid
        Of the scene; without a CRS there are neither scale nor areas.
    summary : VolcanoSummary
        The verdict.
    km2, pixels : mapping of int to a number
        True area and pixels of every class in the legend, in its order.
    valid_fraction : float
        Share of pixels with a result, 0-1.
    acquired, reference_acquired : datetime or None
        UTC of the later and the earlier acquisition, None when unknown.
    days : int or None
        Between them.
    detections : tuple of Detection
        The largest ones first.
    method : str
        Model, version, precision, runtime, threshold.
    notes : tuple of str
        Warnings, in words.
    """

    scene_id: str
    grid: Grid
    summary: VolcanoSummary
    km2: Mapping[int, float]
    pixels: Mapping[int, int]
    valid_fraction: float
    acquired: datetime | None
    reference_acquired: datetime | None
    days: int | None
    detections: tuple[Detection, ...]
    method: str
    notes: tuple[str, ...]


def write_volcano_quicklook(
    path: Path,
    facts: VolcanoPicture,
    shares: Mapping[int, npt.NDArray[np.float32]],
    directions: npt.NDArray[np.float32] | None,
) -> None:
    """Write the picture as PNG.

    Parameters
    ----------
    path : Path
        File to write.
    facts : VolcanoPicture
        What it says.
    shares : mapping
        Share of each code in the cells of the map, float32 [row, col].
    directions : numpy.ndarray or None
        Mean cosine and sine of phase, float32 [2, row, col], over the same ground.
    """
    size = map_size(facts.grid)
    drawn = draw_fringes(shares, directions, size, {DEFORMING: _OUTLINE})
    _label(drawn, facts, size)
    picture = compose(_sheet(facts), drawn, size, _PANEL_HEIGHT)
    _panel(picture, facts, size, has_phase=directions is not None)
    save(picture, path)


def _sheet(facts: VolcanoPicture) -> SheetFacts:
    known = facts.days is not None
    gap = f"gap: {facts.days} day{'' if facts.days == 1 else 's'}" if known else "gap: unknown"
    return SheetFacts(
        title="VOLCANIC DEFORMATION",
        scene_id=facts.scene_id,
        lines=(
            (f"{_day(facts.reference_acquired)} to {_day(facts.acquired)}", PAPER if known else AMBER),
            (gap, SOFT if known else AMBER),
        ),
        grid=facts.grid,
        valid_fraction=facts.valid_fraction,
        enough=_ENOUGH,
        method=facts.method,
        notes=facts.notes,
    )


def _day(time: datetime | None) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d}" if time else "unknown day"


def _label(drawn: Image.Image, facts: VolcanoPicture, size: MapSize) -> None:
    """Write number, kind of source and probability beside each detection."""
    draw, font = ImageDraw.Draw(drawn), font_of(15)
    down, across = size.height / facts.grid.height, size.width / facts.grid.width
    boxes = [
        (one.box.col * across, one.box.row * down, one.box.col_stop * across, one.box.row_stop * down)
        for one in facts.detections
    ]
    taken: list[Box] = [box for box in boxes if box[2] - box[0] < SIDE / 3]
    for number, (one, box) in enumerate(zip(facts.detections, boxes, strict=True), 1):
        text = f"{number}  {one.text}"
        place = free_place(box, (draw.textlength(text, font=font) + 12, _LABEL_HEIGHT), size, taken)
        taken.append(place)
        draw.rectangle(place, fill=PAPER, outline=_OUTLINE, width=1)
        draw.text((place[0] + 6, place[1] + _LABEL_HEIGHT / 2), text, fill=INK, font=font, anchor="lm")


def _panel(picture: Image.Image, facts: VolcanoPicture, size: MapSize, *, has_phase: bool) -> None:
    draw = ImageDraw.Draw(picture)
    y = _headline(draw, facts)
    y = _legend(picture, facts, y)
    low = facts.valid_fraction < 0.5
    text = f"{percent_text(facts.valid_fraction)} of the scene has a result"
    draw.text((PANEL_X, y), text, fill=ALARM if low else INK, font=font_of(17))
    y += 36
    if has_phase:
        y = _fringe_bar(picture, y)
    y = _listed(draw, facts, y)
    if facts.grid.crs:
        scale_bar(draw, size, y)
        north_arrow(draw, facts.grid, (WIDTH - 62, y + 12))
        corner_lines(draw, facts.grid, y + 66)
    else:
        text = f"No georeference: {facts.grid.width} x {facts.grid.height} px of unknown size"
        draw.text((PANEL_X, y), text, fill=FAINT, font=font_of(14))


def _headline(draw: ImageDraw.ImageDraw, facts: VolcanoPicture) -> int:
    """Write the verdict in large type, and return where the panel goes on."""
    verdict, _, rest = facts.summary.verdict.partition(", ")
    draw.text((PANEL_X, TOP - 8), "Scene label", fill=FAINT, font=font_of(17))
    ink = INK if facts.summary.label == "stable" else ALARM
    draw.text((PANEL_X, TOP + 14), verdict, fill=ink, font=font_of(34))
    draw.text((PANEL_X, TOP + 58), rest, fill=INK, font=font_of(24))
    return TOP + 98


def _legend(picture: Image.Image, facts: VolcanoPicture, y: int) -> int:
    """Draw a row per class, then the sum of what was observed, and return where the panel goes on."""
    draw = ImageDraw.Draw(picture)
    placed = bool(facts.grid.crs)
    amounts: Mapping[int, float] = facts.km2 if placed else facts.pixels
    seen = sum(amount for code, amount in amounts.items() if code not in {NOT_OBSERVABLE, NO_DATA})
    if placed:
        superscript(draw, (WIDTH - 146, y), "km", font_of(15))
    else:
        draw.text((WIDTH - 124, y), "pixels", fill=FAINT, font=font_of(15), anchor="ra")
    draw.text((WIDTH - 30, y), "of observed", fill=FAINT, font=font_of(15), anchor="ra")
    y += 26

    def amount_text(amount: float) -> str:
        return km2_text(amount) if placed else f"{amount:,.0f}"

    for code, amount in amounts.items():
        _class_swatch(picture, code, (PANEL_X, y))
        title, _, detail = CLASSES[code].title.partition(" (")
        draw.text((PANEL_X + 44, y + (6 if detail else 12)), title, fill=INK, font=font_of(17), anchor="lm")
        if detail:
            draw.text((PANEL_X + 44, y + 23), f"({detail}", fill=FAINT, font=font_of(13), anchor="lm")
        share = f"{amount / seen:6.1%}" if seen and code not in {NOT_OBSERVABLE, NO_DATA} else ""
        draw.text((WIDTH - 112, y + 12), amount_text(amount), fill=INK, font=font_of(19), anchor="rm")
        draw.text((WIDTH - 30, y + 12), share, fill=FAINT, font=font_of(15), anchor="rm")
        y += 36
    draw.line((PANEL_X, y + 2, WIDTH - 30, y + 2), fill=(200, 204, 210), width=1)
    draw.text((PANEL_X, y + 20), "Observed", fill=INK, font=font_of(17), anchor="lm")
    draw.text((WIDTH - 112, y + 20), amount_text(seen), fill=INK, font=font_of(19), anchor="rm")
    return y + 40


def _class_swatch(picture: Image.Image, code: int, place: tuple[int, int]) -> None:
    """Show a class as the map does: fringes alone, fringes in an outline, or hatched."""
    if code not in {STABLE, DEFORMING}:
        swatch(picture, code, CLASSES[code].colour, place)
        return
    box = _fringes(32, 24)
    edge = ImageDraw.Draw(box)
    if code == DEFORMING:
        edge.rectangle((0, 0, 31, 23), outline=PAPER, width=6)
        edge.rectangle((2, 2, 29, 21), outline=_OUTLINE, width=3)
    edge.rectangle((0, 0, 31, 23), outline=INK, width=1)
    picture.paste(box, place)


def _fringes(width: int, height: int) -> Image.Image:
    """One cycle of colours from left to right."""
    phase = (np.arange(width) + 0.5) / width * 2 * math.pi - math.pi
    rows = np.repeat(colour_of(phase)[None], height, axis=0)
    return Image.fromarray(np.rint(rows).astype(np.uint8))


def _fringe_bar(picture: Image.Image, y: int) -> int:
    """Explain the colours, and return where the panel goes on."""
    draw, width = ImageDraw.Draw(picture), WIDTH - 30 - PANEL_X
    draw.text((PANEL_X, y), "Wrapped phase, rad", fill=INK, font=font_of(15))
    picture.paste(_fringes(width, 16), (PANEL_X, y + 22))
    draw.rectangle((PANEL_X, y + 22, PANEL_X + width, y + 38), outline=INK, width=1)
    for share, text, anchor in ((0.0, "-pi", "la"), (0.5, "0", "ma"), (1.0, "pi", "ra")):
        draw.text((PANEL_X + share * width, y + 41), text, fill=INK, font=font_of(14), anchor=anchor)
    lines = (
        f"One fringe, -pi to pi: {100 * WAVELENGTH_M / 2:.1f} cm away from the satellite;",
        "the other way round: as much toward it",
    )
    for number, text in enumerate(lines):
        draw.text((PANEL_X, y + 62 + 18 * number), text, fill=FAINT, font=font_of(13))
    return y + 110


def _listed(draw: ImageDraw.ImageDraw, facts: VolcanoPicture, y: int) -> int:
    """List the largest detections, and return where the panel goes on."""
    draw.text((PANEL_X, y), f"Detections: {facts.summary.detections}", fill=INK, font=font_of(17))
    y += 26
    for number, one in enumerate(facts.detections[:_SHOWN], 1):
        draw.text((PANEL_X, y), f"{number}  {one.text}", fill=INK, font=font_of(15))
        if math.isfinite(one.km2):
            draw.text((WIDTH - 112, y), km2_text(one.km2), fill=INK, font=font_of(15), anchor="ra")
        y += 21
    return y + 16
