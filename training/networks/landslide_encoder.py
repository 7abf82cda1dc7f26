"""The embedding of a side by any encoder, pretrained or not, in place of a U-Net.

Shape suffixes: B batch, P polarisations (VV, VH), C channels, H rows, W columns.
"""

import torch
from torch import Tensor, nn

from tocsin.hazards.landslide import BANDS
from training.bands import band_of
from training.networks.encoders import EncoderConfig, build_encoder
from training.networks.landslide import Embedding, LandslideConfig, Seen, any_head, db, levels
from training.networks.volcano import MaskDecoder


class EncoderEmbedding(Embedding):
    """The mean backscatter of each side through one encoder, its feature maps added up at half resolution.

    Parameters
    ----------
    config
        See `LandslideConfig`.
    encoder
        The encoder of VV, VH and their validity.
    """

    constants: Tensor

    def __init__(self, config: LandslideConfig, encoder: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = build_encoder(encoder.model_copy(update={"channels_in": 2 * len(BANDS)}))
        self.decoder = MaskDecoder(self.encoder.channels, self.encoder.strides, config.side_widths[0])
        self.out = nn.Conv2d(config.side_widths[0], config.learnt_channels, 1)
        self.any = any_head(config)
        known = [band_of(name) for name in BANDS]
        constants = torch.tensor([[band.mean, band.std, band.low, band.high] for band in known])
        self.register_buffer("constants", constants, persistent=False)

    def forward(self, seen: Seen) -> Tensor:
        """Return the embeddings before and after side by side, [B, 2 C, H / 2, W / 2]."""
        mean, std, low, high = (each[None, :, None, None] for each in self.constants.unbind(dim=1))
        valid = (seen.share > 0).to(seen.power.dtype).flatten(0, 1)
        level_db = torch.minimum(torch.maximum(db(seen.power).flatten(0, 1), low), high)
        features = self.decoder.features(self.encoder(torch.cat([(level_db - mean) / std * valid, valid], dim=1)))
        factor = self.encoder.strides[0] / 2
        if factor != 1:
            features = nn.functional.interpolate(features, scale_factor=factor, mode="bilinear", align_corners=False)
        level = levels(seen, self.config).to(features.dtype)
        embedded = torch.cat([self.out(features), level], dim=1)
        return embedded.reshape(seen.power.shape[0], -1, *features.shape[-2:])
