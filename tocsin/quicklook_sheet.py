"""What the pictures of all hazards have in common: the sheet around the map, its type, scale, north and notes."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tocsin.grid import Grid
from tocsin.hazards.classes import NO_DATA, NOT_OBSERVABLE
from tocsin.mapframe import SIDE, MapSize, draw_graticule, ground, line

WIDTH: Final = 1400
LEFT: Final = 100
PANEL_X: Final = LEFT + SIDE + 40
TOP: Final = 118
INK: Final = (30, 34, 40)
FAINT: Final = (95, 102, 112)
ALARM: Final = (176, 0, 32)
PAPER: Final = (255, 255, 255)
AMBER: Final = (255, 214, 102)
SOFT: Final = (205, 210, 218)

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
RGB = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetFacts:
    """What stands around the map.

    Attributes
    ----------
    title, scene_id : str
        Upper left.
    lines : tuple of (str, RGB)
        Upper right, the first one largest.
    grid : Grid
        Of the scene.
    valid_fraction : float
        Share of pixels with a result, 0-1.
    enough : float
        Share below which the picture warns in large letters.
    method : str
        Model, version, precision, runtime, threshold.
    notes : tuple of str
        Warnings, in words.
    """

    title: str
    scene_id: str
    lines: tuple[tuple[str, RGB], ...]
    grid: Grid
    valid_fraction: float
    enough: float
    method: str
    notes: tuple[str, ...]


def compose(facts: SheetFacts, drawn: Image.Image, size: MapSize, panel_height: int) -> Image.Image:
    """Lay out a sheet with the map; the panel right of it, `panel_height` pixels from `TOP` on, stays free."""
    notes = wrapped([f"! {note}" for note in facts.notes], font_of(16), WIDTH - 2 * 30 - 20)
    body = max(size.height + 34, panel_height)
    picture = Image.new("RGB", (WIDTH, TOP + body + 24 + (22 * len(notes) + 26 if notes else 0) + 40), PAPER)
    _header(picture, facts)
    # The map is centred in its place: a long thin scene leaves room on both sides.
    origin = (LEFT + (SIDE - size.width) // 2, TOP + max(0, (panel_height - 34 - size.height) // 2))
    picture.paste(drawn, origin)
    if facts.grid.crs:
        draw_graticule(picture, facts.grid, size, origin)
    else:
        frame = (origin[0] - 1, origin[1] - 1, origin[0] + size.width, origin[1] + size.height)
        ImageDraw.Draw(picture).rectangle(frame, outline=INK, width=2)
    if facts.valid_fraction < facts.enough:
        _stamp(picture, facts.valid_fraction, (LEFT + SIDE // 2, origin[1] + size.height // 2))
    _footer(picture, facts.method, notes, TOP + body + 24)
    return picture


def save(picture: Image.Image, path: Path) -> None:
    """Write a finished sheet as PNG."""
    picture.save(path, format="PNG", compress_level=4)


def _header(picture: Image.Image, facts: SheetFacts) -> None:
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, WIDTH, 84), fill=INK)
    draw.text((30, 13), facts.title, fill=AMBER, font=font_of(19))
    draw.text((30, 39), shortened(facts.scene_id, font_of(30), 900), fill=PAPER, font=font_of(30))
    for (text, ink), y, height in zip(facts.lines, (12, 39, 59), (21, 16, 16), strict=False):
        draw.text((WIDTH - 30, y), text, fill=ink, font=font_of(height), anchor="ra")


def font_of(size: int) -> Font:
    """Return the embedded font, the same on every machine."""
    return ImageFont.load_default(size)


def superscript(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    font: Font,
    fill: RGB = FAINT,
) -> None:
    """Write a unit squared: the embedded font has no raised two."""
    draw.text(place, text, fill=fill, font=font)
    size = font.size if isinstance(font, ImageFont.FreeTypeFont) else 10
    draw.text(
        (place[0] + draw.textlength(text, font=font) + 1, place[1] - size / 5), "2", fill, font_of(round(size * 0.62))
    )


def km2_text(km2: float) -> str:
    """Three significant figures at least, no more than whole square kilometres need."""
    if km2 == 0:
        return "0"
    decimals = max(0, min(4, 2 - math.floor(math.log10(km2))))
    return f"{km2:,.{decimals}f}" if km2 >= 0.00005 else "<0.0001"


def percent_text(share: float) -> str:
    """Whole per cent, never 0 or 100 when it is neither."""
    if 0 < share < 0.01:
        return "less than 1 %"
    return f"{share:.0%}".replace("%", " %") if not 0.99 < share < 1 else "more than 99 %"


def swatch(picture: Image.Image, code: int, colour: RGB, place: tuple[int, int]) -> None:
    """Draw the colour of a class in the legend, or the hatching of what was not seen."""
    box = Image.new("RGB", (32, 24), colour)
    if code in {NOT_OBSERVABLE, NO_DATA}:
        box.paste(ground(code), (0, 0, 32, 24))
        draw = ImageDraw.Draw(box)
        slant = 24 if code == NO_DATA else -24
        for x in range(-24, 57, 9):
            draw.line((x, 0, x + slant, 24), fill=line(code), width=2)
    picture.paste(box, place)
    ImageDraw.Draw(picture).rectangle((place[0], place[1], place[0] + 32, place[1] + 24), outline=INK, width=1)


def scale_bar(draw: ImageDraw.ImageDraw, size: MapSize, y: int) -> None:
    """Draw a bar of a round length, at the scale of the scene's centre."""
    longest = 230 * size.metres
    power = 10.0 ** math.floor(math.log10(longest))
    metres = max(step * power for step in (1, 2, 5) if step * power <= longest)
    width = round(metres / size.metres)
    name = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
    for part in range(4):
        x = PANEL_X + part * width / 4
        draw.rectangle((x, y + 24, x + width / 4, y + 32), fill=PAPER if part % 2 else INK, outline=INK)
    draw.text((PANEL_X, y), "0", fill=INK, font=font_of(15))
    draw.text((PANEL_X + width, y), name, fill=INK, font=font_of(15), anchor="ma")
    if size.stretched:
        draw.text((PANEL_X, y + 40), "Long side only: the short side is drawn larger", fill=ALARM, font=font_of(13))


def north_arrow(draw: ImageDraw.ImageDraw, grid: Grid, centre: tuple[int, int]) -> None:
    """Draw an arrow to true north at the scene's centre."""
    lon, lat = grid.lonlat(grid.height * np.array([0.75, 0.25], dtype=np.float64), np.full(2, grid.width / 2))
    east = ((float(lon[1] - lon[0]) + 180) % 360 - 180) * math.cos(math.radians(float(lat.mean())))
    angle = -math.atan2(east, float(lat[1] - lat[0])) if np.isfinite(lon).all() and lat[0] != lat[1] else 0.0

    def turned(x: float, y: float) -> tuple[float, float]:
        sine, cosine = math.sin(angle), math.cos(angle)
        return centre[0] + x * cosine - y * sine, centre[1] + x * sine + y * cosine

    draw.polygon([turned(0, -26), turned(11, 16), turned(0, 8), turned(-11, 16)], fill=INK)
    draw.text(turned(0, -38), "N", fill=INK, font=font_of(18), anchor="mm")


def corner_lines(draw: ImageDraw.ImageDraw, grid: Grid, y: int) -> None:
    """Say where the scene's corners lie, and its size."""
    lon, lat = grid.lonlat(np.array([0.0, float(grid.height)]), np.array([0.0, float(grid.width)]))
    name = grid.crs_name if len(grid.crs_name) < 30 else "own projection"
    lines = [
        f"NW  {_position(lon[0], lat[0])}",
        f"SE  {_position(lon[1], lat[1])}",
        f"{grid.width} x {grid.height} px of {'{:.3g} x {:.3g}'.format(*grid.pixel_size_m())} m, {name}",
    ]
    for number, text in enumerate(lines):
        draw.text((PANEL_X, y + 21 * number), text, fill=FAINT, font=font_of(14))


def _position(lon: float, lat: float) -> str:
    if not (math.isfinite(lon) and math.isfinite(lat)):
        return "outside the projection"
    lon = (lon + 180) % 360 - 180
    north, east = "N" if lat >= 0 else "S", "E" if lon >= 0 else "W"
    return f"{abs(lat):.4f}\N{DEGREE SIGN} {north}  {abs(lon):.4f}\N{DEGREE SIGN} {east}"


def _stamp(picture: Image.Image, valid_fraction: float, centre: tuple[int, int]) -> None:
    """Say in large letters over the map that little or nothing was seen."""
    text = (
        "NO VALID DATA: NOTHING WAS SEEN"
        if valid_fraction == 0
        else (f"PARTIAL: ONLY {percent_text(valid_fraction).upper()} OF THE SCENE SEEN")
    )
    draw = ImageDraw.Draw(picture)
    font = font_of(32)
    left, top, right, bottom = draw.textbbox(centre, text, font=font, anchor="mm")
    draw.rectangle((left - 22, top - 16, right + 22, bottom + 16), fill=PAPER, outline=ALARM, width=4)
    draw.text(centre, text, fill=ALARM, font=font, anchor="mm")


def _footer(picture: Image.Image, method: str, notes: list[str], y: int) -> None:
    draw = ImageDraw.Draw(picture)
    if notes:
        draw.rectangle((30, y, WIDTH - 30, y + 22 * len(notes) + 12), fill=(255, 243, 205), outline=(214, 158, 46))
        for number, text in enumerate(notes):
            draw.text((42, y + 7 + 22 * number), text, fill=(92, 60, 0), font=font_of(16))
        y += 22 * len(notes) + 26
    draw.text((30, y), shortened(method, font_of(14), WIDTH - 60), fill=FAINT, font=font_of(14))


def shortened(text: str, font: Font, width: float) -> str:
    """Leave out the middle of a text that is too wide."""
    if font.getlength(text) <= width:
        return text
    # The end of a scene id tells scenes of one day apart: the middle goes.
    keep = len(text)
    while keep > 8 and font.getlength(f"{text[: keep // 2]}...{text[-(keep // 2) :]}") > width:
        keep -= 1
    return f"{text[: keep // 2]}...{text[-(keep // 2) :]}"


def wrapped(texts: list[str], font: Font, width: float, most: int = 10) -> list[str]:
    """Break texts into lines that fit; at most `most` of them."""
    lines = []
    for text in texts:
        current = ""
        for word in text.split():
            longer = f"{current} {word}".strip()
            if current and font.getlength(longer) > width:
                lines.append(current)
                longer = f"   {word}"
            current = longer
        lines.append(shortened(current, font, width))
    return lines if len(lines) <= most else [*lines[: most - 1], "... more in the item"]
