"""Draws and ground for tests of what is simulated."""

import math

import array_api_compat.torch as torch_xp
import numpy as np
import torch

from tocsin.simulate import NumpyRandom


class ReplayedRandom:
    """Draws of numpy handed out as torch tensors, so that both libraries compute on the same numbers."""

    def __init__(self, seed):
        self._numpy = NumpyRandom(seed)
        self.xp = torch_xp
        self.number = self._numpy.number

    def normal(self, shape):
        """Standard normal values, float32."""
        return torch.from_numpy(self._numpy.normal(shape))

    def uniform(self, shape):
        """Values uniform in (0, 1), float32."""
        return torch.from_numpy(self._numpy.uniform(shape))


def ridge(rows=64, cols=64, slope_deg=30.0):
    """Return a roof whose sides fall to the west and to the east, 10 m pixels."""
    height = -np.abs(np.arange(cols) - (cols - 1) / 2) * 10 * math.tan(math.radians(slope_deg))
    return np.broadcast_to(height.astype(np.float32), (rows, cols)).copy() + 1000
