"""The picture a duty officer looks at first: what is flooded, how much, where, when, and what was not seen."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from tocsin.grid import Grid
from tocsin.hazards.flood import CLASSES, NO_DATA, NOT_OBSERVABLE
from tocsin.mapframe import SIDE, MapSize, draw_graticule, draw_map, ground, line, map_size

_WIDTH: Final = 1400
_LEFT: Final = 100
_PANEL_X: Final = _LEFT + SIDE + 40
_PANEL_WIDTH: Final = _WIDTH - _PANEL_X - 30
_TOP: Final = 118
_PANEL_HEIGHT: Final = 660
_INK: Final = (30, 34, 40)
_FAINT: Final = (95, 102, 112)
_ALARM: Final = (176, 0, 32)
_PAPER: Final = (255, 255, 255)
_AMBER: Final = (255, 214, 102)
_SOFT: Final = (205, 210, 218)
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
    notes = _wrapped([f"! {note}" for note in facts.notes], _font(16), _WIDTH - 2 * 30 - 20)
    body = max(size.height + 34, _PANEL_HEIGHT)
    picture = Image.new("RGB", (_WIDTH, _TOP + body + 24 + (22 * len(notes) + 26 if notes else 0) + 40), _PAPER)
    _header(picture, facts)
    # The map is centred in its place: a long thin scene leaves room on both sides.
    origin = (_LEFT + (SIDE - size.width) // 2, _TOP + max(0, (_PANEL_HEIGHT - 34 - size.height) // 2))
    picture.paste(draw_map(shares, backdrop, size), origin)
    draw_graticule(picture, facts.grid, size, origin)
    if facts.valid_fraction < _ENOUGH:
        _stamp(picture, facts, (_LEFT + SIDE // 2, origin[1] + size.height // 2))
    _panel(picture, facts, size, has_backdrop=backdrop is not None)
    _footer(picture, facts, notes, _TOP + body + 24)
    picture.save(path, format="PNG", compress_level=4)


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _header(picture: Image.Image, facts: QuicklookFacts) -> None:
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, _WIDTH, 84), fill=_INK)
    draw.text((30, 13), f"{facts.hazard.upper()} MAP", fill=_AMBER, font=_font(19))
    draw.text((30, 39), _shortened(facts.scene_id, _font(30), 900), fill=_PAPER, font=_font(30))
    post_ink, pre_ink = (
        _PAPER if facts.acquired else _AMBER,
        _SOFT if facts.pre_acquired or not facts.has_pre else _AMBER,
    )
    draw.text((_WIDTH - 30, 12), _when("post-event", facts.acquired), fill=post_ink, font=_font(21), anchor="ra")
    second = _when("pre-event", facts.pre_acquired) if facts.has_pre else "no pre-event acquisition"
    draw.text((_WIDTH - 30, 39), second, fill=pre_ink, font=_font(16), anchor="ra")
    if facts.has_pre:
        draw.text((_WIDTH - 30, 59), f"gap: {_gap(facts)}", fill=_SOFT, font=_font(16), anchor="ra")


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
    _superscript(draw, (_WIDTH - 146, y), "km", _font(15))
    draw.text((_WIDTH - 30, y), "of observed", fill=_FAINT, font=_font(15), anchor="ra")
    y = _legend(picture, facts, y + 26)
    low = facts.valid_fraction < _ENOUGH
    text = f"{_percent(facts.valid_fraction)} of the scene has a result"
    draw.text((_PANEL_X, y), text, fill=_ALARM if low else _INK, font=_font(17))
    if has_backdrop:
        draw.text((_PANEL_X, y + 28), "Grey: radar backscatter VV, 2nd to 98th percentile", fill=_FAINT, font=_font(13))
    y += 72
    _bar(draw, size, y)
    _north(draw, facts.grid, (_WIDTH - 62, y + 12))
    _corners(draw, facts.grid, y + 82)


def _headline(draw: ImageDraw.ImageDraw, facts: QuicklookFacts) -> int:
    """Write the figure that matters in large type, and return where the panel goes on."""
    code = next(iter(facts.km2))
    nothing = facts.valid_fraction == 0
    figure = "nothing seen" if nothing else _km2(facts.km2[code])
    colour = _ALARM if nothing else CLASSES[code].colour
    draw.text((_PANEL_X, _TOP - 8), CLASSES[code].title, fill=_INK, font=_font(22))
    draw.text((_PANEL_X, _TOP + 22), figure, fill=colour, font=_font(54))
    if not nothing:
        width = draw.textlength(figure, font=_font(54))
        _superscript(draw, (_PANEL_X + width + 12, _TOP + 48), "km", _font(28), fill=colour)
    return _TOP + 104


def _superscript(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    fill: tuple[int, int, int] = _FAINT,
) -> None:
    """Write a unit squared: the embedded font has no raised two."""
    draw.text(place, text, fill=fill, font=font)
    size = font.size if isinstance(font, ImageFont.FreeTypeFont) else 10
    draw.text(
        (place[0] + draw.textlength(text, font=font) + 1, place[1] - size / 5), "2", fill, _font(round(size * 0.62))
    )


def _legend(picture: Image.Image, facts: QuicklookFacts, y: int) -> int:
    """Draw a row per class, then the sum of what was observed, and return where the panel goes on."""
    draw = ImageDraw.Draw(picture)
    seen = sum(km2 for code, km2 in facts.km2.items() if code not in {NOT_OBSERVABLE, NO_DATA})
    for code, km2 in facts.km2.items():
        _swatch(picture, code, (_PANEL_X, y))
        draw.text((_PANEL_X + 44, y + 12), CLASSES[code].title, fill=_INK, font=_font(17), anchor="lm")
        share = f"{km2 / seen:6.1%}" if seen and code not in {NOT_OBSERVABLE, NO_DATA} else ""
        draw.text((_WIDTH - 112, y + 12), _km2(km2), fill=_INK, font=_font(19), anchor="rm")
        draw.text((_WIDTH - 30, y + 12), share, fill=_FAINT, font=_font(15), anchor="rm")
        y += 36
    draw.line((_PANEL_X, y + 2, _WIDTH - 30, y + 2), fill=(200, 204, 210), width=1)
    draw.text((_PANEL_X, y + 22), "Observed", fill=_INK, font=_font(17), anchor="lm")
    draw.text((_WIDTH - 112, y + 22), _km2(seen), fill=_INK, font=_font(19), anchor="rm")
    return y + 50


def _km2(km2: float) -> str:
    """Three significant figures at least, no more than whole square kilometres need."""
    if km2 == 0:
        return "0"
    decimals = max(0, min(4, 2 - math.floor(math.log10(km2))))
    return f"{km2:,.{decimals}f}" if km2 >= 0.00005 else "<0.0001"


def _percent(share: float) -> str:
    """Whole per cent, never 0 or 100 when it is neither."""
    if 0 < share < 0.01:
        return "less than 1 %"
    return f"{share:.0%}".replace("%", " %") if not 0.99 < share < 1 else "more than 99 %"


def _swatch(picture: Image.Image, code: int, place: tuple[int, int]) -> None:
    box = Image.new("RGB", (32, 24), CLASSES[code].colour)
    if code in {NOT_OBSERVABLE, NO_DATA}:
        box.paste(ground(code), (0, 0, 32, 24))
        draw = ImageDraw.Draw(box)
        slant = 24 if code == NO_DATA else -24
        for x in range(-24, 57, 9):
            draw.line((x, 0, x + slant, 24), fill=line(code), width=2)
    picture.paste(box, place)
    ImageDraw.Draw(picture).rectangle((place[0], place[1], place[0] + 32, place[1] + 24), outline=_INK, width=1)


def _bar(draw: ImageDraw.ImageDraw, size: MapSize, y: int) -> None:
    """Scale bar of a round length, at the scale of the scene's centre."""
    longest = 230 * size.metres
    power = 10.0 ** math.floor(math.log10(longest))
    metres = max(step * power for step in (1, 2, 5) if step * power <= longest)
    width = round(metres / size.metres)
    name = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
    for part in range(4):
        x = _PANEL_X + part * width / 4
        draw.rectangle((x, y + 24, x + width / 4, y + 32), fill=_PAPER if part % 2 else _INK, outline=_INK)
    draw.text((_PANEL_X, y), "0", fill=_INK, font=_font(15))
    draw.text((_PANEL_X + width, y), name, fill=_INK, font=_font(15), anchor="ma")
    if size.stretched:
        draw.text((_PANEL_X, y + 40), "Long side only: the short side is drawn larger", fill=_ALARM, font=_font(13))


def _north(draw: ImageDraw.ImageDraw, grid: Grid, centre: tuple[int, int]) -> None:
    """Arrow to true north at the scene's centre."""
    lon, lat = grid.lonlat(grid.height * np.array([0.75, 0.25], dtype=np.float64), np.full(2, grid.width / 2))
    east = ((float(lon[1] - lon[0]) + 180) % 360 - 180) * math.cos(math.radians(float(lat.mean())))
    angle = -math.atan2(east, float(lat[1] - lat[0])) if np.isfinite(lon).all() and lat[0] != lat[1] else 0.0

    def turned(x: float, y: float) -> tuple[float, float]:
        sine, cosine = math.sin(angle), math.cos(angle)
        return centre[0] + x * cosine - y * sine, centre[1] + x * sine + y * cosine

    draw.polygon([turned(0, -26), turned(11, 16), turned(0, 8), turned(-11, 16)], fill=_INK)
    draw.text(turned(0, -38), "N", fill=_INK, font=_font(18), anchor="mm")


def _corners(draw: ImageDraw.ImageDraw, grid: Grid, y: int) -> None:
    lon, lat = grid.lonlat(np.array([0.0, float(grid.height)]), np.array([0.0, float(grid.width)]))
    name = grid.crs_name if len(grid.crs_name) < 30 else "own projection"
    lines = [
        f"NW  {_position(lon[0], lat[0])}",
        f"SE  {_position(lon[1], lat[1])}",
        f"{grid.width} x {grid.height} px of {'{:.3g} x {:.3g}'.format(*grid.pixel_size_m())} m, {name}",
    ]
    for number, text in enumerate(lines):
        draw.text((_PANEL_X, y + 21 * number), text, fill=_FAINT, font=_font(14))


def _position(lon: float, lat: float) -> str:
    if not (math.isfinite(lon) and math.isfinite(lat)):
        return "outside the projection"
    lon = (lon + 180) % 360 - 180
    north, east = "N" if lat >= 0 else "S", "E" if lon >= 0 else "W"
    return f"{abs(lat):.4f}\N{DEGREE SIGN} {north}  {abs(lon):.4f}\N{DEGREE SIGN} {east}"


def _stamp(picture: Image.Image, facts: QuicklookFacts, centre: tuple[int, int]) -> None:
    """Say in large letters over the map that little or nothing was seen."""
    text = (
        "NO VALID DATA: NOTHING WAS SEEN"
        if facts.valid_fraction == 0
        else (f"PARTIAL: ONLY {_percent(facts.valid_fraction).upper()} OF THE SCENE SEEN")
    )
    draw = ImageDraw.Draw(picture)
    font = _font(32)
    left, top, right, bottom = draw.textbbox(centre, text, font=font, anchor="mm")
    draw.rectangle((left - 22, top - 16, right + 22, bottom + 16), fill=_PAPER, outline=_ALARM, width=4)
    draw.text(centre, text, fill=_ALARM, font=font, anchor="mm")


def _footer(picture: Image.Image, facts: QuicklookFacts, notes: list[str], y: int) -> None:
    draw = ImageDraw.Draw(picture)
    if notes:
        draw.rectangle((30, y, _WIDTH - 30, y + 22 * len(notes) + 12), fill=(255, 243, 205), outline=(214, 158, 46))
        for number, text in enumerate(notes):
            draw.text((42, y + 7 + 22 * number), text, fill=(92, 60, 0), font=_font(16))
        y += 22 * len(notes) + 26
    draw.text((30, y), _shortened(facts.method, _font(14), _WIDTH - 60), fill=_FAINT, font=_font(14))


def _shortened(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: float) -> str:
    if font.getlength(text) <= width:
        return text
    # The end of a scene id tells scenes of one day apart: the middle goes.
    keep = len(text)
    while keep > 8 and font.getlength(f"{text[: keep // 2]}...{text[-(keep // 2) :]}") > width:
        keep -= 1
    return f"{text[: keep // 2]}...{text[-(keep // 2) :]}"


def _wrapped(
    texts: list[str], font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: float, most: int = 10
) -> list[str]:
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
        lines.append(_shortened(current, font, width))
    return lines if len(lines) <= most else [*lines[: most - 1], "... more in the item"]
