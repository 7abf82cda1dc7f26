"""Where landslides start, how large they are, and which ground they cover.

Heads are drawn by slope, aspect and a trigger (storm or shaking) that grows across the scene; each scar runs downslope
from its head. Arrays are [H, W] or [n]; rows run south, columns east.
"""

import math
from dataclasses import dataclass
from typing import Final

import array_api_compat

from tocsin.simulate.decorrelation import central_differences
from tocsin.simulate.fields import Array, RandomSource, power_law_field, smooth, take
from tocsin.simulate.landslide_areas import landslide_areas
from tocsin.simulate.landslide_settings import ScarSettings

# Sample points per pixel of a scar, and at least so many per scar.
_POINTS_PER_PIXEL: Final = 16
_FEWEST_POINTS: Final = 4
_PATH_NODES: Final = 8
# How much of its direction a slide keeps from one node of its path to the next.
_INERTIA: Final = 0.5
# Slopes over which a landslide becomes as likely as it gets, and beyond which bare rock holds no soil to slide, deg.
_RISING_DEG: Final = 8.0
_ROCK_DEG: Final = (50.0, 65.0)
# How far scars wind to either side, over half of their width, and how often over their length.
_WINDING: Final = 0.3
_TURNS: Final = 1.5
_GOLDEN: Final = (math.sqrt(5) - 1) / 2
# Most of a scene, and of its ground steep enough to slide, that scars cover together, and most heads on that ground.
_LARGEST_SHARE: Final = 0.3
_LARGEST_STEEP_SHARE: Final = 0.6
_MOST_PER_STEEP_KM2: Final = 400.0


@dataclass(frozen=True)
class Scars:
    """The landslides of a scene.

    Attributes
    ----------
    heads
        [n, 2] float32 row and column of the highest point of each; the centre of a pixel has whole numbers.
    area_m2, length_m
        [n] float32 area and length along the path, overlaps and what leaves the scene included.
    coverage
        [H, W] float32 share of each pixel that slid, 0 to 1.
    owner
        [H, W] int64 index into ``heads`` of a scar that touches the pixel, -1 where there is none.
    density_per_km2
        Heads over the area of the scene where the terrain is known.
    """

    heads: Array
    area_m2: Array
    length_m: Array
    coverage: Array
    owner: Array
    density_per_km2: float

    @property
    def mask(self) -> Array:
        """[H, W] bool: where at least half of a pixel slid."""
        return self.coverage >= 0.5


@dataclass(frozen=True)
class Slopes:
    """Relief as a landslide knows it.

    Attributes
    ----------
    known
        [H, W] bool: where the terrain and all its neighbours are known.
    height_m
        [H, W] float32 terrain height, m; the mean height where unknown.
    slope_deg
        [H, W] float32 steepness over 30 m or so, deg.
    southward, eastward
        [H, W] float32 unit vector downhill; 0 on flat ground.
    """

    known: Array
    height_m: Array
    slope_deg: Array
    southward: Array
    eastward: Array


def slopes_of(dem: Array, pixel_m: float) -> Slopes:
    """Measure slope and its direction, with voids kept out.

    Parameters
    ----------
    dem
        [H, W] terrain height, m; NaN where unknown.
    pixel_m
        Pixel spacing, m.
    """
    xp = array_api_compat.array_namespace(dem)
    void = xp.isnan(dem)
    there = xp.astype(~void, xp.float32)
    total = float(xp.sum(there))
    zero = xp.where(void, xp.zeros_like(dem), dem)
    mean_m = float(xp.sum(zero)) / max(total, 1.0)
    height = xp.astype(xp.where(void, xp.full_like(dem, mean_m), dem), xp.float32)
    down, along = central_differences(smooth(height, 0.25, xp))
    steep = xp.sqrt(down**2 + along**2)
    floor = xp.where(steep < 1e-6, xp.ones_like(steep), steep)
    return Slopes(
        known=smooth(smooth(there, 0.25, xp), 0.25, xp) > 0.9999,
        height_m=height,
        slope_deg=xp.atan(steep / pixel_m) * (180 / math.pi),
        southward=-down / floor,
        eastward=-along / floor,
    )


def susceptibility(random: RandomSource, slopes: Slopes, settings: ScarSettings, barred: Array | None = None) -> Array:
    """Draw a trigger and return how likely each pixel is to hold a head, [H, W] float32, not normalised.

    Parameters
    ----------
    random
        Where to draw from.
    slopes
        The relief.
    settings
        Least slope, aspect preference and clustering.
    barred
        [H, W] bool: where no landslide starts whatever the slope, such as water.
    """
    xp = random.xp
    shape = slopes.slope_deg.shape
    steepness = xp.clip((slopes.slope_deg - settings.least_slope_deg) / _RISING_DEG, 0.0, 1.0)
    soil = xp.clip((_ROCK_DEG[1] - slopes.slope_deg) / (_ROCK_DEG[1] - _ROCK_DEG[0]), 0.0, 1.0)
    facing = random.number(0, 2 * math.pi)
    towards = slopes.southward * math.sin(facing) + slopes.eastward * math.cos(facing)
    lee = 1 - random.number(0, settings.aspect_preference) * (1 - towards) / 2
    strength = random.number(0, settings.clustering)
    row, col = (random.number(-0.5, 1.5) * size for size in shape)
    device = array_api_compat.device(slopes.slope_deg)
    rows = xp.reshape(xp.arange(shape[0], dtype=xp.float32, device=device), (shape[0], 1)) - row
    cols = xp.reshape(xp.arange(shape[1], dtype=xp.float32, device=device), (1, shape[1])) - col
    distance = xp.sqrt(rows**2 + cols**2) / max(shape)
    patches = power_law_field(random, shape, 3.0, longest_px=max(shape) / 3)
    trigger = xp.exp(strength * (0.3 * patches - distance))
    allowed = slopes.known if barred is None else slopes.known & ~barred
    return xp.where(allowed, steepness * soil * lee * trigger, xp.zeros_like(trigger))


def draw_scars(random: RandomSource, slopes: Slopes, likely: Array, settings: ScarSettings) -> Scars:
    """Draw the landslides of a scene; none where nothing is steep enough.

    Parameters
    ----------
    random
        Where to draw from.
    slopes
        The relief.
    likely
        [H, W] how likely each pixel is to hold a head, as :func:`susceptibility` returns it.
    settings
        Number, sizes and shapes.
    """
    xp = random.xp
    known_km2, steep_km2 = (
        float(xp.sum(xp.astype(where, xp.float32))) * settings.pixel_m**2 / 1e6 for where in (slopes.known, likely > 0)
    )
    low, high = (math.log(bound) for bound in settings.density_per_km2)
    count = round(min(known_km2 * math.exp(random.number(low, high)), steep_km2 * _MOST_PER_STEEP_KM2))
    cumulative = xp.cumulative_sum(xp.reshape(xp.astype(likely, xp.float64), (-1,)))
    total = float(cumulative[-1])
    if random.number(0, 1) >= settings.landslide_share or total <= 0:
        count = 0
    elif count == 0:
        count = 1
    heads = _heads(random, cumulative, count, likely.shape[1])
    area = _areas(random, count, settings, min(_LARGEST_SHARE * known_km2, _LARGEST_STEEP_SHARE * steep_km2) * 1e6)
    elongation = random.uniform((count,)) * (settings.elongation[1] - settings.elongation[0]) + settings.elongation[0]
    length = xp.sqrt(4 / math.pi * area * elongation)
    scars = Scars(
        heads=heads,
        area_m2=area,
        length_m=length,
        coverage=xp.zeros_like(likely),
        owner=xp.full_like(likely, -1, dtype=xp.int64),
        density_per_km2=count / known_km2 if known_km2 > 0 else 0.0,
    )
    return _covered(random, slopes, scars, settings.pixel_m) if count else scars


def _heads(random: RandomSource, cumulative: Array, count: int, cols: int) -> Array:
    """Draw pixels by their likelihood and a place within each, [count, 2]."""
    xp = random.xp
    draw = xp.astype(random.uniform((count,)), xp.float64) * cumulative[-1]
    pixel = xp.clip(xp.searchsorted(cumulative, draw, side="right"), 0, cumulative.shape[0] - 1)
    within = (random.uniform((count, 2)) - 0.5) * 0.98
    place = xp.stack([pixel // cols, pixel % cols], axis=1)
    return xp.astype(place, xp.float32) + within


def _areas(random: RandomSource, count: int, settings: ScarSettings, most_m2: float) -> Array:
    """Draw the areas, [count] m2; all shrink by one factor where together they would be more than ``most_m2``."""
    xp = random.xp
    low, high = (math.log(bound) for bound in settings.size_factor)
    factor = math.exp(random.number(low, high))
    area = landslide_areas(random.uniform((count,)), settings.largest_m2) * factor
    large_low, large_high = (math.log(bound) for bound in settings.large_m2)
    large_m2 = math.exp(random.number(large_low, large_high))
    if count and random.number(0, 1) < settings.large_share:
        area = xp.concat([xp.full_like(area[:1], large_m2), area[1:]])
    together = float(xp.sum(area))
    return area * (most_m2 / together) if together > most_m2 else area


def _covered(random: RandomSource, slopes: Slopes, scars: Scars, pixel_m: float) -> Scars:
    """Fill in which ground the scars cover.

    Points spread evenly over an ellipse (Vogel 1979, Mathematical Biosciences 44: a golden-angle spiral has one point
    per equal area), whose long axis is bent along the path of the slide and winds a little, are counted in each pixel.
    """
    xp = random.xp
    area_px = scars.area_m2 / pixel_m**2
    points = xp.astype(xp.ceil(area_px * _POINTS_PER_PIXEL), xp.int64) + _FEWEST_POINTS
    ends = xp.cumulative_sum(points)
    number = xp.arange(int(ends[-1]), device=array_api_compat.device(ends))
    scar = xp.searchsorted(ends, number, side="right")
    within = xp.astype(number - take(ends - points, scar, xp), xp.float64) + 0.5
    radius = xp.sqrt(within / xp.astype(take(points, scar, xp), xp.float64))
    turn = within * _GOLDEN
    angle = xp.astype(2 * math.pi * (turn - xp.floor(turn)), xp.float32)
    radius = xp.astype(radius, xp.float32)
    share = (1 + radius * xp.cos(angle)) / 2
    phase = take(random.uniform(area_px.shape) * (2 * math.pi), scar, xp)
    # A shear along the axis, which keeps areas; it starts from 0 at the head.
    winding = _WINDING * (xp.sin(2 * math.pi * _TURNS * share + phase) - xp.sin(phase))
    # The axes of an ellipse: area = pi / 4 length width.
    width_px = 4 / math.pi * scars.area_m2 / scars.length_m / pixel_m
    across = (radius * xp.sin(angle) + winding) * take(width_px, scar, xp) / 2
    row, col = _along_paths(slopes, scars, pixel_m, scar, (share, across))
    weight = take(xp.astype(area_px, xp.float64) / xp.astype(points, xp.float64), scar, xp)
    coverage, owner = _counted(row, col, weight, scar, scars.coverage)
    return Scars(scars.heads, scars.area_m2, scars.length_m, coverage, owner, scars.density_per_km2)


def _along_paths(
    slopes: Slopes, scars: Scars, pixel_m: float, scar: Array, place: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Return row and column of points given by their share of a path and their distance across it, px."""
    xp = array_api_compat.array_namespace(scar)
    rows, cols = _paths(slopes, scars, pixel_m)
    share, across = place
    node = xp.clip(xp.astype(xp.floor(share * _PATH_NODES), xp.int64), 0, _PATH_NODES - 1)
    step = share * _PATH_NODES - xp.astype(node, xp.float32)
    start = scar * (_PATH_NODES + 1) + node
    flat_rows, flat_cols = xp.reshape(rows, (-1,)), xp.reshape(cols, (-1,))
    row, col = take(flat_rows, start, xp), take(flat_cols, start, xp)
    down, along = take(flat_rows, start + 1, xp) - row, take(flat_cols, start + 1, xp) - col
    span = xp.sqrt(down**2 + along**2)
    span = xp.where(span < 1e-6, xp.ones_like(span), span)
    return row + step * down - across * along / span, col + step * along + across * down / span


def _paths(slopes: Slopes, scars: Scars, pixel_m: float) -> tuple[Array, Array]:
    """Follow the ground downhill from every head at once; rows and columns of the nodes, [n, nodes + 1]."""
    xp = array_api_compat.array_namespace(scars.heads)
    height, width = slopes.slope_deg.shape
    row, col = scars.heads[:, 0], scars.heads[:, 1]
    step = scars.length_m / pixel_m / _PATH_NODES
    rows, cols = [row], [col]
    down, along = xp.zeros_like(row), xp.zeros_like(col)
    for _ in range(_PATH_NODES):
        index = xp.clip(xp.round(row), 0, height - 1) * width + xp.clip(xp.round(col), 0, width - 1)
        index = xp.astype(index, xp.int64)
        down = _INERTIA * down + take(xp.reshape(slopes.southward, (-1,)), index, xp)
        along = _INERTIA * along + take(xp.reshape(slopes.eastward, (-1,)), index, xp)
        span = xp.sqrt(down**2 + along**2) + 1e-6
        down, along = down / span, along / span
        row, col = row + step * down, col + step * along
        rows.append(row)
        cols.append(col)
    return xp.stack(rows, axis=1), xp.stack(cols, axis=1)


def _counted(row: Array, col: Array, weight: Array, scar: Array, like: Array) -> tuple[Array, Array]:
    """Add the weight of points up in each pixel: coverage, at most 1, and the scar of one of its points."""
    xp = array_api_compat.array_namespace(row)
    height, width = like.shape
    row, col = xp.astype(xp.round(row), xp.int64), xp.astype(xp.round(col), xp.int64)
    inside = (row >= 0) & (row < height) & (col >= 0) & (col < width)
    pixel = xp.where(inside, row * width + col, xp.full_like(row, height * width))
    order = xp.argsort(pixel, stable=True)
    pixel = take(pixel, order, xp)
    cumulative = xp.concat([xp.zeros_like(weight[:1]), xp.cumulative_sum(take(weight, order, xp))])
    every = xp.arange(height * width, device=array_api_compat.device(row))
    first = xp.searchsorted(pixel, every)
    last = xp.searchsorted(pixel, every, side="right")
    coverage = take(cumulative, last, xp) - take(cumulative, first, xp)
    touched = last > first
    owner = take(take(scar, order, xp), xp.clip(first, 0, order.shape[0] - 1), xp)
    coverage = xp.where(touched, xp.clip(coverage, 0.0, 1.0), xp.zeros_like(coverage))
    owner = xp.where(touched, owner, xp.full_like(owner, -1))
    return xp.astype(xp.reshape(coverage, like.shape), xp.float32), xp.reshape(owner, like.shape)
