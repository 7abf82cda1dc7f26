"""The modules that are written as graphs: raw units in, calibrated probabilities out, NaN for what is missing.

Legend of shape suffixes: B batch, C band, H row, W column.
"""

import torch
from torch import nn

from tocsin.manifest import Calibration, Normalisation
from training import preprocess


class FloodGraph(nn.Module):
    """A flood network with its scaling and calibration inside.

    Parameters
    ----------
    network
        Maps encoded backscatter [B, 4, H, W] (see `training.preprocess.encode`) to logits [B, 1, H, W].
    normalisation
        Scaling of VV and VH, dB.
    calibration
        Temperature and bias of the logits.
    """

    def __init__(self, network: nn.Module, normalisation: Normalisation, calibration: Calibration) -> None:
        super().__init__()
        self.network = network
        mean, std, clamp = preprocess.constants(normalisation)
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.clamp: torch.Tensor
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.register_buffer("clamp", clamp)
        self.temperature = calibration.temperature
        self.bias = calibration.bias

    def forward(self, s1: torch.Tensor) -> torch.Tensor:
        """Return P(water).

        Parameters
        ----------
        s1
            VV and VH backscatter [B, 2, H, W], dB, float32, NaN where missing; H and W multiples of 32.

        Returns
        -------
        torch.Tensor
            [B, 1, H, W], float32, 0-1, NaN where neither band was measured.
        """
        encoded_BCHW = preprocess.encode(s1, self.mean, self.std, self.clamp)
        logits = self.network(encoded_BCHW) / self.temperature + self.bias
        # The validity channels follow the scaled bands; a maximum over them is 1 where any band was measured.
        seen = encoded_BCHW[:, s1.shape[1] :].amax(dim=1, keepdim=True) > 0.5
        return torch.where(seen, torch.sigmoid(logits), torch.nan)
