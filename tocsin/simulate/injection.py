"""Scars laid into real backscatter, so that training sees real speckle and real stable change."""

from dataclasses import dataclass
from typing import Final

from tocsin.errors import GridMismatchError
from tocsin.simulate.fields import Array, RandomSource, smooth
from tocsin.simulate.landslide_settings import ScarSettings
from tocsin.simulate.scars import Scars, draw_scars, slopes_of, susceptibility
from tocsin.simulate.side_look import OrbitPass, SideLook, side_look
from tocsin.simulate.slide_ground import power, scar_change, scar_factor

# Smoothed VH before the event, from open ground to forest, dB: canopy is what keeps VH high.
_OPEN_DB: Final = -19.0
_FOREST_DB: Final = -14.5
# Darker than this is water, which cannot slide.
_WATER_DB: Final = -23.0


@dataclass(frozen=True)
class InjectedLandslides:
    """Real acquisitions with scars laid into those after the event.

    Attributes
    ----------
    post_db
        [acquisition, 2, H, W] float32 backscatter VV, VH, dB: what was given, changed where something slid.
    mask
        [H, W] bool: where at least half of a pixel slid.
    heads
        [n, 2] float32 row and column of the highest point of each landslide.
    density_per_km2
        Landslides over the area where the terrain is known.
    scars
        Area, length, coverage and owner of each scar.
    look
        Local incidence, layover and shadow that the change was drawn for.
    """

    post_db: Array
    mask: Array
    heads: Array
    density_per_km2: float
    scars: Scars
    look: SideLook


def inject_landslides(
    random: RandomSource,
    acquisitions_db: tuple[Array, Array],
    dem: Array,
    settings: ScarSettings | None = None,
    orbit_pass: OrbitPass | None = None,
) -> InjectedLandslides:
    """Lay simulated scars into real acquisitions.

    The acquisitions before the event say how much canopy there is to lose; those after it are multiplied, in linear
    power, by what sliding does, so that their own speckle stays. Every pixel that no scar touches keeps its bits, and
    NaN stays NaN. Inject at the acquisitions' own pixel spacing and resample afterwards: scars laid into a resampled
    product would have sharper edges than anything in it.

    Parameters
    ----------
    random
        Seeded draws; its array namespace is that of all arrays.
    acquisitions_db
        Backscatter before and after, each [acquisition, 2, H, W], VV and VH, dB, NaN where nothing was observed.
    dem
        [H, W] terrain height, m; nothing slides where it is NaN.
    settings
        Number, sizes and shapes, and the pixel spacing of the arrays; defaults when None.
    orbit_pass
        Flight direction of the acquisitions; drawn when None.

    Raises
    ------
    GridMismatchError
        The arrays do not share one grid.
    """
    settings = settings or ScarSettings()
    pre_db, post_db = acquisitions_db
    for name, stack in (("before", pre_db), ("after", post_db)):
        if len(stack.shape) != 4 or stack.shape[1] != 2 or tuple(stack.shape[2:]) != tuple(dem.shape):
            raise GridMismatchError(
                f"acquisitions {name} the event of {tuple(stack.shape)}",
                f"(acquisitions, 2, {dem.shape[0]}, {dem.shape[1]}), as the DEM",
                "crop or resample them to one grid first",
            )
    xp = random.xp
    slopes = slopes_of(dem, settings.pixel_m)
    level_db, seen = _vh_level(random, pre_db)
    likely = susceptibility(random, slopes, settings, barred=seen & (level_db < _WATER_DB))
    scars = draw_scars(random, slopes, likely, settings)
    look = side_look(random, slopes.height_m, settings.pixel_m, orbit_pass)
    canopy = xp.clip((level_db - _OPEN_DB) / (_FOREST_DB - _OPEN_DB), 0.0, 1.0)
    change_db = scar_change(random, canopy, scars.owner, scars.heads.shape[0], settings.contrast)
    factor = scar_factor(scars.coverage, change_db, look)
    slid = power(post_db, xp) * factor
    touched = (scars.coverage > 0) & ~look.shadow & ~xp.isnan(post_db)
    changed_db = xp.astype(10 * xp.log10(xp.where(touched, slid, xp.ones_like(slid))), post_db.dtype)
    return InjectedLandslides(
        post_db=xp.where(touched, changed_db, post_db),
        mask=scars.mask,
        heads=scars.heads,
        density_per_km2=scars.density_per_km2,
        scars=scars,
        look=look,
    )


def _vh_level(random: RandomSource, pre_db: Array) -> tuple[Array, Array]:
    """Return VH before the event without speckle, [H, W] dB, and where it was observed, [H, W] bool."""
    xp = random.xp
    vh_db = pre_db[:, 1, ...]
    there = xp.astype(~xp.isnan(vh_db), xp.float32)
    total = xp.sum(xp.where(xp.isnan(vh_db), xp.zeros_like(vh_db), vh_db), axis=0)
    count = xp.sum(there, axis=0)
    for _ in range(3):
        total, count = smooth(total, 0.3, xp), smooth(count, 0.3, xp)
    middle = 0.5 * (_OPEN_DB + _FOREST_DB)
    seen = count > 1e-3
    return xp.where(seen, total / xp.clip(count, 1e-3, 1e9), xp.full_like(total, middle)), seen
