"""The modules that are written as graphs: raw units in, calibrated probabilities out, NaN for what is missing.

Legend of shape suffixes: B batch, C band, H row, W column.
"""

from collections.abc import Mapping

import torch
from torch import nn

from tocsin.manifest import Calibration, Normalisation
from training import preprocess
from training.networks.volcano import VolcanoNetwork


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


class VolcanoGraph(nn.Module):
    """A network for interferograms with its encoding and calibration inside.

    Parameters
    ----------
    network
        Maps encoded phase (see `training.preprocess.encode_phase`) to logits.
    calibration
        Temperature and bias of the decision's logit.
    further
        The same by name of further outputs, `mask` and `source`; raw where not stated.

    Attributes
    ----------
    internals
        Names of the values after the outputs: the encoder's feature maps, finest first. They stay inside the graph
        under these names, so that the encoder can be cut out of it.
    """

    def __init__(self, network: VolcanoNetwork, calibration: Calibration, further: Mapping[str, Calibration]) -> None:
        super().__init__()
        raw = Calibration(kind="none")
        self.network = network
        self.deformation, self.mask = calibration, further.get("mask", raw)
        self.source_temperature = further.get("source", raw).temperature
        self.internals = tuple(f"features_{number}" for number, _ in enumerate(network.encoder.channels, start=1))

    def forward(self, phase: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return what the network says of a batch of chips; all NaN where a chip has no valid pixel.

        Parameters
        ----------
        phase
            Wrapped phase [B, 1, H, W], rad, float32, NaN where missing. Any multiple of 2 pi may be added: it is used
            as an angle.

        Returns
        -------
        tuple of torch.Tensor
            float32: P(deformation) [B, 1]; P over source types [B, K]; P(deforming) [B, 1, H, W], NaN where the phase
            is; place in prototype space [B, E]; then the encoder's feature maps, each [B, C, H / stride, W / stride].
        """
        encoded_BCHW = preprocess.encode_phase(phase)
        measured = encoded_BCHW[:, 2:] > 0.5
        seen = encoded_BCHW[:, 2:].amax(dim=(2, 3)) > 0.5
        features = self.network.encoder(encoded_BCHW)
        logits = self.network.judge(encoded_BCHW, features)
        outputs = (
            torch.where(seen, _probability(logits.deformation[:, None], self.deformation), torch.nan),
            torch.where(seen, torch.softmax(logits.source / self.source_temperature, dim=1), torch.nan),
            torch.where(measured, _probability(logits.mask, self.mask), torch.nan),
            torch.where(seen, logits.embedding, torch.nan),
        )
        return (*outputs, *features)


def _probability(logits: torch.Tensor, calibration: Calibration) -> torch.Tensor:
    """Return calibrated probability, same shape."""
    return torch.sigmoid(logits / calibration.temperature + calibration.bias)
