"""The picture a desk looks at first: how many landslides, in which cells, where to look, between which passes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from tocsin.chips import PROBABILITY_SCALE
from tocsin.grid import Grid
from tocsin.hazards.landslide import CLASSES, HIGH, LANDSLIDE_CLASSES, LOW, NO_DATA, NOT_OBSERVABLE
from tocsin.landslide_cells import Cells
from tocsin.map_labels import Box, free_place
from tocsin.mapframe import MapSize, draw_map, hatch_unseen, map_size, paint, to_image
from tocsin.quicklook_sheet import (
    ALARM,
    AMBER,
    FAINT,
    INK,
    PANEL_X,
    PAPER,
    RGB,
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
from tocsin.result import LandslideSummary, probability_text

_PANEL_HEIGHT: Final = 880
_ENOUGH: Final = 0.5
"""Share of the scene below which the picture warns in large letters."""
_NAMED: Final = 10
"""Cells that are numbered and listed."""
_SLID: Final[RGB] = (88, 0, 76)
"""Colour of the mask: dark on light backscatter, orange and red alike."""
_FILL: Final = 70
"""Opacity of a cell, of 255: mask and backscatter show through."""
_SMALLEST_EDGE: Final = 7
"""Cells smaller than this on the picture get no outline, which would hide them."""
_ROOMY: Final = 24
"""Cells from this size on get a thick one."""
_RIGHT: Final = WIDTH - 30


@dataclass(frozen=True, slots=True, kw_only=True)
class LandslidePicture:
    """What the picture says.

    Attributes
    ----------
    scene_id : str
        For the title.
    grid, cells_grid : Grid
        Of the scene, and of the cells.
    cells : Cells
        Decided.
    km2 : mapping of int to float
        True area of every class in the legend, in its order.
    summary : LandslideSummary
        Figures.
    valid_fraction : float
        Share of pixels with a result, 0-1.
    pre_acquired, post_acquired : tuple of (datetime or None)
        UTC of every acquisition, None where unknown.
    method : str
        Model, version, precision, runtime, threshold.
    notes : tuple of str
        Warnings, in words.
    """

    scene_id: str
    grid: Grid
    cells_grid: Grid
    cells: Cells
    km2: Mapping[int, float]
    summary: LandslideSummary
    valid_fraction: float
    pre_acquired: tuple[datetime | None, ...]
    post_acquired: tuple[datetime | None, ...]
    method: str
    notes: tuple[str, ...]


def write_landslide_quicklook(
    path: Path,
    facts: LandslidePicture,
    shares: Mapping[int, npt.NDArray[np.float32]],
    backdrop: npt.NDArray[np.float32] | None,
) -> None:
    """Write the picture as PNG.

    Parameters
    ----------
    path : Path
        File to write.
    facts : LandslidePicture
        What it says.
    shares : mapping
        Share of each code of the mask (0 seen, 1 slid, 254, 255) in the cells of the map, float32 [row, col].
    backdrop : numpy.ndarray or None
        Mean VH after the event, dB, float32, over the same ground.
    """
    size = map_size(facts.grid)
    drawn = _with_cells(draw_map(shares, backdrop, size, {}), facts, size, shares)
    _label(drawn, facts, size)
    picture = compose(_sheet(facts), drawn, size, _PANEL_HEIGHT)
    _panel(picture, facts, size, has_backdrop=backdrop is not None)
    save(picture, path)


def _sheet(facts: LandslidePicture) -> SheetFacts:
    before = [time for time in facts.pre_acquired if time]
    after = [time for time in facts.post_acquired if time]
    days = facts.summary.days_between
    return SheetFacts(
        title="LANDSLIDE MAP",
        scene_id=facts.scene_id,
        lines=(
            (f"first after the event {_when(min(after, default=None))}", PAPER if after else AMBER),
            (f"last before the event {_when(max(before, default=None))}", SOFT if before else AMBER),
            (f"gap: {_gap(days)}", AMBER if days is None else SOFT),
        ),
        grid=facts.grid,
        valid_fraction=facts.valid_fraction,
        enough=_ENOUGH,
        method=facts.method,
        notes=facts.notes,
    )


def _when(time: datetime | None) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if time else "unknown"


def _gap(days: float | None) -> str:
    if days is None:
        return "unknown"
    whole, rest = divmod(round(days * 24), 24)
    return f"{whole} d {rest} h" if whole else f"{rest} h"


def _box(facts: LandslidePicture, size: MapSize, index: int) -> Box:
    """Return where a cell lies on the map; what of it lies beyond the scene is cut off."""
    row, col = divmod(index, facts.cells_grid.width)
    across = facts.cells_grid.transform.a / facts.grid.transform.a * size.width / facts.grid.width
    down = facts.cells_grid.transform.e / facts.grid.transform.e * size.height / facts.grid.height
    right, bottom = min((col + 1) * across, size.width), min((row + 1) * down, size.height)
    return col * across, row * down, right, bottom


def _with_cells(
    drawn: Image.Image, facts: LandslidePicture, size: MapSize, shares: Mapping[int, npt.NDArray[np.float32]]
) -> Image.Image:
    """Lay cells with landslides over backscatter in the colour of their class; then mask, unseen ground, outlines."""
    boxes = [
        (_box(facts, size, index), CLASSES[code].colour)
        # The lower class first: outlines that meet show the higher one.
        for code in (LOW, HIGH)
        for index in np.flatnonzero(facts.cells.codes == code).tolist()
    ]
    layer = Image.new("RGBA", drawn.size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    for box, colour in boxes:
        draw.rectangle(_inner(box), fill=(*colour, _FILL if _is_large(box) else 255))
    canvas = np.asarray(Image.alpha_composite(drawn.convert("RGBA"), layer).convert("RGB"), dtype=np.float32).copy()
    paint(canvas, shares, size, {1: _SLID})
    hatch_unseen(canvas, shares, size)
    drawn = to_image(canvas)
    draw = ImageDraw.Draw(drawn)
    for box, colour in boxes:
        if _is_large(box):
            draw.rectangle(_inner(box), outline=colour, width=2 if box[2] - box[0] >= _ROOMY else 1)
    return drawn


def _is_large(box: Box) -> bool:
    return box[2] - box[0] >= _SMALLEST_EDGE


def _inner(box: Box) -> Box:
    """Return the box in whole pixels, its last ones included."""
    left, top, right, bottom = box
    return left, top, max(left, right - 1), max(top, bottom - 1)


def _label(drawn: Image.Image, facts: LandslidePicture, size: MapSize) -> None:
    """Write the numbers of the listed cells: in them where they are large enough, else beside them."""
    draw, font = ImageDraw.Draw(drawn), font_of(16)
    boxes = [_box(facts, size, index) for index in facts.cells.ranked()[:_NAMED].tolist()]
    taken = [box for box in boxes if box[2] - box[0] < 64]
    for number, box in enumerate(boxes, 1):
        width, height = draw.textlength(f"{number}", font=font) + 12, 22
        if box[2] - box[0] >= width + 8 and box[3] - box[1] >= height + 8:
            place: Box = (box[0] + 4, box[1] + 4, box[0] + 4 + width, box[1] + 4 + height)
        else:
            place = free_place(box, (width, height), size, taken)
        taken.append(place)
        draw.rectangle(place, fill=PAPER, outline=INK, width=1)
        draw.text(((place[0] + place[2]) / 2, (place[1] + place[3]) / 2), f"{number}", INK, font, anchor="mm")


def _panel(picture: Image.Image, facts: LandslidePicture, size: MapSize, *, has_backdrop: bool) -> None:
    draw = ImageDraw.Draw(picture)
    y = _headline(draw, facts)
    y = _legend(picture, facts, y)
    low = facts.valid_fraction < _ENOUGH
    text = f"{percent_text(facts.valid_fraction)} of the scene has a result"
    draw.text((PANEL_X, y), text, fill=ALARM if low else INK, font=font_of(15))
    if has_backdrop:
        draw.text((PANEL_X, y + 22), "Grey: mean VH after, 2nd to 98th percentile", fill=FAINT, font=font_of(13))
    y = _listed(draw, facts, y + 52)
    y = _passes(draw, facts, y)
    scale_bar(draw, size, y)
    north_arrow(draw, facts.grid, (WIDTH - 62, y + 12))
    corner_lines(draw, facts.grid, y + 52)


def _headline(draw: ImageDraw.ImageDraw, facts: LandslidePicture) -> int:
    """Write the figure that matters in large type, and return where the panel goes on."""
    summary = facts.summary
    draw.text((PANEL_X, TOP - 8), "Expected landslides", fill=INK, font=font_of(22))
    expected, interval = summary.expected_landslides, summary.expected_landslides_interval
    if expected is None or interval is None:
        draw.text((PANEL_X, TOP + 22), "nothing seen", fill=ALARM, font=font_of(44))
        return TOP + 92
    bounds = "{:,.0f} to {:,.0f}".format(*interval)
    if not summary.high_cells + summary.low_cells:
        # Little is expected of every quiet cell, and the sum of it over a scene reads like a finding.
        draw.text((PANEL_X, TOP + 22), bounds, fill=INK, font=font_of(44))
        width = draw.textlength(bounds, font=font_of(44))
        draw.text((PANEL_X + width + 16, TOP + 47), "90 % interval", fill=FAINT, font=font_of(14))
        return TOP + 92
    colour = CLASSES[HIGH].colour
    figure = f"{expected:,.0f}" if expected >= 10 else f"{expected:.1f}"
    draw.text((PANEL_X, TOP + 18), figure, fill=colour, font=font_of(54))
    width = draw.textlength(figure, font=font_of(54))
    draw.text((PANEL_X + width + 16, TOP + 36), "90 % interval", fill=FAINT, font=font_of(14))
    draw.text((PANEL_X + width + 16, TOP + 53), bounds, fill=INK, font=font_of(19))
    return TOP + 92


def _legend(picture: Image.Image, facts: LandslidePicture, y: int) -> int:
    """Draw a row per class and one for the mask, and return where the panel goes on."""
    draw = ImageDraw.Draw(picture)
    draw.text((WIDTH - 112, y), "cells", fill=FAINT, font=font_of(14), anchor="ra")
    superscript(draw, (WIDTH - 54, y), "km", font_of(14))
    y += 22
    for code, km2 in facts.km2.items():
        _class_swatch(picture, code, (PANEL_X, y))
        _title(draw, code, (PANEL_X + 44, y + 4))
        if code not in {NOT_OBSERVABLE, NO_DATA}:
            count = f"{np.count_nonzero(facts.cells.codes == code):,}"
            draw.text((WIDTH - 112, y + 12), count, fill=INK, font=font_of(18), anchor="rm")
        draw.text((_RIGHT, y + 12), km2_text(km2), fill=INK, font=font_of(18), anchor="rm")
        y += 31
    draw.line((PANEL_X, y + 1, _RIGHT, y + 1), fill=(200, 204, 210), width=1)
    rows = (("Observed", facts.summary.observed_km2), ("Slid, in low and high cells", facts.summary.landslide_km2))
    for text, km2 in rows:
        x = PANEL_X
        if text != "Observed":
            swatch(picture, 1, _SLID, (PANEL_X, y + 6))
            x += 44
        draw.text((x, y + 18), text, fill=INK, font=font_of(16), anchor="lm")
        draw.text((_RIGHT, y + 18), km2_text(km2), fill=INK, font=font_of(18), anchor="rm")
        y += 29
    return y + 16


def _title(draw: ImageDraw.ImageDraw, code: int, place: tuple[int, int]) -> None:
    """Write what a class means: the embedded font has no raised two."""
    font = font_of(16)
    text = CLASSES[code].title.removeprefix("Landslides, ")
    title = text.removesuffix("km\N{SUPERSCRIPT TWO}")
    draw.text(place, title[:1].upper() + title[1:], fill=INK, font=font)
    if title != text:
        superscript(draw, (place[0] + draw.textlength(title, font=font), place[1]), "km", font, INK)


def _class_swatch(picture: Image.Image, code: int, place: tuple[int, int]) -> None:
    """Show a class as the map does: a tinted cell in its outline, backscatter alone, or hatched."""
    colour = CLASSES[code].colour
    if code not in LANDSLIDE_CLASSES:
        swatch(picture, code, colour, place)
        return
    grey = np.array(CLASSES[0].colour)
    tint = np.rint(grey + (np.array(colour) - grey) * _FILL / 255).astype(int).tolist()
    box = (place[0], place[1], place[0] + 32, place[1] + 24)
    ImageDraw.Draw(picture).rectangle(box, fill=(tint[0], tint[1], tint[2]), outline=colour, width=3)


def _listed(draw: ImageDraw.ImageDraw, facts: LandslidePicture, y: int) -> int:
    """List the cells to look at first, and return where the panel goes on."""
    columns = (PANEL_X, PANEL_X + 30, _RIGHT - 190, _RIGHT - 115, _RIGHT)
    anchors = ("la", "la", "ra", "ra", "ra")
    cells, first = facts.cells, facts.cells.ranked()[:_NAMED].tolist()
    if not first:
        draw.text((PANEL_X, y), "No cell with landslides", fill=INK, font=font_of(17))
        return y + 34
    titles = ("", "Look at first", "per km", "slid", "any landslide")
    for x, anchor, title in zip(columns, anchors, titles, strict=True):
        draw.text((x, y), title, fill=FAINT, font=font_of(14), anchor=anchor)
    draw.text((columns[2] + 1, y - 2), "2", FAINT, font_of(9))
    y += 21
    for number, index in enumerate(first, 1):
        place = divmod(index, facts.cells_grid.width)
        code = int(cells.codes[place])
        texts = (
            f"{number}",
            CLASSES[code].name,
            f"{cells.density_per_km2[place]:,.0f}",
            percent_text(float(cells.slid_km2[place] / cells.observed_km2[place])).replace("less than ", "< "),
            probability_text(int(cells.any_probability[place]) * PROBABILITY_SCALE),
        )
        for x, anchor, text, ink in zip(
            columns, anchors, texts, (INK, CLASSES[code].colour, INK, INK, INK), strict=True
        ):
            draw.text((x, y), text, fill=ink, font=font_of(15), anchor=anchor)
        y += 19
    return y + 13


def _passes(draw: ImageDraw.ImageDraw, facts: LandslidePicture, y: int) -> int:
    """Name every acquisition in order of time, and return where the panel goes on."""
    sides = (("Acquired before, UTC", facts.pre_acquired), ("after, UTC", facts.post_acquired))
    for number, (title, times) in enumerate(sides):
        x = PANEL_X + 190 * number
        draw.text((x, y), title, fill=FAINT, font=font_of(14))
        known = sorted(time for time in times if time)
        texts = [f"{time.astimezone(UTC):%Y-%m-%d %H:%M}" for time in known] + ["unknown"] * (len(times) - len(known))
        for line, text in enumerate(texts):
            ink = ALARM if text == "unknown" else INK
            draw.text((x, y + 20 + 18 * line), text, fill=ink, font=font_of(14))
    return y + 20 + 18 * max(len(times) for _, times in sides) + 14
