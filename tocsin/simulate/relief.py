"""Volcanic relief: rough ground, cones with craters, and the sea around.

Arrays are [H, W]; heights in m.
"""

import math
from dataclasses import dataclass
from typing import Final

import array_api_compat

from tocsin.simulate.fields import Array, RandomSource, power_law
from tocsin.simulate.spectra import coloured_noise, drawn_stretch

# A volcano's height over its base radius: shields 0.05, stratovolcanoes up to 0.35 (Grosse et al., 2009, Geology 37).
_CONE_SLOPE: Final = (0.06, 0.3)
_RIDGED_SHARE: Final = 0.4
_CONE_HEIGHT_M: Final = (300.0, 3000.0)


@dataclass(frozen=True)
class Cone:
    """A volcano in the relief: its summit in pixels, base radius and height in m."""

    row: float
    col: float
    radius_m: float
    height_m: float


@dataclass(frozen=True)
class Terrain:
    """The ground of a scene.

    Attributes
    ----------
    dem
        [H, W] float32 terrain height, m; 0 on water.
    water
        [H, W] bool: sea and lakes.
    cones
        Volcanoes; for terrain that was given, its highest point.
    pixel_m
        Pixel spacing, m.
    """

    dem: Array
    water: Array
    cones: tuple[Cone, ...]
    pixel_m: float


def simulated_terrain(random: RandomSource, shape: tuple[int, int], pixel_m: float, sea_share: float) -> Terrain:
    """Draw relief with one to three volcanoes.

    Parameters
    ----------
    random
        Where to draw from.
    shape
        (rows, cols).
    pixel_m
        Pixel spacing, m.
    sea_share
        Share of the scene below sea level, 0 to 1.
    """
    xp = random.xp
    relief_m = 10 ** random.number(1.5, 3.1)
    rough = power_law(random.number(3.0, 4.2), longest=random.number(5e3, 4e4))
    dem = coloured_noise(random, shape, rough, pixel_m, drawn_stretch(random, 0.5, 3.0))
    if random.number(0, 1) < _RIDGED_SHARE:
        # Ridges and valleys of dissected mountains: folded noise (Ebert et al. 2003, Texturing and Modeling, ch. 16).
        folded = 1 - xp.abs(dem)
        dem = (folded - xp.mean(folded)) / (xp.std(folded) + 1e-9)
    dem = dem * relief_m
    cones = tuple(_draw_cone(random, shape, pixel_m) for _ in range(1 + int(random.number(0, 3))))
    for cone in cones:
        dem = dem + _cone_height(random, dem, cone, pixel_m)
    # A sample is enough to place the shore, and a hundred times faster to sort.
    sample = xp.sort(xp.reshape(dem[::8, ::8], (-1,)))
    level = float(sample[min(int(sea_share * sample.shape[0]), sample.shape[0] - 1)])
    height = dem - level
    water = (height <= 0) if sea_share > 0 else xp.zeros_like(height, dtype=xp.bool)
    height = xp.where(water, xp.zeros_like(height), height)
    base_m = random.number(0, 2500) if sea_share == 0 else 0.0
    return Terrain(xp.astype(height + base_m, xp.float32), water, cones, pixel_m)


def given_terrain(dem: Array, pixel_m: float) -> Terrain:
    """Wrap a terrain model, such as one read from SRTM; what is unknown or not above sea level is water.

    Parameters
    ----------
    dem
        [H, W] terrain height, m; NaN where unknown.
    pixel_m
        Pixel spacing, m.
    """
    xp = array_api_compat.array_namespace(dem)
    water = xp.isnan(dem) | (dem <= 0)
    height = xp.astype(xp.where(water, xp.zeros_like(dem), dem), xp.float32)
    cols = height.shape[1]
    summit = int(xp.argmax(xp.reshape(height, (-1,))))
    rise_m = float(xp.max(height)) - float(xp.mean(height))
    cone = Cone(summit // cols, summit % cols, max(rise_m, 1.0) / _CONE_SLOPE[1], rise_m)
    return Terrain(height, water, (cone,), pixel_m)


def distance_m(like: Array, row: float, col: float, pixel_m: float) -> Array:
    """Return the distance of every pixel of a grid like ``like`` from a place in pixels, [H, W] float32, m."""
    east, north = local_coordinates(like, row, col, pixel_m)
    xp = array_api_compat.array_namespace(like)
    return xp.sqrt(east**2 + north**2)


def local_coordinates(like: Array, row: float, col: float, pixel_m: float) -> tuple[Array, Array]:
    """Return metres east [1, W] and north [H, 1] of a place in pixels, float32; rows run south."""
    xp = array_api_compat.array_namespace(like)
    device = array_api_compat.device(like)
    rows, cols = like.shape
    north = (row - xp.arange(rows, dtype=xp.float32, device=device)) * pixel_m
    east = (xp.arange(cols, dtype=xp.float32, device=device) - col) * pixel_m
    return xp.reshape(east, (1, cols)), xp.reshape(north, (rows, 1))


def _draw_cone(random: RandomSource, shape: tuple[int, int], pixel_m: float) -> Cone:
    """Draw a volcano that fits the scene."""
    extent_m = min(shape) * pixel_m
    height_m = math.exp(random.number(math.log(_CONE_HEIGHT_M[0]), math.log(_CONE_HEIGHT_M[1])))
    radius_m = min(height_m / random.number(*_CONE_SLOPE), 0.35 * extent_m)
    height_m = min(height_m, radius_m * _CONE_SLOPE[1])
    row, col = (size * random.number(0.15, 0.85) for size in shape)
    return Cone(row, col, radius_m, height_m)


def _cone_height(random: RandomSource, like: Array, cone: Cone, pixel_m: float) -> Array:
    """Return the height that a volcano adds: concave flanks, cut by a crater, [H, W] m."""
    xp = random.xp
    distance = distance_m(like, cone.row, cone.col, pixel_m) / cone.radius_m
    crater = random.number(0.0, 0.25)
    # Concave flanks: exp(-k r), lowered so that the foot at distance 1 has height 0.
    steep = random.number(1.0, 3.0)
    foot = math.exp(-steep)
    outer = xp.where(distance < crater, xp.full_like(distance, crater), distance)
    flank = (xp.exp(-steep * outer) - foot) / (1 - foot)
    return cone.height_m * xp.where(flank < 0, xp.zeros_like(flank), flank)
