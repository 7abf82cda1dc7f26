"""Gaussian random fields of any power spectrum, on whatever device the random source draws on.

Arrays are (row, col), float32.
"""

import math
from collections.abc import Callable

from tocsin.simulate.fields import Array, RandomSource, filtered_noise

# Padded sizes are multiples of this: powers of two make the transform fast.
_FFT_MULTIPLE = 32


def coloured_noise(
    random: RandomSource,
    shape: tuple[int, int],
    amplitude: Callable[[Array], Array],
    spacing: float = 1.0,
    stretch: tuple[float, float] = (0.0, 1.0),
) -> Array:
    """Filter white noise to a spectral amplitude.

    Parameters
    ----------
    random
        Where to draw from.
    shape
        (rows, cols).
    amplitude
        Maps the radial wavenumber, cycles per unit of ``spacing`` (never 0), to the square root of the 2-D power.
    spacing
        Distance between pixels.
    stretch
        Direction, rad, along which the field is drawn out, and how many times.

    Returns
    -------
    array
        [rows, cols] float32, zero mean and unit standard deviation.
    """
    drawn = (_padded(shape[0]), _padded(shape[1]))
    return filtered_noise(random, shape, drawn, amplitude, spacing, stretch)


def drawn_stretch(random: RandomSource, share: float, most: float) -> tuple[float, float]:
    """Draw a stretch for `coloured_noise`: a share of fields is drawn out, up to so many times, in any direction."""
    if random.number(0, 1) >= share:
        return 0.0, 1.0
    return random.number(0, math.pi), random.number(1.0, most)


def _padded(size: int) -> int:
    """Return a size at least a quarter larger, which the transform is fast for."""
    return -(-(size + size // 4) // _FFT_MULTIPLE) * _FFT_MULTIPLE
