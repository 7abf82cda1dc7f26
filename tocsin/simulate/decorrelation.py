"""Where an interferogram loses its phase: water, vegetation, slopes, changed ground, steep fringes, swath edges.

Coherence is [H, W] float32, 0 to 1; heights in m.
"""

import math
from typing import Final

import array_api_compat

from tocsin.simulate.atmosphere import across_scene
from tocsin.simulate.deformation import LookGeometry
from tocsin.simulate.fields import Array, RandomSource, power_law
from tocsin.simulate.relief import Terrain, distance_m
from tocsin.simulate.spectra import coloured_noise

_WATER: Final = 0.02
_HOLE: Final = (0.0, 0.2)
_BASE: Final = (0.55, 0.97)


def draw_coherence(random: RandomSource, terrain: Terrain, look: LookGeometry, incoherent_share: float) -> Array:
    """Draw the coherence of a pair before anything moves.

    Parameters
    ----------
    random
        Where to draw from.
    terrain
        The ground.
    look
        Viewing geometry.
    incoherent_share
        Share of the land that lost its phase altogether (snow, ash, lava, forest), 0 to 1.

    Returns
    -------
    array
        [H, W] float32, 0 to 1.
    """
    xp = random.xp
    shape = terrain.dem.shape
    patches = power_law(random.number(2.2, 3.8), longest=random.number(3e3, 5e4))
    cover = coloured_noise(random, shape, patches, terrain.pixel_m)
    coherence = vegetation_coherence(cover, random.number(*_BASE), random.number(0.0, 0.7))
    coherence = coherence * slope_coherence(terrain, look, random.number(0.0, 0.06))
    if incoherent_share > 0:
        # The cover of a hole lies at the top of the same field: forests end where their edge loses coherence too.
        sample = xp.sort(xp.reshape(cover[::8, ::8], (-1,)))
        rank = min(int((1 - incoherent_share) * sample.shape[0]), sample.shape[0] - 1)
        limit = -math.inf if incoherent_share >= 1 else float(sample[rank])
        coherence = xp.where(cover >= limit, coherence * random.number(*_HOLE), coherence)
    return xp.astype(xp.where(terrain.water, xp.full_like(coherence, _WATER), coherence), xp.float32)


def coherent_island(random: RandomSource, coherence: Array, centre: tuple[float, float], radius_px: float) -> Array:
    """Raise coherence over a patch of irregular outline, as where a bare summit stands out of forest.

    Parameters
    ----------
    random
        Where to draw from.
    coherence
        [H, W], 0 to 1.
    centre, radius_px
        Row and column of the middle of the patch, and its mean radius, pixels.
    """
    xp = random.xp
    outline = coloured_noise(random, coherence.shape, power_law(3.0, longest=2 * radius_px + 8))
    distance = distance_m(coherence, *centre, 1.0) / radius_px
    inside = distance + 0.25 * outline < 1
    island = xp.full_like(coherence, random.number(0.5, 0.9))
    return xp.where(inside & (coherence < island), island, coherence)


def vegetation_coherence(cover: Array, base: float, loss: float) -> Array:
    """Return coherence over vegetation that thickens with ``cover``.

    Parameters
    ----------
    cover
        [H, W] field of unit deviation.
    base
        Coherence of bare ground.
    loss
        Share that the thickest vegetation takes away.
    """
    xp = array_api_compat.array_namespace(cover)
    return base * (1 - loss / (1 + xp.exp(-2 * cover)))


def slope_coherence(terrain: Terrain, look: LookGeometry, baseline: float) -> Array:
    """Return the geometric coherence of slopes, 0 in layover and shadow.

    1 - B / B_critical, where the critical baseline goes with the tangent of incidence less slope (Zebker and
    Villasenor, 1992, IEEE TGRS 30(5), equations 12 and 13).

    Parameters
    ----------
    terrain
        The ground.
    look
        Viewing geometry; the slope is taken towards the radar.
    baseline
        Perpendicular baseline over the critical one of flat ground.
    """
    xp = array_api_compat.array_namespace(terrain.dem)
    southward, eastward = central_differences(terrain.dem)
    # The radar stands at heading - 90 deg: relief that rises away from it leans towards it.
    heading = math.radians(look.heading_deg)
    rise = (eastward * math.cos(heading) + southward * math.sin(heading)) / terrain.pixel_m
    incidence = math.radians(look.incidence_deg)
    local = incidence - xp.atan(rise)
    seen = (local > 0.02) & (local < math.pi / 2)
    tangent = xp.tan(xp.clip(local, 0.02, math.pi / 2 - 0.02))
    coherence = xp.clip(1 - baseline * math.tan(incidence) / tangent, 0.0, 1.0)
    return xp.where(seen, coherence, xp.zeros_like(coherence))


def fringe_coherence(phase: Array) -> Array:
    """Return what steep fringes leave: 1 on flat phase, 0 at one fringe per pixel.

    The limit is that of Massonnet and Feigl (1998, Reviews of Geophysics 36(4)); the straight line to it is our choice.

    Parameters
    ----------
    phase
        [H, W] rad.
    """
    xp = array_api_compat.array_namespace(phase)
    down, right = central_differences(phase)
    return xp.clip(1 - xp.sqrt(down**2 + right**2) / (2 * math.pi), 0.0, 1.0)


def phase_noise(random: RandomSource, coherence: Array, looks: float, filter_px: float = 0.0) -> Array:
    """Draw the phase noise of a multilooked interferogram.

    The multilooked product is coherence plus complex noise of variance (1 + c**2) / 2L in phase and (1 - c**2) / 2L in
    quadrature, whose angle has the deviation of Rodriguez and Martin (1992, IEE Proc. F 139(2), equation 22) for high
    coherence and is uniform without any.

    Parameters
    ----------
    random
        Where to draw from.
    coherence
        [H, W], 0 to 1.
    looks
        Effective number of looks.
    filter_px
        Deviation of the Gaussian window that smooths the noise, as an adaptive filter would; 0 for none.

    Returns
    -------
    array
        [H, W] float32 in [-pi, pi], rad.
    """
    xp = random.xp
    shape = coherence.shape
    square = coherence**2
    real = coherence + xp.sqrt((1 + square) / (2 * looks)) * random.normal(shape)
    imag = xp.sqrt(xp.clip(1 - square, 0.0, 1.0) / (2 * looks)) * random.normal(shape)
    if filter_px > 0:
        real, imag = _blurred(real, filter_px), _blurred(imag, filter_px)
    return xp.astype(xp.atan2(imag, real), xp.float32)


def beyond_swath(random: RandomSource, shape: tuple[int, int], look: LookGeometry) -> Array:
    """Draw what lies beyond the edge of a swath, which runs along or across the track, [H, W] bool."""
    quarter = math.floor(random.number(0, 4))
    angle = math.radians(look.heading_deg + 90 * quarter)
    return across_scene(random, shape, angle) > random.number(0.0, 0.9)


def central_differences(field: Array) -> tuple[Array, Array]:
    """Return central differences per pixel, (down the rows, along the columns), one-sided at edges, [H, W]."""
    xp = array_api_compat.array_namespace(field)
    down = (field[2:, :] - field[:-2, :]) / 2
    right = (field[:, 2:] - field[:, :-2]) / 2
    down = xp.concat([field[1:2, :] - field[0:1, :], down, field[-1:, :] - field[-2:-1, :]], axis=0)
    right = xp.concat([field[:, 1:2] - field[:, 0:1], right, field[:, -1:] - field[:, -2:-1]], axis=1)
    return down, right


def _blurred(field: Array, deviation_px: float) -> Array:
    """Smooth with a Gaussian of up to about 2 px, edges repeated."""
    xp = array_api_compat.array_namespace(field)
    reach = max(1, math.ceil(2.5 * deviation_px))
    weights = [math.exp(-0.5 * (step / deviation_px) ** 2) for step in range(-reach, reach + 1)]
    for axis in (0, 1):
        size = field.shape[axis]
        before, after = (field[:1, :], field[-1:, :]) if axis == 0 else (field[:, :1], field[:, -1:])
        padded = xp.concat([before] * reach + [field] + [after] * reach, axis=axis)
        parts = (padded[s : s + size, :] if axis == 0 else padded[:, s : s + size] for s in range(2 * reach + 1))
        field = sum(weight * part for weight, part in zip(weights, parts, strict=True)) / sum(weights)
    return field
