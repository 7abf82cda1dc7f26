"""A logit a pixel from any encoder: its feature maps added up from coarse to fine, then brought to full resolution.

Shape suffixes: B batch, C channels, H rows, W columns.
"""

from torch import Tensor, nn

from training.networks.encoders import EncoderConfig, build_encoder
from training.networks.volcano import MaskDecoder


class DenseNetwork(nn.Module):
    """An encoder with the decoder of the volcano model's mask.

    Parameters
    ----------
    config
        The encoder.
    width
        Channels of the decoder.
    """

    def __init__(self, config: EncoderConfig, width: int) -> None:
        super().__init__()
        self.encoder = build_encoder(config)
        self.decoder = MaskDecoder(self.encoder.channels, self.encoder.strides, width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map encoded chips [B, C, H, W] to logits [B, 1, H, W]."""
        logits = self.decoder.head(self.decoder.features(self.encoder(x_BCHW)))
        factor = float(self.encoder.strides[0])
        return nn.functional.interpolate(logits, scale_factor=factor, mode="bilinear", align_corners=False)
