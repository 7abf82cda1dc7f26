"""What a radar records of ground with a known mean: noise floor, pixels of the product, speckle.

Arrays are [acquisition, 2, H, W], VV and VH.
"""

import math
from typing import Final

import array_api_compat

from tocsin.simulate.fields import Array, RandomSource

_COARSER: Final = 3
"""Pixel spacing of a coarse product (OPERA RTC-S1: 30 m) over that of the scene."""


def observed(random: RandomSource, mean: Array, looks: float, *, coarse: bool) -> Array:
    """Return backscatter with speckle that is independent in every acquisition, dB.

    Parameters
    ----------
    random
        Where to draw from.
    mean
        [acquisition, 2, H, W] mean linear power, noise floor included.
    looks
        Equivalent number of looks of a pixel of the product, at least 3.
    coarse
        Whether the product has pixels three times as large, which were resampled (bilinear, linear power).
    """
    xp = random.xp
    if not coarse:
        recorded = mean * gamma_speckle(random, tuple(mean.shape), looks, random.number(0.0, 0.22))
    else:
        rows, cols = mean.shape[-2:]
        offset = random.number(0, _COARSER), random.number(0, _COARSER)
        down_rows, up_rows = _resampling(rows, offset[0], mean)
        down_cols, up_cols = _resampling(cols, offset[1], mean)
        product = xp.matmul(xp.matmul(down_rows, mean), xp.matrix_transpose(down_cols))
        product = product * gamma_speckle(random, tuple(product.shape), looks, random.number(0.0, 0.08))
        recorded = xp.matmul(xp.matmul(up_rows, product), xp.matrix_transpose(up_cols))
    return xp.astype(10 * xp.log10(recorded), xp.float32)


def gamma_speckle(random: RandomSource, shape: tuple[int, ...], looks: float, grain: float) -> Array:
    """Draw multi-look speckle: gamma with mean 1 and variance 1 / looks, correlated between neighbours.

    Normal draws are smoothed, which grains are, brought back to unit variance and cubed (Wilson and Hilferty 1931,
    Proceedings of the National Academy of Sciences 17): from three looks on, the cube follows the gamma law to 1 %.

    Parameters
    ----------
    random
        Where to draw from.
    shape
        (..., rows, cols).
    looks
        Equivalent number of looks, at least 3.
    grain
        Weight of each neighbour along an axis, 0 (independent pixels) to 1/3.
    """
    xp = random.xp
    rows, cols = shape[-2:]
    if grain > 0:
        wide = random.normal((*shape[:-2], rows + 2, cols + 2))
        tall = (1 - 2 * grain) * wide[..., 1:-1, :] + grain * (wide[..., :-2, :] + wide[..., 2:, :])
        normal = (1 - 2 * grain) * tall[..., 1:-1] + grain * (tall[..., :-2] + tall[..., 2:])
        normal = normal / ((1 - 2 * grain) ** 2 + 2 * grain**2)
    else:
        normal = random.normal(shape)
    root = 1 - 1 / (9 * looks) + normal / (3 * math.sqrt(looks))
    return xp.clip(root, 0.05, math.inf) ** 3


def _resampling(size: int, offset: float, like: Array) -> tuple[Array, Array]:
    """Return the matrices that average an axis to coarse pixels and interpolate it back, rows adding up to 1.

    Parameters
    ----------
    size
        Pixels along the axis.
    offset
        Where the first coarse pixel begins before the axis, px.
    like
        Array whose namespace and device the matrices have.
    """
    xp = array_api_compat.array_namespace(like)
    device = array_api_compat.device(like)
    coarse = (size + math.ceil(offset)) // _COARSER + 1
    fine_at = xp.reshape(xp.arange(size, dtype=xp.float32, device=device), (1, size))
    coarse_at = xp.arange(coarse, dtype=xp.float32, device=device)
    coarse_at = xp.reshape(coarse_at, (coarse, 1)) * _COARSER + (_COARSER - 1) / 2 - offset
    distance = xp.abs(fine_at - coarse_at)
    # A fine pixel counts by how much of it lies inside; a coarse pixel outside the scene repeats the nearest one.
    inside = xp.clip(_COARSER / 2 + 0.5 - distance, 0.0, 1.0) + xp.exp(-20 * distance / _COARSER) * 1e-6
    bilinear = xp.clip(1 - distance / _COARSER, 0.0, 1.0) + 1e-12
    down = inside / xp.sum(inside, axis=1, keepdims=True)
    up = xp.matrix_transpose(bilinear / xp.sum(bilinear, axis=0, keepdims=True))
    return down, up
