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

REFINED = 16
"""Channels at full resolution where the stages work at half of it."""


class UNetBody(nn.Module):
    """The stages of a U-Net, without a head.

    Parameters
    ----------
    channels_in
        Channels of what comes in, validity channels included.
    widths
        Channels of each stage, finest first; every stage after the first halves the grid.
    stage
        Key of :data:`STAGES`.
    stem_stride
        What the first stage divides the grid by.
    """

    def __init__(self, channels_in: int, widths: Sequence[int], stage: str = "plain", stem_stride: int = 1) -> None:
        super().__init__()
        build_stage = STAGES[stage]
        self.down = nn.ModuleList()
        channels = channels_in
        for index, width in enumerate(widths):
            self.down.append(build_stage(channels, width, stem_stride if index == 0 else 2))
            channels = width
        self.up = nn.ModuleList()
        for width in reversed(widths[:-1]):
            self.up.append(nn.Sequential(convolution(channels + width, width), convolution(width, width)))
            channels = width

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of the coarsest stage, and those that came back to the grid of the first one."""
        skips = []
        for stage in self.down:
            x_BCHW = stage(x_BCHW)
            skips.append(x_BCHW)
        deepest_BCHW = skips.pop()
        for stage in self.up:
            x_BCHW = stage(torch.cat([_doubled(x_BCHW), skips.pop()], dim=1))
        return deepest_BCHW, x_BCHW


class UNet(UNetBody):
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
        1 works at full resolution throughout. 2 halves the grid before the first stage, at less than half the time:
        the features come back to full resolution at the end and are joined with the encoded chip, so that shores stay
        sharp.
    """

    def __init__(self, channels_in: int, widths: Sequence[int], stage: str = "plain", stem_stride: int = 1) -> None:
        super().__init__(channels_in, widths, stage, stem_stride)
        self.stem_stride = stem_stride
        channels = widths[0]
        self.narrow: nn.Module = nn.Identity()
        self.refine: nn.Module = nn.Identity()
        if stem_stride > 1:
            self.narrow = convolution(channels, REFINED - channels_in, kernel=1)
            self.refine = convolution(REFINED, REFINED)
            channels = REFINED
        self.head = nn.Conv2d(channels, 1, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:  # type: ignore[override]
        """Map encoded chips [B, C, H, W] to logits [B, 1, H, W]."""
        _, finest_BCHW = super().forward(x_BCHW)
        if self.stem_stride > 1:
            finest_BCHW = self.refine(torch.cat([_doubled(self.narrow(finest_BCHW)), x_BCHW], dim=1))
        logits: Tensor = self.head(finest_BCHW)
        return logits


def _doubled(x_BCHW: Tensor) -> Tensor:
    """Double rows and columns by repetition; the convolution that follows smooths."""
    return nn.functional.interpolate(x_BCHW, scale_factor=2.0, mode="nearest")
