"""Gaussian random fields of any power spectrum, on whatever device the random source draws on.

Arrays are (row, col), float32.
"""

from collections.abc import Callable

import array_api_compat

from tocsin.simulate.fields import Array, RandomSource

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

    Notes
    -----
    Spectral synthesis: Voss (1985), in Fundamental Algorithms for Computer Graphics. The field is drawn on a grid at
    least a quarter larger and cropped, so that opposite edges do not match.
    """
    xp = random.xp
    rows, cols = (-(-(size + size // 4) // _FFT_MULTIPLE) * _FFT_MULTIPLE for size in shape)
    noise = random.normal((rows, cols))
    spectrum = xp.fft.rfftn(noise) * amplitude(_wavenumbers(noise, spacing))
    field = xp.fft.irfftn(spectrum, s=(rows, cols), axes=(0, 1))[: shape[0], : shape[1]]
    return xp.astype((field - xp.mean(field)) / (xp.std(field) + 1e-9), xp.float32)


def power_law(exponent: float, longest: float = 1e9) -> Callable[[Array], Array]:
    """Return an amplitude whose power falls as wavenumber to the minus ``exponent``.

    Parameters
    ----------
    exponent
        Spectral exponent of the 2-D power spectrum.
    longest
        Waves longer than this, in units of the spacing, keep the power of this length.
    """

    def amplitude(wavenumber: Array) -> Array:
        xp = array_api_compat.array_namespace(wavenumber)
        floor = xp.full_like(wavenumber, 1.0 / longest)
        return xp.where(wavenumber < floor, floor, wavenumber) ** (-exponent / 2)

    return amplitude


def _wavenumbers(noise: Array, spacing: float) -> Array:
    """Return the radial wavenumber of the real 2-D transform of ``noise``, float32; that of the mean is set to 1."""
    xp = array_api_compat.array_namespace(noise)
    device = array_api_compat.device(noise)
    rows, cols = noise.shape
    vertical = xp.reshape(xp.fft.fftfreq(rows, d=spacing, device=device), (rows, 1))
    horizontal = xp.reshape(xp.fft.rfftfreq(cols, d=spacing, device=device), (1, cols // 2 + 1))
    radial = xp.sqrt(vertical**2 + horizontal**2)
    return xp.astype(xp.where(radial == 0, xp.ones_like(radial), radial), xp.float32)
