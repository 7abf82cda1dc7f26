"""An encoder that knows its bands by name, and what stands in for one that is missing.

Shape suffixes: B batch, N bands, C channels, H rows, W columns.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tocsin.errors import WrongBandsError
from training.bands import band_of
from training.networks.encoders import Encoder, EncoderConfig, build_encoder


class BandEncoder(nn.Module):
    """Raw bands in, feature maps out.

    Every band becomes its normalised value, zero where it is missing; phase becomes a point on the unit circle. Then
    comes one validity channel a band, so that "missing" and "average" are told apart. An encoder that somebody else
    trained has no such channels: for it a missing band is average everywhere.

    Parameters
    ----------
    bands
        Names of what comes in, in this order.
    config
        The encoder; its `channels_in` is set by the bands.

    Raises
    ------
    WrongBandsError
        When a name is unknown or comes twice, or a local encoder is to take phase.
    """

    def __init__(self, bands: Sequence[str], config: EncoderConfig) -> None:
        super().__init__()
        known = [band_of(name) for name in bands]
        if not bands or len(set(bands)) < len(bands):
            raise WrongBandsError(f"bands {', '.join(bands) or '(none)'}", "at least one, each once", "mend the recipe")
        self.bands = tuple(bands)
        self.with_validity = config.family != "local"
        self.cyclic = tuple(band.kind == "phase" for band in known)
        if any(self.cyclic) and not self.with_validity:
            raise WrongBandsError("phase for a local encoder", "bands with one value a pixel", "choose another encoder")
        self.config = config.model_copy(update={"channels_in": self._channels()})
        self.encoder: Encoder = build_encoder(self.config)
        constants = torch.tensor([[band.mean, band.std, band.low, band.high] for band in known])
        self.register_buffer("constants", constants, persistent=False)

    constants: Tensor

    def _channels(self) -> int:
        values = len(self.bands) + sum(self.cyclic)
        return values + len(self.bands) * self.with_validity

    def encode(self, x_BNHW: Tensor) -> Tensor:
        """Return what the encoder is given of raw bands, [B, C, H, W]: values, then validity; no NaN is left."""
        valid = torch.isfinite(x_BNHW)
        mean, std, low, high = (each[None, :, None, None] for each in self.constants.unbind(dim=1))
        filled = torch.where(valid, x_BNHW, mean)
        scaled = (torch.minimum(torch.maximum(filled, low), high) - mean) / std
        measured = valid.to(x_BNHW.dtype)
        parts = []
        for index, cyclic in enumerate(self.cyclic):
            there = measured[:, index : index + 1]
            if cyclic:
                angle = filled[:, index : index + 1]
                parts += [torch.cos(angle) * there, torch.sin(angle) * there]
            else:
                parts.append(scaled[:, index : index + 1])
        return torch.cat([*parts, measured] if self.with_validity else parts, dim=1)

    def forward(self, x_BNHW: Tensor) -> list[Tensor]:
        """Map raw bands to feature maps, finest first."""
        maps: list[Tensor] = self.encoder(self.encode(x_BNHW))
        return maps

    def pooled(self, x_BNHW: Tensor) -> Tensor:
        """Map raw bands to what stands for each chip as a whole, [B, C_last]."""
        return self.encoder.pooled(self.encode(x_BNHW))

    @property
    def width(self) -> int:
        """Channels of what stands for a chip."""
        return self.encoder.channels[-1]
