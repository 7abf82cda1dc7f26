"""Random fields on a pixel grid, written against the array API.

Arrays are (row, col), float32; lengths are in pixels unless a name says otherwise.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol

import array_api_compat
import array_api_compat.numpy as numpy_xp
import numpy as np

# An array of the namespace in use (numpy.ndarray or torch.Tensor), and that namespace. The array API names no common
# base class for either.
Array = Any
Namespace = Any


class RandomSource(Protocol):
    """Where a simulator draws from: an array namespace with seeded draws in it."""

    @property
    def xp(self) -> Namespace:
        """Array API namespace that every draw belongs to."""

    def normal(self, shape: tuple[int, ...]) -> Array:
        """Draw standard normal values, float32."""

    def uniform(self, shape: tuple[int, ...]) -> Array:
        """Draw values uniform in (0, 1), float32; never exactly 0, so that their logarithm is finite."""

    def number(self, low: float, high: float) -> float:
        """Draw one number uniform in [low, high)."""


class NumpyRandom:
    """Seeded numpy draws.

    Parameters
    ----------
    seed
        Seed of ``numpy.random.default_rng``; the same seed gives the same scene.
    """

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    @property
    def xp(self) -> Namespace:
        """Array API namespace (array-api-compat's numpy)."""
        return numpy_xp

    def normal(self, shape: tuple[int, ...]) -> Array:
        """Draw standard normal values, float32."""
        return self._generator.standard_normal(shape, dtype=np.float32)

    def uniform(self, shape: tuple[int, ...]) -> Array:
        """Draw values uniform in (0, 1), float32."""
        draw = self._generator.random(shape, dtype=np.float32)
        return np.maximum(draw, np.float32(1e-7))

    def number(self, low: float, high: float) -> float:
        """Draw one number uniform in [low, high)."""
        return float(self._generator.uniform(low, high))


def filtered_noise(
    random: RandomSource,
    shape: tuple[int, int],
    drawn: tuple[int, int],
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
        (rows, cols) of the result.
    drawn
        (rows, cols) of the grid that is drawn and cropped: larger than ``shape``, so that opposite edges do not match.
    amplitude
        Maps the radial wavenumber, cycles per unit of ``spacing`` (never 0), to the square root of the 2-D power.
    spacing
        Distance between pixels.
    stretch
        Direction, rad, along which the field is drawn out, and how many times; 1: alike in all directions.

    Returns
    -------
    array
        [rows, cols] float32, zero mean and unit standard deviation.

    Notes
    -----
    Spectral synthesis: Voss (1985), in Fundamental Algorithms for Computer Graphics.
    """
    xp = random.xp
    noise = random.normal(drawn)
    spectrum = xp.fft.rfftn(noise) * amplitude(_wavenumbers(noise, spacing, stretch))
    field = xp.fft.irfftn(spectrum, s=drawn, axes=(0, 1))[: shape[0], : shape[1]]
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


def _wavenumbers(noise: Array, spacing: float, stretch: tuple[float, float]) -> Array:
    """Return the radial wavenumber of the real 2-D transform of ``noise``, float32; that of the mean is set to 1."""
    xp = array_api_compat.array_namespace(noise)
    device = array_api_compat.device(noise)
    rows, cols = noise.shape
    vertical = xp.reshape(xp.fft.fftfreq(rows, d=spacing, device=device), (rows, 1))
    horizontal = xp.reshape(xp.fft.rfftfreq(cols, d=spacing, device=device), (1, cols // 2 + 1))
    angle, factor = stretch
    if factor != 1:
        along = math.cos(angle) * vertical + math.sin(angle) * horizontal
        across = math.cos(angle) * horizontal - math.sin(angle) * vertical
        vertical, horizontal = along * factor, across
    radial = xp.sqrt(vertical**2 + horizontal**2)
    return xp.astype(xp.where(radial == 0, xp.ones_like(radial), radial), xp.float32)


def power_law_field(random: RandomSource, shape: tuple[int, int], exponent: float, longest_px: float = 1e9) -> Array:
    """Draw a Gaussian field whose power spectrum falls as wavenumber to the minus ``exponent``.

    Parameters
    ----------
    random
        Where to draw from.
    shape
        (rows, cols).
    exponent
        Spectral exponent of the 2-D power spectrum: about 2 for rough patches, 3 to 4 for natural relief.
    longest_px
        Waves longer than this keep the power of this length, which bounds the size of patches.

    Returns
    -------
    array
        [rows, cols] float32, zero mean and unit standard deviation.
    """
    drawn = (shape[0] + max(8, shape[0] // 4), shape[1] + max(8, shape[1] // 4))
    return filtered_noise(random, shape, drawn, power_law(exponent, longest_px))


def parcels(random: RandomSource, shape: tuple[int, int], size_px: float) -> tuple[Array, int]:
    """Cut the grid into rectangular parcels, as farmland is: strips of one width, cut at staggered lengths.

    Parameters
    ----------
    random
        Where to draw from.
    shape
        (rows, cols).
    size_px
        Width of a strip; parcels are one to three times as long.

    Returns
    -------
    labels, count
        [rows, cols] int64 parcel numbers in [0, count).
    """
    xp = random.xp
    angle = random.number(0, np.pi)
    bend = power_law_field(random, shape, 4.0) * size_px * 0.15
    device = array_api_compat.device(bend)
    rows = xp.reshape(xp.arange(shape[0], dtype=xp.float32, device=device), (shape[0], 1))
    cols = xp.reshape(xp.arange(shape[1], dtype=xp.float32, device=device), (1, shape[1]))
    along = (rows * float(np.cos(angle)) + cols * float(np.sin(angle)) + bend) / size_px
    across = (cols * float(np.cos(angle)) - rows * float(np.sin(angle)) + bend) / (size_px * random.number(1, 3))
    strip = xp.astype(xp.floor(along), xp.int64)
    strip = strip - xp.min(strip)
    strips = int(xp.max(strip)) + 1
    stagger = take(random.uniform((strips,)), strip, xp)
    cell = xp.astype(xp.floor(across + stagger), xp.int64)
    cell = cell - xp.min(cell)
    cells = int(xp.max(cell)) + 1
    return strip * cells + cell, strips * cells


def take(table: Array, index: Array, xp: Namespace) -> Array:
    """Look values of a 1-D table up by an integer array of any shape."""
    return xp.reshape(xp.take(table, xp.reshape(index, (-1,)), axis=0), index.shape)


def smooth(field: Array, weight: float, xp: Namespace) -> Array:
    """Convolve with the separable kernel [weight, 1 - 2 weight, weight], edges repeated.

    Parameters
    ----------
    field
        [rows, cols] float32.
    weight
        Weight of each neighbour, 0 to 1/3.
    xp
        Array namespace of ``field``.
    """
    for axis in (0, 1):
        length = field.shape[axis]
        index = xp.arange(length, device=array_api_compat.device(field))
        before = xp.take(field, xp.clip(index - 1, 0, length - 1), axis=axis)
        after = xp.take(field, xp.clip(index + 1, 0, length - 1), axis=axis)
        field = (1 - 2 * weight) * field + weight * (before + after)
    return field


def gradient(field: Array, xp: Namespace) -> tuple[Array, Array]:
    """Return the central differences of a field per pixel, (down the rows, along the columns), edges one-sided."""
    differences = []
    for axis in (0, 1):
        length = field.shape[axis]
        index = xp.arange(length)
        ahead, behind = xp.clip(index + 1, 0, length - 1), xp.clip(index - 1, 0, length - 1)
        span = xp.astype(xp.where(ahead - behind > 0, ahead - behind, xp.ones_like(ahead)), xp.float32)
        span = xp.reshape(span, (length, 1) if axis == 0 else (1, length))
        differences.append((xp.take(field, ahead, axis=axis) - xp.take(field, behind, axis=axis)) / span)
    return differences[0], differences[1]
