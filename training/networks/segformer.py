"""SegFormer (Xie et al. 2021) from a configuration of transformers, with logits brought back to full resolution."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation


class SegFormer(nn.Module):
    """SegFormer with one output channel.

    Parameters
    ----------
    channels_in
        Channels of the encoded chip, validity channels included.
    widths
        Channels of the four stages; (32, 64, 160, 256) is B0.
    """

    def __init__(self, channels_in: int, widths: Sequence[int]) -> None:
        super().__init__()
        config = SegformerConfig(num_channels=channels_in, hidden_sizes=list(widths), decoder_hidden_size=widths[-1])
        config.num_labels = 1
        self.body = SegformerForSemanticSegmentation(config)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map encoded chips [B, C, H, W] to logits [B, 1, H, W]."""
        logits: Tensor = self.body(pixel_values=x_BCHW).logits
        return torch.nn.functional.interpolate(logits, scale_factor=4.0, mode="bilinear", align_corners=False)
