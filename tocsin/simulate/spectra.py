"""Gaussian random fields of any power spectrum, on whatever device the random source draws on.

Arrays are (row, col), float32.
"""

from collections.abc import Callable

from tocsin.simulate.fields import Array, RandomSource, filtered_noise

# Padded sizes are multiples of this: powers of two make the transform fast.
_FFT_MULTIPLE = 32


def coloured_noise(
    random: RandomSource, shape: tuple[int, int], amplitude: Callable[[Array], Array], spacing: float = 1.0
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

    Returns
    -------
    array
        [rows, cols] float32, zero mean and unit standard deviation.
    """
    drawn = (_padded(shape[0]), _padded(shape[1]))
    return filtered_noise(random, shape, drawn, amplitude, spacing)


def _padded(size: int) -> int:
    """Return a size at least a quarter larger, which the transform is fast for."""
    return -(-(size + size // 4) // _FFT_MULTIPLE) * _FFT_MULTIPLE
