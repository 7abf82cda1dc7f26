"""How large landslides are: the three-parameter inverse-gamma law of Malamud et al. (2004).

Malamud, Turcotte, Guzzetti and Reichenbach (2004), Landslide inventories and their statistical properties, Earth
Surface Processes and Landforms 29, 687-711, equation 3:

    p(A) = 1 / (a Gamma(rho)) * (a / (A - s))^(rho + 1) * exp(-a / (A - s))

with rho = 1.40, a = 1.28e-3 km2 and s = -1.32e-4 km2 fitted to three inventories after an earthquake, a snowmelt and a
hurricane. The mode is near 400 m2, and large areas fall off as A^-2.4.
"""

import math
from functools import cache
from typing import Final

import array_api_compat
import numpy as np
from numpy.typing import NDArray

from tocsin.simulate.fields import Array

RHO: Final = 1.40
"""Exponent of the law; areas fall off with -(RHO + 1)."""
SCALE_M2: Final = 1280.0
"""Parameter a, m2."""
SHIFT_M2: Final = -132.0
"""Parameter s, m2."""
SMALLEST_M2: Final = 10.0
"""Where the law is cut off below, m2: an inventory maps nothing smaller."""

_NODES = 4096


def area_probability(area_m2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability density of areas by the law, per m2.

    Parameters
    ----------
    area_m2
        Areas, m2, of any shape.
    """
    scaled = SCALE_M2 / (area_m2 - SHIFT_M2)
    density: NDArray[np.float64] = scaled ** (RHO + 1) * np.exp(-scaled) / (SCALE_M2 * math.gamma(RHO))
    return density


def landslide_areas(draw: Array, largest_m2: float) -> Array:
    """Turn uniform draws into areas that follow the law, cut off below and above.

    Parameters
    ----------
    draw
        [n] float32 values uniform in (0, 1).
    largest_m2
        Largest area, m2.

    Returns
    -------
    array
        [n] float32 areas from :data:`SMALLEST_M2` to ``largest_m2``, m2.
    """
    xp = array_api_compat.array_namespace(draw)
    device = array_api_compat.device(draw)
    logarithm, cumulative = _table(largest_m2)
    nodes = xp.asarray(logarithm, device=device)
    below = xp.asarray(cumulative, device=device)
    value = xp.astype(draw, xp.float64)
    upper = xp.clip(xp.searchsorted(below, value), 1, _NODES - 1)
    low, high = xp.take(below, upper - 1, axis=0), xp.take(below, upper, axis=0)
    first, last = xp.take(nodes, upper - 1, axis=0), xp.take(nodes, upper, axis=0)
    return xp.astype(xp.exp(first + (last - first) * (value - low) / (high - low)), xp.float32)


@cache
def _table(largest_m2: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the logarithm of areas and the share of landslides below each, by the trapezoidal rule."""
    logarithm = np.linspace(math.log(SMALLEST_M2), math.log(largest_m2), _NODES)
    area = np.exp(logarithm)
    weight = area_probability(area) * area
    cumulative = np.concatenate([[0.0], np.cumsum((weight[1:] + weight[:-1]) / 2)])
    return logarithm, cumulative / cumulative[-1]
