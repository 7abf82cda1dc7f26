"""The picture a duty officer looks at first: what is flooded, how much, where, when, and what was not seen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from tocsin.grid import Grid
from tocsin.hazards.flood import CLASSES, NO_DATA, NOT_OBSERVABLE, WATER_CLASSES
from tocsin.mapframe import MapSize, draw_map, map_size
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

_PANEL_HEIGHT: Final = 660
_ENOUGH: Final = 0.5
"""Share of the scene below which the picture warns in large letters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuicklookFacts:
    """What the picture says.

    Attributes
    ----------
    hazard, scene_id : str
        For the title.
    grid : Grid
        Of the scene.
    km2 : mapping of int to float
        True area of every class in the legend, in its order; `DRY`, 254 and 255 included.
    valid_fraction : float
        Share of pixels with a result, 0-1.
    acquired, pre_acquired : datetime or None
        UTC times, None when unknown.
    has_pre : bool
        Whether a pre-event acquisition was given.
    method : str
        Model, version, precision, runtime, threshold.
    notes : tuple of str
        Warnings, in words.
    """

    hazard: str
    scene_id: str
    grid: Grid
    km2: Mapping[int, float]
    valid_fraction: float
    acquired: datetime | None
    pre_acquired: datetime | None
    has_pre: bool
    method: str
    notes: tuple[str, ...] = field(default=())


def write_quicklook(
    path: Path,
    facts: QuicklookFacts,
    shares: Mapping[int, npt.NDArray[np.float32]],
    backdrop: npt.NDArray[np.float32] | None,
) -> None:
    """Write the picture as PNG.

    Parameters
    ----------
    path : Path
        File to write.
    facts : QuicklookFacts
        What it says.
    shares : mapping
        Share of each code in the cells of the map, float32 [row, col].
    backdrop : numpy.ndarray or None
        Backscatter, dB, float32, over the same ground.
    """
    size = map_size(facts.grid)
    colours = {code: CLASSES[code].colour for code in WATER_CLASSES}
    picture = compose(_sheet(facts), draw_map(shares, backdrop, size, colours), size, _PANEL_HEIGHT)
    _panel(picture, facts, size, has_backdrop=backdrop is not None)
    save(picture, path)


def _sheet(facts: QuicklookFacts) -> SheetFacts:
    second = _when("pre-event", facts.pre_acquired) if facts.has_pre else "no pre-event acquisition"
    lines = [
        (_when("post-event", facts.acquired), PAPER if facts.acquired else AMBER),
        (second, SOFT if facts.pre_acquired or not facts.has_pre else AMBER),
    ]
    if facts.has_pre:
        lines.append((f"gap: {_gap(facts)}", SOFT))
    return SheetFacts(
        title=f"{facts.hazard.upper()} MAP",
        scene_id=facts.scene_id,
        lines=tuple(lines),
        grid=facts.grid,
        valid_fraction=facts.valid_fraction,
        enough=_ENOUGH,
        method=facts.method,
        notes=facts.notes,
    )


def _when(name: str, time: datetime | None) -> str:
    return f"{name} {time.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if time else f"{name}: time unknown"


def _gap(facts: QuicklookFacts) -> str:
    if facts.acquired is None or facts.pre_acquired is None:
        return "unknown"
    hours = round((facts.acquired - facts.pre_acquired).total_seconds() / 3600)
    days, rest = divmod(abs(hours), 24)
    return f"{days} d {rest} h" if days else f"{rest} h"


def _panel(picture: Image.Image, facts: QuicklookFacts, size: MapSize, *, has_backdrop: bool) -> None:
    draw = ImageDraw.Draw(picture)
    y = _headline(draw, facts)
    superscript(draw, (WIDTH - 146, y), "km", font_of(15))
    draw.text((WIDTH - 30, y), "of observed", fill=FAINT, font=font_of(15), anchor="ra")
    y = _legend(picture, facts, y + 26)
    low = facts.valid_fraction < _ENOUGH
    text = f"{percent_text(facts.valid_fraction)} of the scene has a result"
    draw.text((PANEL_X, y), text, fill=ALARM if low else INK, font=font_of(17))
    if has_backdrop:
        draw.text((PANEL_X, y + 28), "Grey: radar backscatter VV, 2nd to 98th percentile", fill=FAINT, font=font_of(13))
    y += 72
    scale_bar(draw, size, y)
    north_arrow(draw, facts.grid, (WIDTH - 62, y + 12))
    corner_lines(draw, facts.grid, y + 82)


def _headline(draw: ImageDraw.ImageDraw, facts: QuicklookFacts) -> int:
    """Write the figure that matters in large type, and return where the panel goes on."""
    code = next(iter(facts.km2))
    nothing = facts.valid_fraction == 0
    figure = "nothing seen" if nothing else km2_text(facts.km2[code])
    colour = ALARM if nothing else CLASSES[code].colour
    draw.text((PANEL_X, TOP - 8), CLASSES[code].title, fill=INK, font=font_of(22))
    draw.text((PANEL_X, TOP + 22), figure, fill=colour, font=font_of(54))
    if not nothing:
        width = draw.textlength(figure, font=font_of(54))
        superscript(draw, (PANEL_X + width + 12, TOP + 48), "km", font_of(28), fill=colour)
    return TOP + 104


def _legend(picture: Image.Image, facts: QuicklookFacts, y: int) -> int:
    """Draw a row per class, then the sum of what was observed, and return where the panel goes on."""
    draw = ImageDraw.Draw(picture)
    seen = sum(km2 for code, km2 in facts.km2.items() if code not in {NOT_OBSERVABLE, NO_DATA})
    for code, km2 in facts.km2.items():
        swatch(picture, code, CLASSES[code].colour, (PANEL_X, y))
        draw.text((PANEL_X + 44, y + 12), CLASSES[code].title, fill=INK, font=font_of(17), anchor="lm")
        share = f"{km2 / seen:6.1%}" if seen and code not in {NOT_OBSERVABLE, NO_DATA} else ""
        draw.text((WIDTH - 112, y + 12), km2_text(km2), fill=INK, font=font_of(19), anchor="rm")
        draw.text((WIDTH - 30, y + 12), share, fill=FAINT, font=font_of(15), anchor="rm")
        y += 36
    draw.line((PANEL_X, y + 2, WIDTH - 30, y + 2), fill=(200, 204, 210), width=1)
    draw.text((PANEL_X, y + 22), "Observed", fill=INK, font=font_of(17), anchor="lm")
    draw.text((WIDTH - 112, y + 22), km2_text(seen), fill=INK, font=font_of(19), anchor="rm")
    return y + 50
