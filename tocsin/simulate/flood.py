"""A Sentinel-1 flood scene with a known answer.

Terrain with a river valley, permanent water up to the river level, flood water up to a higher one, land cover, and
what a C-band radar makes of it: backscatter per cover, wind on open water, terrain facing and shadow, speckle of a few
looks, noise floor and swath edge. Everything is drawn from one :class:`~tocsin.simulate.fields.RandomSource`.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from tocsin.simulate.fields import Array, Namespace, RandomSource, gradient, parcels, power_law_field, smooth, take

PIXEL_M: Final = 10.0
"""Ground sampling distance of a simulated scene, m."""

COVERS: Final = ("crops", "bare soil", "grass", "forest", "urban", "sand", "wetland")
"""Land covers, in the order of the codes in :attr:`SimulatedFlood.cover`."""

# Mean VV and VH backscatter and spread between patches of one cover, dB. Centres follow the land and water statistics
# of Sen1Floods11 (land -9.8 / -16.4 dB, water -17.1 / -25.0 dB) and, per cover, the C-band tables of Ulaby and Dobson
# (1989).
_COVER_VV_DB: Final = (-10.0, -12.0, -12.0, -8.3, -4.5, -16.5, -9.0)
_COVER_VH_DB: Final = (-17.0, -20.5, -18.5, -13.8, -12.0, -24.5, -16.0)
_COVER_SPREAD_DB: Final = (1.7, 2.0, 1.4, 0.8, 2.0, 2.0, 1.4)
# How readily each cover wins a patch; sand is rare, since only deserts and beaches have it.
_COVER_PREFERENCE: Final = (0.9, 0.3, 0.5, 0.5, -0.9, -1.1, -0.4)
_PARCELLED: Final = (0, 1, 2)

_CALM_WATER_DB: Final = (-20.5, -29.0)
"""Specular open water without wind, VV and VH, dB; VH then shows the instrument's noise."""
_INCIDENCE_DEG: Final = (30.0, 46.0)
"""Incidence of Sentinel-1 IW, near and far range, deg."""


class FloodSettings(BaseModel):
    """What a simulated flood scene may contain; every number is a bound that the scene draws below."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    water_share: float | None = Field(None, ge=0, le=1, description="Share of flooded land, 0-1; drawn when None.")
    relief_m: float | None = Field(None, ge=0, le=3000, description="Standard deviation of relief, m; drawn when None.")
    swath_edge_share: float = Field(0.1, ge=0, le=1, description="Share of scenes that a swath edge cuts.")
    offset_db: float = Field(1.5, ge=0, le=5, description="Standard deviation of a scene's calibration offset, dB.")
    looks: float = Field(4.4, gt=1, le=100, description="Equivalent number of looks (IW GRD: 4.4).")
    pre_event: bool = Field(default=True, description="Whether to simulate the pre-event acquisition too.")
    vegetated_share: float = Field(
        0.35, ge=0, le=1, description="Share of scenes with emergent vegetation in the water."
    )


@dataclass(frozen=True)
class SimulatedFlood:
    """A simulated scene; all arrays (row, col) or (band, row, col), of the namespace that drew them.

    Attributes
    ----------
    post_db, pre_db
        [2, H, W] float32 backscatter VV, VH in dB during and before the flood; NaN beyond the swath edge of the
        post-event acquisition. ``pre_db`` is None when the settings leave it out.
    water, permanent
        [H, W] bool: all open water during the flood; what is water at all times. Known at every pixel.
    dem
        [H, W] float32 terrain height, m.
    cover
        [H, W] int64 index into :data:`COVERS`.
    shadow
        [H, W] bool: what the radar could not see.
    orbit_pass
        Flight direction; the radar looks right, to the east when ascending.
    incidence_deg
        Incidence at the scene's centre, deg.
    """

    post_db: Array
    pre_db: Array | None
    water: Array
    permanent: Array
    dem: Array
    cover: Array
    shadow: Array
    orbit_pass: Literal["ascending", "descending"]
    incidence_deg: float


@dataclass(frozen=True)
class _View:
    """What the geometry of one track does to every acquisition from it.

    ``facing_db`` and ``shadow`` are [H, W]; ``offset_db`` is the calibration offset of VV and VH.
    """

    facing_db: Array
    shadow: Array
    offset_db: tuple[float, float]
    orbit_pass: Literal["ascending", "descending"]
    incidence_deg: float


@dataclass(frozen=True)
class _Ground:
    """Terrain and cover, before any radar: heights in m above the river, [H, W]."""

    dem: Array
    above_river: Array
    cover: Array
    parcel_db: Array


def flood_scene(random: RandomSource, shape: tuple[int, int], settings: FloodSettings | None = None) -> SimulatedFlood:
    """Simulate one flood seen by Sentinel-1.

    Parameters
    ----------
    random
        Seeded draws; its array namespace is that of the result.
    shape
        (rows, cols) in pixels of 10 m, at least 8 by 8.
    settings
        Contents of the scene; defaults when None.
    """
    settings = settings or FloodSettings()
    xp = random.xp
    ground = _ground(random, shape, settings)
    permanent_fraction, flooded_fraction = _water_fractions(random, ground, settings)
    water_fraction = xp.where(permanent_fraction > flooded_fraction, permanent_fraction, flooded_fraction)
    view = _view(random, ground.dem, settings)
    land_db = _land_db(random, ground)
    post = _observe(random, land_db, water_fraction, view, settings)
    pre = None
    if settings.pre_event:
        moisture_db = random.number(-1, 1)
        pre = _observe(random, land_db + moisture_db, permanent_fraction, view, settings)
    if random.number(0, 1) < settings.swath_edge_share:
        outside = _swath_edge(random, shape)
        post = xp.where(outside[None, :, :], xp.full_like(post, math.nan), post)
    return SimulatedFlood(
        post_db=post,
        pre_db=pre,
        water=water_fraction > 0.5,
        permanent=permanent_fraction > 0.5,
        dem=ground.dem,
        cover=ground.cover,
        shadow=view.shadow,
        orbit_pass=view.orbit_pass,
        incidence_deg=view.incidence_deg,
    )


def _ground(random: RandomSource, shape: tuple[int, int], settings: FloodSettings) -> _Ground:
    """Draw a valley with its river, relief and land cover."""
    xp = random.xp
    relief_m = settings.relief_m
    if relief_m is None:
        relief_m = 10 ** random.number(0.2, 1.3) if random.number(0, 1) < 0.7 else 10 ** random.number(1.5, 2.5)
    # The zero line of a smooth field meanders without ends: the river; height grows away from it.
    course = power_law_field(random, shape, random.number(3.0, 4.5), longest_px=random.number(80, 500))
    hills = power_law_field(random, shape, random.number(3.0, 4.0), longest_px=600)
    rough = power_law_field(random, shape, random.number(1.5, 2.5), longest_px=random.number(8, 60))
    valley = xp.abs(course) * random.number(2.0, 8.0)
    river_width = random.number(0.0, 0.12) * random.number(0.0, 1.0)
    cover, parcel = _cover(random, shape)
    # Embanked fields fill as one: their level differs from the neighbours' by a step, not by a slope.
    banks = parcel * max(0.0, random.number(-0.6, 0.6))
    rough = rough * random.number(0.0, 0.9) ** 2
    above = valley - river_width * 4 + rough + banks + (hills + 0.5) * random.number(0.0, 2.0)
    dem = valley * min(relief_m, 30.0) / 4 + (hills + 2) * relief_m + rough * min(relief_m, 10) * 0.03
    return _Ground(dem + random.number(0, 300), above, cover, parcel)


def _cover(random: RandomSource, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Draw the land cover (the strongest of one field per cover) and the deviation of each parcel, dB."""
    xp = random.xp
    longest = random.number(20, 200)
    fields = []
    for preference in _COVER_PREFERENCE:
        patch = power_law_field(random, shape, random.number(2.2, 3.5), longest_px=longest)
        fields.append(patch + preference + random.number(-1.0, 1.0))
    cover = xp.argmax(xp.stack(fields), axis=0)
    labels, count = parcels(random, shape, random.number(6, 40))
    parcel = take(random.normal((count,)), labels, xp)
    return cover, parcel


def _water_fractions(random: RandomSource, ground: _Ground, settings: FloodSettings) -> tuple[Array, Array]:
    """Return the water share of each pixel, permanent and during the flood, 0 to 1.

    The flood fills the valley to a level that is a plane of small slope; some parcels are wet in themselves (paddies),
    and the shore is softer than a pixel, so that mixed pixels occur.
    """
    xp = random.xp
    softness = random.number(0.02, 0.12)
    lakes = power_law_field(random, ground.dem.shape, 3.5, longest_px=random.number(30, 150))
    permanent = _logistic(-ground.above_river / softness - 1.0, xp)
    if random.number(0, 1) < 0.5:
        permanent = xp.maximum(permanent, _logistic((lakes - random.number(1.8, 3.0)) / 0.05, xp))
    share = settings.water_share
    if share is None:
        share = 0.0 if random.number(0, 1) < 0.2 else random.number(0.0, 1.0) ** 2.0
        share = 1.0 - share * 0.2 if random.number(0, 1) < 0.08 else share
    if share == 0:
        return permanent, permanent
    level = _quantile(ground.above_river, share, xp)
    flood = _logistic((level - ground.above_river) / softness, xp)
    if random.number(0, 1) < 0.25:
        wet = ground.parcel_db > random.number(1.0, 2.5)
        near = ground.above_river < level + random.number(0.2, 2.0)
        flood = xp.maximum(flood, 0.9 * xp.astype(wet & near, xp.float32))
    return permanent, xp.maximum(flood, permanent)


def _land_db(random: RandomSource, ground: _Ground) -> Array:
    """Return the mean backscatter of dry land, [2, H, W] dB."""
    xp = random.xp
    shape = ground.dem.shape
    # One draw per cover and band, mostly common to both bands: moisture and biomass move them together.
    common = random.normal((len(COVERS),))
    texture = power_law_field(random, shape, 2.0, longest_px=40) * random.number(0.3, 1.2)
    parcelled = xp.zeros(shape, dtype=xp.float32)
    for code in _PARCELLED:
        parcelled = xp.where(ground.cover == code, xp.ones_like(parcelled), parcelled)
    parcel = ground.parcel_db * parcelled * random.number(0.2, 2.2)
    points = xp.astype(random.uniform(shape) > 0.97, xp.float32) * xp.astype(ground.cover == 4, xp.float32)
    bands = []
    for means, share in ((_COVER_VV_DB, 0.9), (_COVER_VH_DB, 1.1)):
        table = xp.asarray(means, dtype=xp.float32)
        spread = xp.asarray(_COVER_SPREAD_DB, dtype=xp.float32)
        table = table + spread * (share * common + 0.5 * random.normal((len(COVERS),)))
        band = take(table, ground.cover, xp) + texture * share + parcel * share
        bands.append(band + points * random.number(5, 15))
    return xp.stack(bands)


def _water_db(random: RandomSource, shape: tuple[int, int]) -> Array:
    """Return the backscatter of open water, [2, H, W] dB: calm to wind-roughened, patchy.

    Wind lifts VV far more than VH, since Bragg scattering hardly depolarises (Ulaby and Long 2014, chapter 16): up to
    11 dB in VV, as over lagoons on windy days.
    """
    xp = random.xp
    wind = random.number(0, 1) ** 1.5
    gusts = power_law_field(random, shape, 3.0, longest_px=random.number(20, 200)) * random.number(0.2, 1.5)
    streaks = power_law_field(random, shape, 2.0, longest_px=12) * 0.4
    vv = _CALM_WATER_DB[0] + random.number(-2.5, 2.5) + wind * 10.0 + gusts + streaks
    vh = _CALM_WATER_DB[1] + random.number(-1.5, 4.5) + wind * 3.0 + 0.5 * gusts + streaks
    return xp.stack([vv, vh])


def _observe(random: RandomSource, land_db: Array, fraction: Array, view: _View, settings: FloodSettings) -> Array:
    """Return what the radar records over the given land and water, [2, H, W] dB.

    Parameters
    ----------
    random
        Where to draw from.
    land_db
        [2, H, W] mean backscatter of the dry ground, dB.
    fraction
        [H, W] share of open water in each pixel, 0 to 1.
    view
        Terrain effect, shadow and calibration offset of the track.
    settings
        Contents of the scene.
    """
    xp = random.xp
    shape = fraction.shape
    if random.number(0, 1) < settings.vegetated_share:
        # Reeds, trees and stubble stand out of the water: part of the pixel keeps scattering like land, or more.
        stems = _logistic((power_law_field(random, shape, 2.5, 60) - random.number(0.3, 2.0)) * 3, xp)
        fraction = fraction * (1 - stems * random.number(0.1, 0.6))
    water_db = _water_db(random, shape)
    ramp = _range_ramp(random, shape) * random.number(0, 2.0)
    noise_db = random.number(-30, -25) + 0.5 * ramp
    first_weight = random.number(0.12, 0.25)
    bands = []
    for band in range(2):
        land = _power(land_db[band, :, :] + view.facing_db + view.offset_db[band] + ramp, xp)
        water = _power(water_db[band, :, :] + 0.5 * view.offset_db[band] + ramp, xp)
        mean = fraction * water + (1 - fraction) * land
        mean = xp.where(view.shadow, xp.zeros_like(mean), mean) + _power(noise_db, xp)
        bands.append(10 * xp.log10(_speckled(random, mean, first_weight, settings.looks) + 1e-6))
    return xp.astype(xp.stack(bands), xp.float32)


def _speckled(random: RandomSource, mean: Array, weight: float, looks: float) -> Array:
    """Multiply by gamma speckle whose grains span more than a pixel.

    Independent gamma speckle of few looks is smoothed together with the scene, as resampling in the processor does; its
    number of looks is chosen so that ``looks`` remain after smoothing (equivalent number of looks: Oliver and Quegan
    1998, equation 4.23).
    """
    xp = random.xp
    kept = ((1 - 2 * weight) ** 2 + 2 * weight**2) ** 2
    single = max(1, round(looks * kept))
    speckle = xp.zeros_like(mean)
    for _ in range(single):
        speckle = speckle - xp.log(random.uniform(mean.shape))
    return smooth(mean * speckle / single, weight, xp)


def _view(random: RandomSource, dem: Array, settings: FloodSettings) -> _View:
    """Draw a track, and what it does to slopes that face the radar or turn away from it.

    Facing follows the projected-area factor of Small (2011), equation 4, in its one-dimensional form
    sin(incidence) / sin(incidence - slope); shadow is where the slope turns away by more than 90 deg - incidence. The
    radar is taken to look along the rows, to the east or to the west.
    """
    xp = random.xp
    _, eastward = gradient(dem, xp)
    ascending = random.number(0, 1) < 0.5
    slope = xp.atan((eastward if ascending else -eastward) / PIXEL_M)
    incidence = math.radians(random.number(*_INCIDENCE_DEG))
    # A processor that flattens terrain removes most of this; scenes differ in whether it was done.
    kept = random.number(0.2, 1.0)
    local = xp.clip(incidence - slope, 0.08, math.pi / 2)
    facing = 10 * xp.log10(math.sin(incidence) / xp.sin(local))
    spread = math.sqrt(3) * settings.offset_db
    return _View(
        facing_db=kept * xp.clip(facing, -6.0, 10.0),
        shadow=slope < incidence - math.pi / 2,
        offset_db=(random.number(-spread, spread), random.number(-spread, spread)),
        orbit_pass="ascending" if ascending else "descending",
        incidence_deg=math.degrees(incidence),
    )


def _swath_edge(random: RandomSource, shape: tuple[int, int]) -> Array:
    """Return a mask of what lies beyond a straight, oblique swath edge."""
    return _range_ramp(random, shape) > random.number(0.0, 0.9)


def _range_ramp(random: RandomSource, shape: tuple[int, int]) -> Array:
    """Return a plane from -1 to 1 across the scene in a drawn direction, [H, W]."""
    xp = random.xp
    rows = xp.reshape(xp.linspace(-1, 1, shape[0], dtype=xp.float32), (shape[0], 1))
    cols = xp.reshape(xp.linspace(-1, 1, shape[1], dtype=xp.float32), (1, shape[1]))
    angle = random.number(0, 2 * math.pi)
    return (rows * math.cos(angle) + cols * math.sin(angle)) / (abs(math.cos(angle)) + abs(math.sin(angle)))


def _quantile(field: Array, share: float, xp: Namespace) -> float:
    """Return the value below which ``share`` of a field lies."""
    ordered = xp.sort(xp.reshape(field, (-1,)))
    return float(ordered[min(int(share * (ordered.shape[0] - 1)), ordered.shape[0] - 1)])


def _logistic(value: Array, xp: Namespace) -> Array:
    """Return 1 / (1 + exp(-value)) without overflow."""
    return 1 / (1 + xp.exp(xp.clip(-value, -30.0, 30.0)))


def _power(value_db: Array, xp: Namespace) -> Array:
    """Convert dB to linear power."""
    return xp.exp(value_db * (math.log(10) / 10))
