"""Where a source lies under a scene, how strong it is, and whether anybody could see it."""

import math
from dataclasses import dataclass

import array_api_compat

from tocsin.simulate.decorrelation import central_differences, coherent_island
from tocsin.simulate.deformation import DeformationSource, LookGeometry, line_of_sight, los_phase
from tocsin.simulate.fields import Array, RandomSource
from tocsin.simulate.interferogram_settings import InterferogramSettings
from tocsin.simulate.relief import Cone, Terrain, distance_m, local_coordinates
from tocsin.simulate.sources import SourceName, depth_range, draw_source, largest_strength


@dataclass(frozen=True)
class Scene:
    """What a source has to show up in."""

    terrain: Terrain
    look: LookGeometry
    delay: Array
    coherence: Array


def deform(
    random: RandomSource, scene: Scene, name: SourceName, settings: InterferogramSettings
) -> tuple[DeformationSource, Array]:
    """Draw a source that shows, and its phase, [H, W] float32 rad."""
    xp = random.xp
    terrain = scene.terrain
    rows, cols = terrain.dem.shape
    east, north = local_coordinates(terrain.dem, (rows - 1) / 2, (cols - 1) / 2, terrain.pixel_m)
    east, north = xp.broadcast_arrays(east, north)
    outside = random.number(0, 1) < settings.outside_share
    place_m = _beyond(random, scene) if outside else _place(random, scene)
    # A ramp hides nothing: it is the rest of the delays that deformation has to stand out from.
    least = max(settings.peak_rad[0], settings.contrast * float(xp.std(_without_ramp(scene.delay))))
    depths_m = depth_range(terrain.pixel_m, min(rows, cols) * terrain.pixel_m)
    coarse = max(1, min(rows, cols) // 28)
    source = draw_source(random, name, place_m, depths_m)
    for _ in range(6):
        moved = source.displacement(east[::coarse, ::coarse], north[::coarse, ::coarse])
        unit_rad = float(xp.max(xp.abs(los_phase(line_of_sight(moved, scene.look)))))
        if least / unit_rad * source.strength < largest_strength(name):
            break
        # Too deep to show without an implausible strength: draw shallower, and shallower again.
        depths_m = (depths_m[0], math.sqrt(depths_m[0] * depths_m[1]))
        source = draw_source(random, name, place_m, depths_m)
    phase = los_phase(line_of_sight(source.displacement(east, north), scene.look))
    factor = _factor(random, phase, (least, largest_strength(name) / source.strength), settings)
    if name != "dyke" and random.number(0, 1) < settings.deflating_share:
        factor = -factor
    return source.scaled(factor), xp.astype(phase * factor, xp.float32)


def _factor(random: RandomSource, phase: Array, bounds: tuple[float, float], settings: InterferogramSettings) -> float:
    """Draw by how much to scale a source of unit strength.

    Parameters
    ----------
    random
        Where to draw from.
    phase
        [H, W] phase of the source at unit strength, rad.
    bounds
        Least peak, rad, which wins over every other bound; largest plausible factor.
    settings
        Ranges of peak and gradient.
    """
    xp = random.xp
    unit_rad = float(xp.max(xp.abs(phase)))
    down, right = central_differences(phase)
    # The steepest 2 % stay out: a fault that reaches the surface is a step at any strength.
    steep = xp.sort(xp.reshape((down**2 + right**2)[::4, ::4], (-1,)))
    gradient = math.sqrt(float(steep[int(0.98 * (steep.shape[0] - 1))])) + 1e-12
    low, plausible = bounds
    high = max(low, min(settings.peak_rad[1], plausible * unit_rad))
    peak = log_number(random, (low, high + 1e-9))
    limit = log_number(random, settings.gradient_rad) / gradient * unit_rad
    return max(low, min(peak, limit)) / unit_rad


def _place(random: RandomSource, scene: Scene) -> tuple[float, float]:
    """Draw where a source lies, m east and north of the scene's centre: the most coherent of a few candidates.

    Half of the candidates lie near cones, as most sources do; the others anywhere.
    """
    xp = random.xp
    rows, cols = scene.coherence.shape
    cones = scene.terrain.cones
    best, place = -1.0, (0.0, 0.0)
    for attempt in range(8):
        row, col = rows * random.number(0.05, 0.95), cols * random.number(0.05, 0.95)
        if attempt % 2 == 0:
            cone = cones[int(random.number(0, len(cones)))]
            away = 0.5 * cone.radius_m / scene.terrain.pixel_m
            row, col = cone.row + away * random.number(-1, 1), cone.col + away * random.number(-1, 1)
            row, col = min(max(row, 0.0), rows - 1.0), min(max(col, 0.0), cols - 1.0)
        top, left = max(0, int(row) - 8), max(0, int(col) - 8)
        coherence = float(xp.mean(scene.coherence[top : int(row) + 9, left : int(col) + 9]))
        if coherence > best:
            best, place = coherence, (row, col)
    pixel_m = scene.terrain.pixel_m
    return (place[1] - (cols - 1) / 2) * pixel_m, ((rows - 1) / 2 - place[0]) * pixel_m


def _beyond(random: RandomSource, scene: Scene) -> tuple[float, float]:
    """Draw a place up to a quarter of the scene beyond one of its edges, m east and north of the centre."""
    rows, cols = scene.coherence.shape
    pixel_m = scene.terrain.pixel_m
    out, along = random.number(0.5, 0.75), random.number(-0.5, 0.5)
    sign = 1.0 if random.number(0, 1) < 0.5 else -1.0
    if random.number(0, 1) < 0.5:
        return sign * out * cols * pixel_m, along * rows * pixel_m
    return along * cols * pixel_m, sign * out * rows * pixel_m


def _without_ramp(delay: Array) -> Array:
    """Return delays [H, W] less the plane that fits them best, by their mean slopes along rows and columns."""
    xp = array_api_compat.array_namespace(delay)
    rows, cols = delay.shape
    down, across = local_coordinates(delay, (rows - 1) / 2, (cols - 1) / 2, 1.0)[::-1]
    slope_down = float(xp.sum(delay * down)) / (float(xp.sum(down**2)) * cols)
    slope_across = float(xp.sum(delay * across)) / (float(xp.sum(across**2)) * rows)
    return delay - slope_down * down - slope_across * across


def shown(random: RandomSource, coherence: Array, mask: Array, cone: Cone | None, pixel_m: float) -> Array:
    """Return coherence in which whatever the scene is about can be seen: nobody labels the unseen.

    Where too little of it is coherent, an irregular island of coherent ground is raised around it. A scene about
    nothing gets islands as often, so that an island tells no answer.

    Parameters
    ----------
    random
        Where to draw from.
    coherence
        [H, W], 0 to 1.
    mask
        [H, W] bool: the deforming area; empty without.
    cone
        The cone of a hard negative, else None.
    pixel_m
        Pixel spacing, m.
    """
    xp = random.xp
    rows, cols = coherence.shape
    if cone is not None:
        centre, radius = (cone.row, cone.col), 0.7 * cone.radius_m / pixel_m
    elif bool(xp.any(mask)):
        centre, radius = _middle(mask)
    else:
        centre = (rows * random.number(0, 1), cols * random.number(0, 1))
        radius = min(rows, cols) * log_number(random, (0.06, 0.45))
    radius = max(radius, 3.0) * random.number(1.0, 2.0)
    near = xp.astype(distance_m(coherence, *centre, 1.0) < radius, xp.float32)
    seen = float(xp.sum(near * xp.astype(coherence > 0.35, xp.float32))) / (float(xp.sum(near)) + 1e-9)
    if seen >= random.number(0.5, 0.9):
        return coherence
    return coherent_island(random, coherence, centre, 1.2 * radius)


def _middle(mask: Array) -> tuple[tuple[float, float], float]:
    """Return the centroid of a mask, (row, col), and the radius of the disc of the same spread, pixels."""
    xp = array_api_compat.array_namespace(mask)
    weight = xp.astype(mask, xp.float32)
    across, down = local_coordinates(weight, 0.0, 0.0, 1.0)
    area = float(xp.sum(weight))
    row, col = -float(xp.sum(weight * down)) / area, float(xp.sum(weight * across)) / area
    spread = float(xp.sum(weight * ((down + row) ** 2 + (across - col) ** 2))) / area
    return (row, col), math.sqrt(2 * spread)


def log_number(random: RandomSource, bounds: tuple[float, float]) -> float:
    """Draw one number whose logarithm is uniform between two bounds."""
    return math.exp(random.number(math.log(bounds[0]), math.log(bounds[1])))
