"""Sentinel-1 acquisitions before and after landslides, with a known answer.

Relief, land cover, scars that run downslope, and what a C-band radar makes of them: change by cover and look, layover
and shadow, rain-wet soil, drift between acquisitions, speckle that is new in each, and look-alikes that change without
sliding (cuts, fields, floods, snow), drawn alike with and without landslides.
"""

import math
from dataclasses import dataclass
from typing import Final

from tocsin.errors import GridMismatchError, UsageError
from tocsin.simulate.acquisitions import observed
from tocsin.simulate.decorrelation import beyond_swath, central_differences
from tocsin.simulate.deformation import LookGeometry
from tocsin.simulate.fields import Array, RandomSource, power_law
from tocsin.simulate.landslide_settings import LandslideSettings
from tocsin.simulate.scars import Scars, Slopes, draw_scars, slopes_of, susceptibility
from tocsin.simulate.side_look import SideLook, side_look
from tocsin.simulate.slide_ground import (
    Ground,
    draw_ground,
    look_alikes,
    power,
    scar_change,
    scar_factor,
    table,
    wetting,
)
from tocsin.simulate.spectra import coloured_noise, drawn_stretch

_SMALLEST: Final = 16
_NOISE_DB: Final = (-30.0, -24.0)
"""Noise floor of Sentinel-1 IW, dB (product specification: at most -22)."""


@dataclass(frozen=True)
class SimulatedLandslides:
    """A simulated pair of stacks; arrays of the namespace that drew them.

    Attributes
    ----------
    pre_db, post_db
        [acquisition, 2, H, W] float32 backscatter VV, VH in dB before and after the event, one to three acquisitions
        each; NaN where nothing was observed, in both bands alike.
    dem
        [H, W] float32 terrain height, m; NaN where a given one is.
    mask
        [H, W] bool: where at least half of a pixel slid; known at every pixel.
    heads
        [n, 2] float32 row and column of the highest point of each landslide.
    density_per_km2
        Landslides over the area of the scene.
    scars
        Area, length, coverage and owner of each scar.
    cover, lookalike
        [H, W] int64 index into ``slide_ground.COVERS`` and ``slide_ground.LOOKALIKES``.
    look
        Local incidence, layover and shadow of the track.
    looks, coarse
        Equivalent number of looks, and whether at three times the pixel spacing.
    """

    pre_db: Array
    post_db: Array
    dem: Array
    mask: Array
    heads: Array
    density_per_km2: float
    scars: Scars
    cover: Array
    lookalike: Array
    look: SideLook
    looks: float
    coarse: bool


def landslide_pair(
    random: RandomSource,
    shape: tuple[int, int],
    settings: LandslideSettings | None = None,
    dem: Array | None = None,
) -> SimulatedLandslides:
    """Simulate what Sentinel-1 sees before and after landslides, or where there are none.

    Parameters
    ----------
    random
        Seeded draws; its array namespace is that of the result.
    shape
        (rows, cols), at least 16 by 16; 128 by 128 pixels of 10 m are one chip, 1.638 km2.
    settings
        Contents of the scene; defaults when None.
    dem
        [H, W] terrain height, m, NaN where unknown, of the same namespace; simulated when None.

    Raises
    ------
    UsageError
        The scene is too small.
    GridMismatchError
        ``dem`` has another shape.
    """
    settings = settings or LandslideSettings()
    if min(shape) < _SMALLEST:
        raise UsageError(f"a scene of {shape} pixels", f"at least {_SMALLEST} rows and columns", "ask for more pixels")
    if dem is not None and tuple(dem.shape) != tuple(shape):
        raise GridMismatchError(f"a DEM of {tuple(dem.shape)} pixels", f"{shape}", "crop or resample the DEM first")
    relief = slide_relief(random, shape, settings) if dem is None else dem
    slopes = slopes_of(relief, settings.pixel_m)
    ground = draw_ground(random, slopes)
    look = side_look(random, slopes.height_m, settings.pixel_m)
    likely = susceptibility(random, slopes, settings, barred=ground.cover >= 5)
    scars = draw_scars(random, slopes, likely, settings)
    pre, post, code = _means(random, ground, slopes, (look, scars), settings)
    coarse = random.number(0, 1) < settings.coarse_share
    looks = random.number(*(settings.coarse_looks if coarse else settings.looks))
    if random.number(0, 1) < settings.filtered_share:
        # An ideal filter, such as total variation comes near: edges stay, speckle is as that of more looks.
        looks = looks * random.number(*settings.filtered_gain)
    xp = random.xp
    recorded = observed(random, xp.concat([pre, post], axis=0), looks, coarse=coarse)
    recorded = _with_gaps(random, recorded, look, pre.shape[0], settings)
    return SimulatedLandslides(
        pre_db=recorded[: pre.shape[0], ...],
        post_db=recorded[pre.shape[0] :, ...],
        dem=relief,
        mask=scars.mask,
        heads=scars.heads,
        density_per_km2=scars.density_per_km2,
        scars=scars,
        cover=ground.cover,
        lookalike=code,
        look=look,
        looks=looks,
        coarse=coarse,
    )


def slide_relief(random: RandomSource, shape: tuple[int, int], settings: LandslideSettings) -> Array:
    """Draw hills or dissected mountains of a drawn mean slope, [H, W] float32, m."""
    xp = random.xp
    longest_m = 10 ** random.number(2.7, 3.6)
    rough = power_law(random.number(3.8, 5.0), longest=longest_m)
    field = coloured_noise(random, shape, rough, settings.pixel_m, drawn_stretch(random, 0.5, 3.0))
    if random.number(0, 1) < 0.5:
        # Ridges or, upside down, incised valleys: folded noise (Ebert et al. 2003, Texturing and Modeling, ch. 16).
        sharp = random.number(0.05, 0.5)
        field = xp.sqrt(field**2 + sharp**2) * (1.0 if random.number(0, 1) < 0.5 else -1.0)
    down, along = central_differences(field)
    steep = float(xp.mean(xp.sqrt(down**2 + along**2))) / settings.pixel_m
    aim = math.tan(math.radians(random.number(*settings.mean_slope_deg)))
    height = field * (aim / max(steep, 1e-9))
    return xp.astype(height - xp.min(height) + random.number(0, 1500), xp.float32)


def _means(
    random: RandomSource,
    ground: Ground,
    slopes: Slopes,
    seen: tuple[SideLook, Scars],
    settings: LandslideSettings,
) -> tuple[Array, Array, Array]:
    """Return mean linear power before and after, [acquisition, 2, H, W], and the code of look-alikes."""
    xp = random.xp
    look, scars = seen
    fewest, most = settings.acquisitions
    before, after = (int(random.number(fewest, most + 1)) for _ in range(2))
    moved = wetting(random, ground, (before, after), settings)
    before_db, after_db, code = look_alikes(random, ground, slopes, settings)
    # What flattening leaves of the terrain: little, or all of it where the product is not flattened.
    kept = random.number(-0.15, 0.35) if random.number(0, 1) < settings.flattened_share else 1.0
    stable_db = ground.stable_db + kept * xp.clip(look.area_db, -6.0, 10.0)
    change_db = scar_change(random, ground.cover, scars.owner, scars.heads.shape[0], settings.contrast)
    noise = power(table((random.number(*_NOISE_DB), random.number(*_NOISE_DB)), stable_db, xp), xp)[:, None, None]
    # Ground that no wave reaches returns nothing: the noise floor is all that is left there.
    lit = 1 - xp.astype(look.shadow, xp.float32)
    pre = power(stable_db + before_db + moved[:before, ...], xp) * lit + noise
    slid = scar_factor(scars.coverage, change_db, look)
    post = power(stable_db + after_db + moved[before:, ...], xp) * slid * lit + noise
    return pre, post, code


def _with_gaps(
    random: RandomSource, recorded: Array, look: SideLook, before: int, settings: LandslideSettings
) -> Array:
    """Take away what was not observed: layover and shadow in all acquisitions, a swath edge in one of each side."""
    xp = random.xp
    nothing = xp.full_like(recorded[0, 0, ...], math.nan)
    if random.number(0, 1) < settings.masked_share:
        recorded = xp.where(look.layover | look.shadow, nothing, recorded)
    track = LookGeometry(look.orbit_pass, (look.azimuth_deg - 90) % 360, look.incidence_deg)
    parts = [recorded[number : number + 1, ...] for number in range(recorded.shape[0])]
    for first, last in ((0, before), (before, len(parts))):
        if random.number(0, 1) < settings.swath_edge_share:
            cut = int(random.number(first, last))
            parts[cut] = xp.where(beyond_swath(random, tuple(nothing.shape), track), nothing, parts[cut])
    return xp.concat(parts, axis=0)
