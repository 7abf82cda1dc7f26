"""The map of a quicklook: a backdrop, classes in colour, the unseen hatched, a graticule around it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from tocsin.grid import Grid
from tocsin.hazards.classes import NO_DATA, NOT_OBSERVABLE

SIDE: Final = 860
"""Longest side of the map, pixels of the picture."""
THINNEST: Final = 24
"""Shortest side of the map: longer scenes are stretched across, and the picture says so."""

_INK: Final = (30, 34, 40)
_BOOST: Final = 2.0
"""A class in a part of a cell is shown this much stronger than its share, so that small floods stay visible."""
_STEPS: Final = (1, 2, 5)

RGBArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class MapSize:
    """Size of the map, and metres per pixel of it.

    Attributes
    ----------
    width, height : int
        Pixels.
    metres : float
        Metres per pixel along the longer side; NaN where the grid has no CRS.
    stretched : bool
        Whether the shorter side is drawn larger than it is.
    """

    width: int
    height: int
    metres: float
    stretched: bool


def map_size(grid: Grid) -> MapSize:
    """Size at which a scene fits the picture with equal scale on both axes; pixels are square without a CRS."""
    size_x, size_y = grid.pixel_size_m() if grid.crs else (1.0, 1.0)
    metres = max(grid.width * size_x, grid.height * size_y) / SIDE
    width, height = round(grid.width * size_x / metres), round(grid.height * size_y / metres)
    stretched = min(width, height) < THINNEST
    return MapSize(max(THINNEST, width), max(THINNEST, height), metres if grid.crs else math.nan, stretched)


def draw_map(
    shares: Mapping[int, npt.NDArray[np.float32]],
    backdrop: npt.NDArray[np.float32] | None,
    size: MapSize,
    colours: Mapping[int, tuple[int, int, int]],
) -> Image.Image:
    """Draw classes over backscatter.

    Parameters
    ----------
    shares : mapping
        Share of each code, float32 [row, col], 0-1.
    backdrop : numpy.ndarray or None
        Backscatter, dB, float32 of any shape over the same ground, NaN = no data.
    size : MapSize
        Size of the picture.
    colours : mapping
        Red, green, blue, 0-255, of each code that is painted.
    """
    canvas = _grey(backdrop, size)
    paint(canvas, shares, size, colours)
    hatch_unseen(canvas, shares, size)
    return to_image(canvas)


def paint(
    canvas: RGBArray,
    shares: Mapping[int, npt.NDArray[np.float32]],
    size: MapSize,
    colours: Mapping[int, tuple[int, int, int]],
) -> None:
    """Lay classes over a canvas, float32 [height, width, 3] of 0-255, each in its colour."""
    covered = np.zeros_like(shares[NO_DATA])
    colour = np.zeros((*covered.shape, 3), dtype=np.float32)
    for code, rgb in colours.items():
        colour += shares[code][..., None] * np.array(rgb, dtype=np.float32)
        covered += shares[code]
    # Premultiplied, so that resizing bleeds no colour where there is none.
    strength = np.minimum(1, _BOOST * covered)
    colour *= (strength / np.maximum(covered, 1e-6))[..., None]
    overlay = np.stack([resized(colour[..., band], size) for band in range(3)], axis=-1)
    canvas *= 1 - resized(strength, size)[..., None]
    canvas += overlay


def hatch_unseen(canvas: RGBArray, shares: Mapping[int, npt.NDArray[np.float32]], size: MapSize) -> None:
    """Hatch what was not seen on a canvas, float32 [height, width, 3] of 0-255."""
    for code, slant in ((NOT_OBSERVABLE, 1), (NO_DATA, -1)):
        unseen = np.greater_equal(resized((shares[code] >= 0.5).astype(np.float32), size), 0.5)
        canvas[unseen] = ground(code)
        canvas[unseen & hatch(size, slant)] = line(code)


def to_image(canvas: RGBArray) -> Image.Image:
    """Return a canvas, float32 [height, width, 3] of 0-255, as an image."""
    return Image.fromarray(np.clip(np.rint(canvas), 0, 255).astype(np.uint8))


def ground(code: int) -> tuple[int, int, int]:
    """Colour under the hatching of what was not seen."""
    return (250, 250, 250) if code == NO_DATA else (214, 200, 222)


def line(code: int) -> tuple[int, int, int]:
    """Colour of the hatching of what was not seen."""
    return (190, 190, 190) if code == NO_DATA else (110, 70, 130)


def hatch(size: MapSize, direction: int) -> npt.NDArray[np.bool_]:
    """Diagonal lines: bool [height, width]."""
    slant = np.arange(size.width) + direction * np.arange(size.height)[:, None]
    return np.asarray(slant % 9 < 2)


def draw_graticule(picture: Image.Image, grid: Grid, size: MapSize, origin: tuple[int, int]) -> None:
    """Draw parallels and meridians over the map at `origin` of the picture, labelled left of and below it.

    The lines are those of the grid's own projection: nearly straight, and drawn through what `Grid.lonlat` gives.
    """
    draw = ImageDraw.Draw(picture, "RGBA")
    font = ImageFont.load_default(15)
    rows, cols = np.mgrid[0:41, 0:41] / 40.0
    lon, lat = grid.lonlat(rows * grid.height, cols * grid.width)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        return
    lon = np.degrees(np.unwrap(np.radians(lon), axis=1))
    left, top = origin
    for values, is_lat in ((lat, True), (lon, False)):
        span = float(values.max() - values.min())
        if not 0 < span < 90:
            continue
        step, decimals = _tick(span)
        last: float | None = None
        for number in range(math.ceil(values.min() / step), math.floor(values.max() / step) + 1):
            line_ = _isoline(values if is_lat else values.T, number * step)
            points = [
                (left + across * size.width, top + down * size.height)
                for across, down in (line_ if is_lat else [(b, a) for a, b in line_])
            ]
            if len(points) < 2:
                continue
            draw.line(points, fill=(20, 24, 30, 90), width=1)
            text = _label(number * step, decimals, is_lat=is_lat)
            place = points[0][1] if is_lat else points[-1][0]
            needed = 18 if is_lat else draw.textlength(text, font=font) + 12
            # A line that ends inside the map has no place on the frame to be labelled at.
            reaches = points[0][0] == left if is_lat else points[-1][1] == top + size.height
            if not reaches or (last is not None and abs(place - last) < needed):
                continue
            last = place
            if is_lat:
                draw.text((left - 8, place), text, fill=_INK, font=font, anchor="rm")
            else:
                draw.text((place, top + size.height + 7), text, fill=_INK, font=font, anchor="mt")
    draw.rectangle((left - 1, top - 1, left + size.width, top + size.height), outline=_INK, width=2)


def _isoline(values: npt.NDArray[np.float64], level: float) -> list[tuple[float, float]]:
    """Where each column of [41, 41] values crosses a level, as (column, row) shares of the map."""
    found = []
    for index in range(values.shape[1]):
        column = values[:, index]
        low, high = (column, np.arange(41)) if column[-1] > column[0] else (column[::-1], np.arange(41)[::-1])
        if low[0] <= level <= low[-1]:
            found.append((index / 40, float(np.interp(level, low, high)) / 40))
    return found


def _tick(span: float) -> tuple[float, int]:
    """Step of a graticule with two to five lines, degrees, and the decimals that it needs."""
    power = math.floor(math.log10(span / 2))
    step = max(one * 10.0**power for one in _STEPS if one * 10.0**power <= span / 2)
    return step, max(0, -power)


def _label(value: float, decimals: int, *, is_lat: bool) -> str:
    if is_lat:
        return f"{abs(value):.{decimals}f}\N{DEGREE SIGN}{'N' if value >= 0 else 'S'}"
    wrapped = (value + 180) % 360 - 180
    return f"{abs(wrapped):.{decimals}f}\N{DEGREE SIGN}{'E' if wrapped >= 0 else 'W'}"


def _grey(backdrop: npt.NDArray[np.float32] | None, size: MapSize) -> RGBArray:
    """Backscatter between its 2nd and 98th percentile as light grey: float32 [height, width, 3]."""
    plain = np.float32(226)
    if backdrop is None:
        return np.full((size.height, size.width, 3), plain, dtype=np.float32)
    known = np.isfinite(backdrop)
    low, high = np.percentile(backdrop[known], (2, 98)).tolist()
    share = np.clip((backdrop - low) / max(high - low, 1e-3), 0, 1)
    grey = np.where(known, 125 + 125 * share, plain).astype(np.float32)
    return np.repeat(resized(grey, size)[..., None], 3, axis=-1)


def resized(cells: npt.NDArray[np.float32], size: MapSize) -> npt.NDArray[np.float32]:
    """Cells at the size of the map: each pixel is visible when enlarged, and averaged when reduced."""
    enlarged = size.width >= 2 * cells.shape[1] and size.height >= 2 * cells.shape[0]
    method = Image.Resampling.NEAREST if enlarged else Image.Resampling.BILINEAR
    image = Image.fromarray(np.ascontiguousarray(cells, dtype=np.float32))
    return np.asarray(image.resize((size.width, size.height), method), dtype=np.float32)
