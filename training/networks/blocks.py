"""Blocks that the networks share.

Shape suffixes: B batch, C channels, H rows, W columns.
"""

import torch
from torch import Tensor, nn


def convolution(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return convolution, batch normalisation and ReLU; the size is kept, or divided by the stride."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Two 3 x 3 convolutions with a shortcut (He et al. 2016, figure 2)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(channels_in, channels_out, stride=stride),
            nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels_in != channels_out:
            # Averaging before the projection keeps what a strided one would skip (He et al. 2019, ResNet-D).
            pool: nn.Module = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
            project = nn.Conv2d(channels_in, channels_out, 1, bias=False)
            self.shortcut = nn.Sequential(pool, project, nn.BatchNorm2d(channels_out))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map [B, C_in, H, W] to [B, C_out, H / stride, W / stride]."""
        return torch.relu(self.body(x_BCHW) + self.shortcut(x_BCHW))


class ConvNeXtBlock(nn.Module):
    """Depthwise 7 x 7, then a pointwise expansion by four (Liu et al. 2022, figure 4), normalised by batch.

    Batch normalisation in place of layer normalisation folds into the convolution at export.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 7, padding=3, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, 4 * channels, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(4 * channels, channels, 1),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        update: Tensor = self.body(x_BCHW)
        return x_BCHW + update


class Squeeze(nn.Module):
    """Global context: channels scaled by a gate that sees the whole chip (Hu et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // 4, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // 4, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        gate: Tensor = self.gate(x_BCHW)
        return x_BCHW * gate
