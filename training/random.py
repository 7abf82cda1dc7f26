"""Seeded torch draws for the simulators of tocsin."""

import array_api_compat.torch as torch_xp
import torch
from torch import Tensor

from tocsin.simulate.fields import Namespace


class TorchRandom:
    """A :class:`tocsin.simulate.RandomSource` whose draws are torch tensors.

    Parameters
    ----------
    seed
        Seed of the generator; the same seed gives the same scene on the same device.
    device
        Torch device of the draws, such as ``"cpu"`` or ``"cuda"``.
    """

    def __init__(self, seed: int, device: str = "cpu") -> None:
        self._device = torch.device(device)
        self._generator = torch.Generator(self._device).manual_seed(seed)
        # Single numbers steer the Python side; drawing them on the host spares a device round trip each.
        self._numbers = torch.Generator("cpu").manual_seed(seed)

    @property
    def xp(self) -> Namespace:
        """Array API namespace (array-api-compat's torch)."""
        return torch_xp

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Draw standard normal values, float32."""
        return torch.randn(shape, generator=self._generator, device=self._device)

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """Draw values uniform in (0, 1), float32."""
        return torch.rand(shape, generator=self._generator, device=self._device).clamp_min(1e-7)

    def number(self, low: float, high: float) -> float:
        """Draw one number uniform in [low, high)."""
        return low + (high - low) * float(torch.rand((), generator=self._numbers))
