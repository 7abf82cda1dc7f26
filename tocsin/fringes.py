"""The map of an interferogram: fringes in cyclic colours, detections outlined, the unseen hatched.

The colours run around an ellipse in CIELAB through light, orange, dark and blue: equal steps of phase are steps of one
length nearly, and both lightness and the blue-orange axis tell them apart, which all kinds of colour-blind eyes keep.
"""

import math
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from tocsin.mapframe import MapSize, hatch_unseen, resized, to_image

STEPS: Final = 256
"""Colours of one cycle."""

_LIGHTNESS: Final = (60.0, 30.0)
"""Middle and reach of L*: light at 0 rad, dark at +-pi."""
_AXIS: Final = (10.0, 38.0)
"""Reach of a* and b*: orange at pi / 2, blue at -pi / 2; all colours are within sRGB. Our choice."""
_WHITE: Final = np.array([0.95047, 1.0, 1.08883])
"""CIE D65."""
# XYZ to linear sRGB (IEC 61966-2-1).
_TO_SRGB: Final = np.array(
    [[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]], dtype=np.float64
)
_PLAIN: Final = np.float32(226)
_CASING: Final = (255, 255, 255)

FloatArray = npt.NDArray[np.float32]


@cache
def cycle() -> FloatArray:
    """Colours of one cycle from -pi to pi: float32 [STEPS, 3], 0-255."""
    angle = (np.arange(STEPS) + 0.5) / STEPS * 2 * math.pi - math.pi
    lightness = _LIGHTNESS[0] + _LIGHTNESS[1] * np.cos(angle)
    a, b = (reach * np.sin(angle) for reach in _AXIS)
    # CIELAB to XYZ (CIE 15:2004, section 8.2.1).
    middle = (lightness + 16) / 116
    cubes = np.stack([middle + a / 500, middle, middle - b / 200], axis=-1)
    xyz = np.where(cubes > 6 / 29, cubes**3, (cubes - 4 / 29) * 3 * (6 / 29) ** 2) * _WHITE
    linear = np.clip(xyz @ _TO_SRGB.T, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(255 * srgb, dtype=np.float32)


def colour_of(phase: npt.NDArray[Any]) -> FloatArray:
    """Colour of phase, floating, rad: float32 [..., 3], 0-255."""
    place = np.floor((phase + math.pi) / (2 * math.pi) * STEPS).astype(np.int64) % STEPS
    colours: FloatArray = cycle()[place]
    return colours


def draw_fringes(
    shares: Mapping[int, FloatArray],
    directions: FloatArray | None,
    size: MapSize,
    outlined: Mapping[int, tuple[int, int, int]],
) -> Image.Image:
    """Draw phase, and outline some classes over it.

    Parameters
    ----------
    shares : mapping
        Share of each code, float32 [row, col], 0-1.
    directions : numpy.ndarray or None
        Mean cosine and sine of phase, float32 [2, row, col] of any shape over the same ground, NaN = no data.
    size : MapSize
        Size of the picture.
    outlined : mapping
        Red, green, blue, 0-255, of the outline of each code that gets one.
    """
    canvas = np.full((size.height, size.width, 3), _PLAIN, dtype=np.float32)
    if directions is not None:
        known = np.isfinite(directions[0])
        # Directions are resized, not phase: what is between -3.1 and 3.1 rad is pi, never 0.
        cosine, sine = (resized(np.where(known, part, np.float32(0)), size) for part in directions)
        seen = resized(known.astype(np.float32), size) >= 0.5
        canvas[seen] = colour_of(np.arctan2(sine, cosine))[seen]
    hatch_unseen(canvas, shares, size)
    for code, colour in outlined.items():
        _outline(canvas, resized((shares[code] > 0).astype(np.float32), size) >= 0.25, colour)
    return to_image(canvas)


def _outline(canvas: FloatArray, inside: npt.NDArray[np.bool_], colour: tuple[int, int, int]) -> None:
    """Draw the edge of an area, cased in white so that it stands out from any fringe."""
    if not inside.any():
        return
    for reach, ink in ((2, _CASING), (1, colour)):
        # Nothing beyond the map's edge counts as outside: an outline there would say that the area ends.
        canvas[_grown(inside, reach) & _grown(~inside, reach)] = ink


def _grown(inside: npt.NDArray[np.bool_], pixels: int) -> npt.NDArray[np.bool_]:
    """Grow an area by some pixels along rows and columns."""
    for _ in range(pixels):
        grown = inside.copy()
        grown[1:] |= inside[:-1]
        grown[:-1] |= inside[1:]
        grown[:, 1:] |= inside[:, :-1]
        grown[:, :-1] |= inside[:, 1:]
        inside = grown
    return inside
