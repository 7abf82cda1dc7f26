"""The landslide network as it is written as a graph: raw units in, probabilities out, NaN where a side is not seen.

Legend of shape suffixes: B batch, A acquisition, P polarisation, H row, W column.
"""

from collections.abc import Mapping

import torch
from torch import nn

from tocsin.heights import HIGHEST_M, LOWEST_M
from tocsin.manifest import Calibration
from training import preprocess


class LandslideGraph(nn.Module):
    """A landslide network with its calibration inside.

    Parameters
    ----------
    network
        As `training.networks.landslide.LandslideNetwork`: (pre, post, dem) in raw units to `LandslideLogits`.
    calibration
        Temperature of the density class.
    further
        Temperature and bias of further outputs by name, `mask`; raw where not stated.
    """

    def __init__(self, network: nn.Module, calibration: Calibration, further: Mapping[str, Calibration]) -> None:
        super().__init__()
        self.network = network
        self.class_temperature = calibration.temperature
        self.mask = further.get("mask", Calibration(kind="none"))

    def forward(
        self, pre: torch.Tensor, post: torch.Tensor, dem: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what the network says of a batch of chips; a change is seen only where both sides are.

        Parameters
        ----------
        pre, post
            Backscatter [B, 3, 2, H, W], VV and VH, dB, of up to three acquisitions; NaN: missing pixel, band or
            acquisition. The order of acquisitions is of no account.
        dem
            Terrain height [B, 1, H, W], m, NaN where unknown; where no land is so low or so high, it is a void.

        Returns
        -------
        tuple of torch.Tensor
            float32: P(none, low, high) [B, 3], sum 1; expected landslides per km2 [B, 1]; P(landslide) [B, 1, H, W].
            The last is NaN at a pixel without any value before or without any after, the others where all pixels are.
        """
        pre, post = (torch.where(preprocess.validity(side), side, torch.nan) for side in (pre, post))
        heights = torch.where((dem > LOWEST_M) & (dem < HIGHEST_M), dem, torch.nan)
        logits = self.network(pre, post, heights)
        both_B1HW = (_looks(pre) * _looks(post)) > 0.5
        seen_B1 = both_B1HW.to(pre.dtype).amax(dim=(2, 3)) > 0.5
        mask = torch.sigmoid(logits.mask / self.mask.temperature + self.mask.bias)
        return (
            torch.where(seen_B1, torch.softmax(logits.density_class / self.class_temperature, dim=1), torch.nan),
            torch.where(seen_B1, torch.exp(logits.log_density)[:, None], torch.nan),
            torch.where(both_B1HW, mask, torch.nan),
        )


def _looks(side_BAPHW: torch.Tensor) -> torch.Tensor:
    """Return [B, 1, H, W], 1 where any acquisition measured in any band, else 0."""
    return preprocess.validity(side_BAPHW).to(side_BAPHW.dtype).amax(dim=(1, 2))[:, None]
