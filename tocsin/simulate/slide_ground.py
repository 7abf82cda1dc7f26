"""Ground that slides, or only looks as if: land cover, what scars do to it, rain, cuts, fields, floods and snow.

Changes are in dB over a cover's own level, [band, H, W] with VV and VH.
"""

import math
from dataclasses import dataclass
from typing import Final

import array_api_compat

from tocsin.simulate.fields import Array, Namespace, RandomSource, parcels, power_law_field, take
from tocsin.simulate.landslide_settings import LandslideSettings
from tocsin.simulate.scars import Slopes
from tocsin.simulate.side_look import SideLook

COVERS: Final = ("forest", "shrub", "grass", "crops", "bare soil", "urban", "water")
"""Land covers, in the order of the codes in ``SimulatedLandslides.cover``."""
LOOKALIKES: Final = ("none", "clear-cut", "field", "flood", "snow")
"""What changes without sliding, in the order of the codes in ``SimulatedLandslides.lookalike``."""

# Mean gamma0 of each cover, VV and VH, and spread between scenes, dB: C-band tables of Ulaby and Dobson (1989), checked
# against OPERA RTC over California (medians -9.1 to -10.1 and -15.6 to -18.0 dB).
_LEVEL_DB: Final = ((-7.8, -9.2, -11.0, -10.0, -12.5, -4.5, -19.0), (-13.0, -15.4, -18.2, -17.0, -21.0, -11.5, -27.0))
_SPREAD_DB: Final = (0.8, 1.0, 1.3, 1.6, 1.8, 2.0, 2.0)
# Mean change where soil replaces a cover. Canopy lost costs VH most; rough debris over open ground adds a little
# (Mondini et al. 2019, Remote Sensing 11, 760; Burrows et al. 2022, Natural Hazards and Earth System Sciences 22).
_SCARRED_DB: Final = ((-1.8, -0.9, 0.6, 0.6, 0.9, -1.5, 0.0), (-4.6, -3.0, -0.6, 0.0, 0.7, -2.0, 0.0))
_SCARRED_SPREAD_DB: Final = 0.9
# How much of the rise of wet bare soil shows through each cover.
_WETTED: Final = (0.25, 0.5, 0.9, 1.0, 1.0, 0.2, 0.0)
_PARCELLED: Final = (3, 4)
# Backscatter of rough soil falls with local incidence, that of a canopy hardly does (Ulaby and Long 2014, chapter 10).
_SOIL_DB_PER_DEG: Final = (0.09, 0.06)
_FLAT_DEG: Final = 6.0


@dataclass(frozen=True)
class Ground:
    """Land cover of a scene.

    Attributes
    ----------
    cover
        [H, W] int64 index into :data:`COVERS`.
    stable_db
        [2, H, W] float32 backscatter on flat, dry ground, dB; the same in all acquisitions.
    parcel, parcels
        [H, W] int64 number of the field or stand that a pixel lies in, and how many there are.
    """

    cover: Array
    stable_db: Array
    parcel: Array
    parcels: int


def table(values: tuple[float, ...] | tuple[tuple[float, ...], ...], like: Array, xp: Namespace) -> Array:
    """Return constants as a float32 array on the device of another."""
    return xp.asarray(values, dtype=xp.float32, device=array_api_compat.device(like))


def per_cover(values: Array, cover: Array, xp: Namespace) -> Array:
    """Spread values [..., covers] over the ground, [..., H, W]."""
    flat = xp.take(values, xp.reshape(cover, (-1,)), axis=-1)
    return xp.reshape(flat, (*values.shape[:-1], *cover.shape))


def draw_ground(random: RandomSource, slopes: Slopes) -> Ground:
    """Draw land cover that follows slope and height, and its backscatter."""
    xp = random.xp
    shape = slopes.slope_deg.shape
    wild = power_law_field(random, shape, random.number(2.2, 3.4), longest_px=random.number(30, 200))
    tilled = power_law_field(random, shape, random.number(2.2, 3.0), longest_px=random.number(20, 100))
    parcel, count = parcels(random, shape, random.number(8, 30))
    # Thresholds of the vegetation field, thickest first; a scene is mostly forest, or mostly open.
    thick = random.number(-1.8, 0.8)
    cover = xp.astype(wild < thick, xp.int64) + xp.astype(wild < thick - random.number(0.2, 1.2), xp.int64)
    bare = wild < thick - random.number(1.2, 3.0)
    cover = xp.where(bare, xp.full_like(cover, 4), cover)
    flat = slopes.slope_deg < random.number(6, 14)
    cover = xp.where(flat & (tilled > random.number(-1.0, 1.5)), xp.full_like(cover, 3), cover)
    cover = xp.where(flat & (tilled < -random.number(1.6, 3.0)), xp.full_like(cover, 5), cover)
    if random.number(0, 1) < 0.25:
        cover = xp.where(_lowland(slopes, random.number(0.02, 0.1)), xp.full_like(cover, 6), cover)
    spread = table(_SPREAD_DB, wild, xp)
    levels = table(_LEVEL_DB, wild, xp) + spread * (0.9 * random.normal((len(COVERS),)))
    levels = levels + 0.4 * spread * random.normal((2, len(COVERS)))
    texture = power_law_field(random, shape, 1.6, longest_px=30) * random.number(0.3, 1.4)
    fields = take(random.normal((count,)), parcel, xp) * random.number(0.3, 2.0)
    points = xp.astype(random.uniform(shape) > random.number(0.97, 1.0), xp.float32) * random.number(0, 10)
    points = xp.where(cover == 5, points, 0.4 * points)
    texture = texture + random.normal(shape) * random.number(0.1, 1.0) + points
    tilled_ground = (cover == _PARCELLED[0]) | (cover == _PARCELLED[1])
    texture = texture + xp.where(tilled_ground, fields, xp.zeros_like(fields))
    return Ground(cover, per_cover(levels, cover, xp) + texture, parcel, count)


def scar_change(random: RandomSource, cover: Array, owner: Array, count: int, contrast: float) -> Array:
    """Draw what sliding does to the backscatter of flat ground, [2, H, W] dB.

    Parameters
    ----------
    random
        Where to draw from.
    cover
        [H, W] int64 index into :data:`COVERS`, or its share of canopy [H, W] float32, 0 (open) to 1 (forest).
    owner
        [H, W] int64 scar that touches each pixel, -1 where there is none.
    count
        Number of scars.
    contrast
        Factor on the mean change.
    """
    xp = random.xp
    means = table(_SCARRED_DB, owner, xp) * (contrast * random.number(0.7, 1.5))
    means = means + _SCARRED_SPREAD_DB * random.number(-1, 1)
    if xp.isdtype(cover.dtype, "integral"):
        change = per_cover(means, cover, xp)
    else:
        canopy, grass = means[:, 0][:, None, None], means[:, 2][:, None, None]
        change = grass + (canopy - grass) * cover
    if not count:
        return change
    own = random.normal((2, count)) * (0.5 * _SCARRED_SPREAD_DB) + random.normal((count,)) * _SCARRED_SPREAD_DB
    return change + xp.reshape(xp.take(own, xp.reshape(xp.clip(owner, 0, count - 1), (-1,)), axis=1), (2, *owner.shape))


def scar_factor(coverage: Array, change_db: Array, look: SideLook) -> Array:
    """Return what scars multiply linear power by, [2, H, W]; exactly 1 where nothing slid or no wave reached.

    Bare soil gains where the ground faces the radar and loses where it turns away. In layover a scar shares its pixel
    with other ground.
    """
    xp = array_api_compat.array_namespace(coverage)
    tilt = xp.clip(look.incidence_deg - look.local_incidence_deg, -35.0, 35.0)
    per_degree = table(_SOIL_DB_PER_DEG, tilt, xp)[:, None, None]
    seen = xp.where(look.layover, 0.4 * coverage, coverage)
    seen = xp.where(look.shadow, xp.zeros_like(seen), seen)
    return 1 + seen * (power(change_db + per_degree * tilt, xp) - 1)


def wetting(random: RandomSource, ground: Ground, acquisitions: tuple[int, int], settings: LandslideSettings) -> Array:
    """Draw rain-wet soil and seasonal drift over each cover, [pre + post, 2, H, W] dB.

    Soil after the event is wetter in the mean, as rain is what most often sets slopes off.
    """
    xp = random.xp
    before, after = acquisitions
    wet = [settings.wet_db * 0.4 * random.number(0, 1) for _ in range(before)]
    level = settings.wet_db * random.number(0, 1)
    wet += [level * random.number(0.6, 1.0) for _ in range(after)]
    soil = table(_WETTED, ground.stable_db, xp)
    rise = table(tuple(wet), soil, xp)[:, None, None] * table((1.0, 0.7), soil, xp)[:, None] * soil
    drift = random.normal((before + after, 1, len(COVERS))) * settings.drift_db
    drift = drift + random.normal((before + after, 2, len(COVERS))) * (0.3 * settings.drift_db)
    # Moisture is patchy within a cover too.
    patches = power_law_field(random, ground.cover.shape, 2.5, longest_px=random.number(20, 100))
    patchy = random.normal((before + after, 1, 1, 1)) * (0.8 * settings.drift_db)
    return per_cover(rise + drift, ground.cover, xp) + patchy * patches


def look_alikes(
    random: RandomSource, ground: Ground, slopes: Slopes, settings: LandslideSettings
) -> tuple[Array, Array, Array]:
    """Draw what changes without sliding.

    Returns
    -------
    before_db, after_db, code
        [2, H, W] float32 change of the acquisitions before and after the event, dB; [H, W] int64 index into
        :data:`LOOKALIKES`.
    """
    xp = random.xp
    zero = xp.zeros_like(slopes.slope_deg)
    code = xp.zeros_like(ground.cover)
    changes = [xp.stack([zero, zero]), xp.stack([zero, zero])]
    kinds = (_clear_cut, _fields, _flood, _snow)
    for number, kind in enumerate(kinds, start=1):
        drawn = random.number(0, 1) < settings.lookalike_share
        # A field, a flood or snow may as well have been there before the event and gone after it.
        side = 0 if number > 1 and random.number(0, 1) < 0.35 else 1
        if not drawn:
            continue
        where, change_db = kind(random, ground, slopes)
        where = where & (code == 0)
        code = xp.where(where, xp.full_like(code, number), code)
        changes[side] = xp.where(where[None, :, :], change_db, changes[side])
    return changes[0], changes[1], code


def _clear_cut(random: RandomSource, ground: Ground, slopes: Slopes) -> tuple[Array, Array]:
    """Cut some stands of forest: VH falls as in a scar, but over a whole stand and on any slope that can be worked."""
    xp = random.xp
    stand = take(random.uniform((ground.parcels,)), ground.parcel, xp) < random.number(0.03, 0.2)
    where = stand & (ground.cover == 0) & (slopes.slope_deg < 35)
    return where, _both(random, (-3.0, 0.0), (-5.0, -1.5), where)


def _fields(random: RandomSource, ground: Ground, slopes: Slopes) -> tuple[Array, Array]:
    """Plough, sow or harvest some fields: each changes by its own amount."""
    xp = random.xp
    worked = take(random.uniform((ground.parcels,)), ground.parcel, xp) < random.number(0.2, 0.8)
    amount = take(random.normal((2, ground.parcels))[0, :], ground.parcel, xp) * random.number(1.0, 3.0)
    where = worked & ((ground.cover == 3) | (ground.cover == 4)) & (slopes.slope_deg < 20)
    return where, xp.stack([amount, 0.8 * amount + random.number(-1, 1)])


def _flood(random: RandomSource, ground: Ground, slopes: Slopes) -> tuple[Array, Array]:
    """Fill low, flat ground: open water goes dark; flooded stems shine in VV."""
    where = _lowland(slopes, random.number(0.03, 0.25)) & (ground.cover != 6)
    if random.number(0, 1) < 0.25:
        return where, _both(random, (1.0, 4.0), (-1.0, 1.5), where)
    return where, _both(random, (-11.0, -4.0), (-11.0, -4.0), where)


def _snow(random: RandomSource, ground: Ground, slopes: Slopes) -> tuple[Array, Array]:
    """Lay wet snow above a height: it absorbs C-band (Nagler and Rott 2000: at least 3 dB less)."""
    xp = random.xp
    line = _height_below(slopes, random.number(0.35, 0.95))
    ragged = power_law_field(random, slopes.slope_deg.shape, 2.5, 40) * random.number(0.0, 30.0)
    where = (slopes.height_m + ragged > line) & slopes.known & (ground.cover != 6)
    softened = xp.where(ground.cover == 0, xp.full_like(ragged, 0.5), xp.ones_like(ragged))
    return where, _both(random, (-6.0, -2.0), (-5.0, -1.5), where) * softened


def _both(random: RandomSource, vv_db: tuple[float, float], vh_db: tuple[float, float], like: Array) -> Array:
    """Draw one change of VV and VH and spread it over the ground, [2, 1, 1]."""
    return table((random.number(*vv_db), random.number(*vh_db)), like, random.xp)[:, None, None]


def _lowland(slopes: Slopes, share: float) -> Array:
    """Return flat ground among the lowest share of heights, [H, W] bool."""
    return (slopes.height_m <= _height_below(slopes, share)) & (slopes.slope_deg < _FLAT_DEG) & slopes.known


def _height_below(slopes: Slopes, share: float) -> float:
    """Return the height that a share of the ground lies below, m; from a sample, which is enough and faster to sort."""
    xp = array_api_compat.array_namespace(slopes.height_m)
    sample = xp.sort(xp.reshape(slopes.height_m[::4, ::4], (-1,)))
    return float(sample[min(int(share * sample.shape[0]), sample.shape[0] - 1)])


def power(value_db: Array, xp: Namespace) -> Array:
    """Convert dB to linear power."""
    return xp.exp(value_db * (math.log(10) / 10))
