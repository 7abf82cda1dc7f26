"""U-Nets: an encoder that halves the grid at every stage, a decoder that brings it back (Ronneberger et al. 2015)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.networks.blocks import ConvNeXtBlock, Residual, convolution


def _plain(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    return nn.Sequential(convolution(channels_in, channels_out, stride=stride), convolution(channels_out, channels_out))


def _residual(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    return nn.Sequential(Residual(channels_in, channels_out, stride), Residual(channels_out, channels_out))


def _convnext(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    kernel = 3 if stride == 1 else 2
    entry = nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2 if stride == 1 else 0, bias=False),
        nn.BatchNorm2d(channels_out),
    )
    return nn.Sequential(entry, ConvNeXtBlock(channels_out), ConvNeXtBlock(channels_out))


STAGES = {"plain": _plain, "residual": _residual, "convnext": _convnext}
"""Stage builders by name: (channels in, channels out, stride) -> module."""


class UNet(nn.Module):
    """U-Net with one stage a width.

    Parameters
    ----------
    channels_in
        Channels of the encoded chip, validity channels included.
    widths
        Channels of each stage, finest first; every stage after the first halves the grid.
    stage
        Key of :data:`STAGES`.
    stem_stride
        1 works at full resolution throughout; 2 halves the grid before the first stage.
    """

    def __init__(self, channels_in: int, widths: Sequence[int], stage: str = "plain", stem_stride: int = 1) -> None:
        super().__init__()
        build_stage = STAGES[stage]
        self.stem_stride = stem_stride
        self.down = nn.ModuleList()
        channels = channels_in
        for index, width in enumerate(widths):
            self.down.append(build_stage(channels, width, stem_stride if index == 0 else 2))
            channels = width
        self.up = nn.ModuleList()
        for width in reversed(widths[:-1]):
            self.up.append(nn.Sequential(convolution(channels + width, width), convolution(width, width)))
            channels = width
        self.head = nn.Conv2d(channels, 1, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map encoded chips [B, C, H, W] to logits [B, 1, H, W]."""
        skips = []
        for stage in self.down:
            x_BCHW = stage(x_BCHW)
            skips.append(x_BCHW)
        skips.pop()
        for stage in self.up:
            skip = skips.pop()
            x_BCHW = nn.functional.interpolate(x_BCHW, scale_factor=2.0, mode="nearest")
            x_BCHW = stage(torch.cat([x_BCHW, skip], dim=1))
        logits: Tensor = self.head(x_BCHW)
        if self.stem_stride > 1:
            logits = nn.functional.interpolate(
                logits, scale_factor=float(self.stem_stride), mode="bilinear", align_corners=False
            )
        return logits
