"""Draws of deformation sources, from the ranges that volcano geodesy finds.

Ranges widen those of SyInterferoPy (Gaddes et al., 2019) and of Anantrasirichai et al. (2019): what counts is that
depth and size lie between a few pixels and a quarter of the scene, and that strength makes the fringes asked for.
"""

import math
from typing import Final, Literal

from tocsin.simulate.deformation import DeformationSource, Mogi, PennyCrack, Rectangle, Spheroid
from tocsin.simulate.fields import RandomSource

SourceName = Literal["mogi", "dyke", "sill", "penny", "spheroid", "earthquake"]
SOURCES: Final[tuple[SourceName, ...]] = ("mogi", "dyke", "sill", "penny", "spheroid", "earthquake")
"""Every kind of source that can be drawn."""

_DEPTH_M: Final = (1000.0, 10_000.0)
# Volume changes are drawn as 1e6 m3 and openings as 1 m, then scaled; these bounds keep the scaled source plausible.
_UNIT_M3: Final = 1e6
_LARGEST: Final[dict[SourceName, float]] = {
    "mogi": 3e8,
    "dyke": 8.0,
    "sill": 8.0,
    "penny": 3e8,
    "spheroid": 3e8,
    "earthquake": 8.0,
}


def largest_strength(name: SourceName) -> float:
    """Return the largest plausible strength of a kind of source: volume change, m3, or opening or slip, m."""
    return _LARGEST[name]


def depth_range(pixel_m: float, extent_m: float) -> tuple[float, float]:
    """Return the depths that fit a scene, m: five pixels to a quarter of its extent, within 1 to 10 km if possible."""
    low = max(_DEPTH_M[0], 5 * pixel_m)
    return low, max(low, min(_DEPTH_M[1], extent_m / 4))


def draw_source(
    random: RandomSource, name: SourceName, place_m: tuple[float, float], depths_m: tuple[float, float]
) -> DeformationSource:
    """Draw a source of unit strength (1e6 m3, or 1 m of opening or slip).

    Parameters
    ----------
    random
        Where to draw from.
    name
        Kind of source.
    place_m
        East and north of its centre, m.
    depths_m
        Least and largest depth, m.
    """
    # Shallow sources are the commoner half of those that are seen: reservoirs lie at 1 to 4 km under most calderas.
    depth = depths_m[0] * (depths_m[1] / depths_m[0]) ** (random.number(0, 1) ** 1.5)
    east, north = place_m
    match name:
        case "mogi":
            return Mogi(east, north, depth, _UNIT_M3)
        case "penny":
            return PennyCrack(east, north, depth, depth * random.number(0.15, 0.5), _UNIT_M3)
        case "spheroid":
            aspect, trend, plunge = random.number(1.3, 5.0), random.number(0, 360), random.number(45, 90)
            return Spheroid(east, north, depth, aspect, trend, plunge, _UNIT_M3)
        case _:
            return _draw_rectangle(random, name, place_m, depth)


def _draw_rectangle(random: RandomSource, name: SourceName, place_m: tuple[float, float], depth: float) -> Rectangle:
    """Draw a dyke, a sill or a fault; ``depth`` is that of a sill, and sets the size of the others."""
    east, north = place_m
    strike = random.number(0, 360)
    if name == "sill":
        length, width = depth * random.number(0.6, 3.0), depth * random.number(0.6, 2.0)
        return Rectangle(east, north, depth, strike, random.number(0, 10), length, width, opening_m=1.0)
    dip = random.number(70, 90) if name == "dyke" else random.number(30, 90)
    length, width = depth * random.number(1.0, 4.0), depth * random.number(0.5, 1.5)
    # Dykes may stop just below the ground; the upper edge of either lies at 0.1 to 0.8 of the depth drawn.
    top = depth * random.number(0.1, 0.8)
    centre = top + width / 2 * math.sin(math.radians(dip))
    if name == "dyke":
        return Rectangle(east, north, centre, strike, dip, length, width, opening_m=1.0)
    rake = random.number(-180, 180)
    return Rectangle(east, north, centre, strike, dip, length, width, slip_m=1.0, rake_deg=rake)
