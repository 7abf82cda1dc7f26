"""What a right-looking radar makes of relief: local incidence, layover and shadow.

Arrays are [H, W]; rows run south, columns east.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

import array_api_compat

from tocsin.simulate.decorrelation import central_differences
from tocsin.simulate.fields import Array, Namespace, RandomSource

OrbitPass = Literal["ascending", "descending"]

INCIDENCE_DEG: Final = (29.1, 46.0)
"""Incidence of Sentinel-1 IW, near to far range, deg (Sentinel-1 product definition)."""
LOOK_AZIMUTH_DEG: Final[dict[OrbitPass, tuple[float, float]]] = {
    "ascending": (70.0, 80.0),
    "descending": (280.0, 290.0),
}
"""Where Sentinel-1 looks, deg clockwise from north: 90 deg to the right of its heading below 60 deg of latitude."""


@dataclass(frozen=True)
class SideLook:
    """One track over one relief.

    Attributes
    ----------
    local_incidence_deg
        [H, W] float32 angle between the line of sight and the normal of the ground, 0 to 180 deg.
    area_db
        [H, W] float32 rise of backscatter by the area that one pixel on the ellipsoid holds, dB; 0 on flat ground.
    layover, shadow
        [H, W] bool: ground that shares its range with other ground; ground that no wave reaches.
    orbit_pass
        Flight direction.
    incidence_deg, azimuth_deg
        Incidence on flat ground and direction of the look clockwise from north, deg.
    """

    local_incidence_deg: Array
    area_db: Array
    layover: Array
    shadow: Array
    orbit_pass: OrbitPass
    incidence_deg: float
    azimuth_deg: float


def side_look(random: RandomSource, dem: Array, pixel_m: float, orbit_pass: OrbitPass | None = None) -> SideLook:
    """Draw a Sentinel-1 track over a relief.

    Parameters
    ----------
    random
        Where to draw from.
    dem
        [H, W] terrain height, m; finite.
    pixel_m
        Pixel spacing, m.
    orbit_pass
        Flight direction; drawn when None.
    """
    ascending = random.number(0, 1) < 0.5
    direction: OrbitPass = orbit_pass or ("ascending" if ascending else "descending")
    incidence_deg, azimuth_deg = random.number(*INCIDENCE_DEG), random.number(*LOOK_AZIMUTH_DEG[direction])
    return seen_from(dem, pixel_m, direction, (incidence_deg, azimuth_deg))


def seen_from(dem: Array, pixel_m: float, orbit_pass: OrbitPass, look_deg: tuple[float, float]) -> SideLook:
    """Return what a track sees of a relief.

    The local incidence is that of the normal of the ground. Layover and shadow, cast ones included, follow the rows
    (the look is within 20 deg of them): ground lies in shadow where a nearer point rises above its line of sight, and
    in layover where slant range does not grow with ground range. The area factor is sin(incidence) / sin(incidence -
    slope in the range plane), the one-dimensional form of Small (2011), equation 4.

    Parameters
    ----------
    dem
        [H, W] terrain height, m; finite.
    pixel_m
        Pixel spacing, m.
    orbit_pass
        Flight direction.
    look_deg
        Incidence on flat ground, and direction of the look clockwise from north, deg.
    """
    xp = array_api_compat.array_namespace(dem)
    southward, eastward = central_differences(dem)
    incidence, azimuth = (math.radians(angle) for angle in look_deg)
    # Rise of the ground per metre away from the radar.
    rise = (eastward * math.sin(azimuth) - southward * math.cos(azimuth)) / pixel_m
    steepness = xp.sqrt(1 + (eastward / pixel_m) ** 2 + (southward / pixel_m) ** 2)
    cosine = (math.cos(incidence) + math.sin(incidence) * rise) / steepness
    local = xp.clip(incidence - xp.atan(rise), 0.1, math.pi / 2)
    layover, shadow = _hidden(dem, pixel_m, incidence, eastward=math.sin(azimuth) > 0)
    return SideLook(
        local_incidence_deg=xp.acos(xp.clip(cosine, -1.0, 1.0)) * (180 / math.pi),
        area_db=10 * xp.log10(math.sin(incidence) / xp.sin(local)),
        layover=layover,
        shadow=shadow,
        orbit_pass=orbit_pass,
        incidence_deg=look_deg[0],
        azimuth_deg=look_deg[1],
    )


def _hidden(dem: Array, pixel_m: float, incidence: float, *, eastward: bool) -> tuple[Array, Array]:
    """Return layover and shadow, [H, W] bool, for a look along the rows."""
    xp = array_api_compat.array_namespace(dem)
    dem = dem if eastward else xp.flip(dem, axis=1)
    cols = dem.shape[1]
    away = xp.reshape(xp.arange(cols, dtype=xp.float32, device=array_api_compat.device(dem)), (1, cols)) * pixel_m
    sight = dem + away / math.tan(incidence)
    slant = away * math.sin(incidence) - dem * math.cos(incidence)
    # A tenth of a metre keeps rounding from hiding what is flat.
    shadow = _running_max(sight, xp) > sight + 0.1
    farther = xp.flip(_running_max(xp.flip(-slant, axis=1), xp), axis=1)
    layover = (_running_max(slant, xp) > slant + 0.1) | (farther > 0.1 - slant)
    return (layover, shadow) if eastward else (xp.flip(layover, axis=1), xp.flip(shadow, axis=1))


def _running_max(field: Array, xp: Namespace) -> Array:
    """Return the largest value so far along each row, by doubling strides."""
    stride = 1
    while stride < field.shape[1]:
        field = xp.concat([field[:, :stride], xp.maximum(field[:, stride:], field[:, :-stride])], axis=1)
        stride *= 2
    return field
