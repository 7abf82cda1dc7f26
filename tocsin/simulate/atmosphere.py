"""What delays the signal beside deformation: turbulence, stratification over relief, orbital ramps, processing steps.

All delays are differences between two acquisitions, in rad of line-of-sight phase at Sentinel-1's wavelength
(0.0555 m; 1 rad is 4.4 mm); a longer path gives positive phase. Arrays are [H, W] float32.
"""

import math
from typing import Final

import array_api_compat

from tocsin.simulate.fields import Array, RandomSource
from tocsin.simulate.spectra import coloured_noise, drawn_stretch

BREAK_CYCLES_PER_KM: Final = 2 / 3
"""Wavenumber at which the spectrum steepens: 1.5 km, about the thickness of the turbulent layer."""
SHALLOW_EXPONENT: Final = 8 / 3
"""Exponent of the 2-D power spectrum for longer waves."""
STEEP_EXPONENT: Final = 11 / 3
"""Exponent of the 2-D power spectrum for shorter waves."""

STRETCHED_SHARE: Final = 0.5
MOST_STRETCH: Final = 3.0
"""Share of turbulence that is drawn out in a direction, and up to how many times (our choice)."""


def turbulence_amplitude(wavenumber: Array) -> Array:
    """Return the square root of the turbulent delay's 2-D power at a wavenumber in cycles per km, 1 at the break.

    Power falls with -8/3 up to the break and with -11/3 above it, the regimes that Hanssen (2001, Radar Interferometry,
    section 4.7) fits to tandem interferograms.
    """
    xp = array_api_compat.array_namespace(wavenumber)
    ratio = wavenumber / BREAK_CYCLES_PER_KM
    return xp.where(ratio < 1, ratio ** (-SHALLOW_EXPONENT / 2), ratio ** (-STEEP_EXPONENT / 2))


def turbulent_delay(random: RandomSource, shape: tuple[int, int], pixel_m: float, deviation_rad: float) -> Array:
    """Draw a turbulent delay.

    Parameters
    ----------
    random
        Where to draw from.
    shape
        (rows, cols).
    pixel_m
        Pixel spacing, m.
    deviation_rad
        Standard deviation over the scene, rad.
    """
    # Wind and mountain waves draw turbulence out.
    stretch = drawn_stretch(random, STRETCHED_SHARE, MOST_STRETCH)
    return coloured_noise(random, shape, turbulence_amplitude, pixel_m / 1000, stretch) * deviation_rad


def stratified_delay(dem: Array, rad_per_km: float, scale_height_m: float = math.inf) -> Array:
    """Return the delay of a layered atmosphere over relief.

    Parameters
    ----------
    dem
        [H, W] terrain height, m.
    rad_per_km
        Delay against height at sea level, rad per km; radar crosses less air above high ground, so that an acquisition
        with more vapour than the other gives a negative value.
    scale_height_m
        Height over which vapour falls by 1/e; infinite for a delay linear in height (Cavalie et al., 2007, JGR 112).

    Returns
    -------
    array
        [H, W] float32, zero mean, rad.
    """
    xp = array_api_compat.array_namespace(dem)
    air_m = dem if math.isinf(scale_height_m) else scale_height_m * (1 - xp.exp(-dem / scale_height_m))
    delay = air_m * (rad_per_km / 1000)
    return xp.astype(delay - xp.mean(delay), xp.float32)


def orbital_ramp(random: RandomSource, shape: tuple[int, int], span_rad: float, most_bend: float = 0.3) -> Array:
    """Draw a plane, bent a little, in a drawn direction.

    Parameters
    ----------
    random
        Where to draw from.
    shape
        (rows, cols).
    span_rad
        Phase from one side of the scene to the other, rad.
    most_bend
        Largest quadratic part over the linear one.
    """
    across = across_scene(random, shape)
    bend = random.number(-most_bend, most_bend)
    return across * (span_rad / 2) + (across**2 - 1 / 3) * (bend * span_rad / 2)


def processing_step(random: RandomSource, shape: tuple[int, int], jump_rad: float) -> Array:
    """Draw a jump along a straight line, as between misregistered bursts or swaths: 0 on one side, rad."""
    xp = random.xp
    across = across_scene(random, shape)
    return xp.astype(across > random.number(-0.6, 0.6), xp.float32) * jump_rad


def across_scene(random: RandomSource, shape: tuple[int, int], angle_rad: float | None = None) -> Array:
    """Return a plane from -1 to 1 across the scene, [H, W] float32.

    Parameters
    ----------
    random
        Where to draw from.
    shape
        (rows, cols).
    angle_rad
        Direction in which the plane rises, clockwise from up; drawn when None.
    """
    xp = random.xp
    device = array_api_compat.device(random.normal((1,)))
    rows = xp.reshape(xp.linspace(1, -1, shape[0], dtype=xp.float32, device=device), (shape[0], 1))
    cols = xp.reshape(xp.linspace(-1, 1, shape[1], dtype=xp.float32, device=device), (1, shape[1]))
    angle = random.number(0, 2 * math.pi) if angle_rad is None else angle_rad
    cos, sin = math.cos(angle), math.sin(angle)
    return (rows * cos + cols * sin) / (abs(cos) + abs(sin))
