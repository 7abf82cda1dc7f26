"""Networks for interferograms: an encoder of transformers, three heads, and two ways to decide (softmax, prototypes).

Shape suffixes: B batch, C channels, H rows, W columns. Everything is built from a configuration, nothing is downloaded.
"""

from typing import Final, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from tocsin.simulate import SOURCES
from training.networks.blocks import convolution
from training.networks.encoders import EncoderConfig, build_encoder

GAMMA: Final = 2.0
"""Scale of squared distances before the softmax over prototypes (Bountos et al. 2022, code)."""

PROTOTYPE_DIMENSIONS: Final = 3
"""Dimensions of the prototype space (Bountos et al. 2022)."""


class VolcanoConfig(BaseModel):
    """Which encoder, and how it decides."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: EncoderConfig
    head: Literal["softmax", "prototypes"] = Field(
        "prototypes", description="softmax: two logits; prototypes: the nearest of two places in a space of three axes."
    )
    projection: tuple[int, ...] = Field(
        (),
        max_length=4,
        description="Hidden widths of the projection into prototype space; none: linear, as before adaptation.",
    )
    turns: Literal[1, 2, 4] = Field(
        4,
        description="Quarter turns of a chip over which pooled features are averaged once the network is trained: the "
        "ground does not know which way is up.",
    )
    mask_width: int = Field(48, ge=8, le=256, description="Channels of the deformation mask's decoder.")


class VolcanoLogits(NamedTuple):
    """What the network says of a batch, before calibration.

    Attributes
    ----------
    deformation
        [B], log odds of deformation.
    source
        [B, K], logits over `tocsin.simulate.SOURCES`.
    mask
        [B, 1, H, W], log odds of deformation at each pixel.
    embedding
        [B, 3], place in prototype space; the two logits [B, 2] of a softmax head.
    """

    deformation: Tensor
    source: Tensor
    mask: Tensor
    embedding: Tensor


class VolcanoNetwork(nn.Module):
    """Encoder, mask decoder, source head and decision.

    Parameters
    ----------
    config
        See `VolcanoConfig`.
    """

    def __init__(self, config: VolcanoConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = build_encoder(config.encoder)
        self.mask = MaskDecoder(self.encoder.channels, self.encoder.strides, config.mask_width)
        # Mean and maximum: what is everywhere, and what is somewhere.
        pooled = 2 * self.encoder.channels[-1]
        self.source = nn.Linear(pooled, len(SOURCES))
        outputs = PROTOTYPE_DIMENSIONS if config.head == "prototypes" else 2
        self.projection = projection(pooled, config.projection, outputs)
        self.prototypes = nn.Parameter(torch.zeros(2, PROTOTYPE_DIMENSIONS), requires_grad=config.head == "prototypes")
        nn.init.kaiming_normal_(self.prototypes)

    def forward(self, x_BCHW: Tensor) -> VolcanoLogits:
        """Map encoded phase [B, 3, H, W] (see `training.preprocess.encode_phase`) to logits."""
        return self.judge(x_BCHW, self.encoder(x_BCHW))

    def judge(self, x_BCHW: Tensor, features: list[Tensor]) -> VolcanoLogits:
        """Map encoded phase and the feature maps that the encoder makes of it, finest first, to logits."""
        pooled_BC = self.pooled(x_BCHW, features[-1])
        embedding_BE = self.projection(pooled_BC)
        mask = self.mask(features, x_BCHW.shape[-2])
        return VolcanoLogits(self.decide(embedding_BE), self.source(pooled_BC), mask, embedding_BE)

    def pooled(self, x_BCHW: Tensor, last_BCHW: Tensor) -> Tensor:
        """Return pooled features [B, 2 C] of encoded phase, given its own coarsest feature map.

        In evaluation they are the mean over quarter turns of the chip.
        """
        own_BC = pool(last_BCHW)
        turns = 1 if self.training else self.config.turns
        if turns == 1:
            return own_BC
        # One batch of all further turns: a graph holds the encoder's constants twice, not once a turn.
        others = [torch.rot90(x_BCHW, turn * (4 // turns), (2, 3)) for turn in range(1, turns)]
        others_TBC = pool(self.encoder(torch.cat(others))[-1]).reshape(turns - 1, *own_BC.shape)
        return (own_BC + others_TBC.sum(dim=0)) / turns

    def decide(self, embedding_BE: Tensor) -> Tensor:
        """Return log odds of deformation [B] of embeddings [B, 3], or of the softmax head's logits [B, 2]."""
        if self.config.head == "softmax":
            return embedding_BE[:, 1] - embedding_BE[:, 0]
        away, near = squared_distances(embedding_BE, self.prototypes).unbind(1)
        return GAMMA * (away - near)


def pool(features_BCHW: Tensor) -> Tensor:
    """Return mean and maximum over a feature map [B, C, H, W], joined: [B, 2 C]."""
    return torch.cat([features_BCHW.mean(dim=(2, 3)), features_BCHW.amax(dim=(2, 3))], dim=1)


def squared_distances(embedding_BE: Tensor, prototypes: Tensor) -> Tensor:
    """Return the squared distance of every embedding to every prototype, [B, classes]: 0 at rest, 1 deforming."""
    return ((embedding_BE[:, None] - prototypes[None]) ** 2).sum(dim=2)


def projection(channels: int, hidden: tuple[int, ...], outputs: int) -> nn.Sequential:
    """Return linear layers with ReLU between them; without hidden widths one linear layer."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(channels, width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.Linear(channels, outputs))


class MaskDecoder(nn.Module):
    """Feature maps added up from coarse to fine (Lin et al. 2017, feature pyramid), then one logit a pixel.

    Parameters
    ----------
    channels, strides
        Of the encoder's feature maps, finest first.
    width
        Channels that they are brought to.
    """

    def __init__(self, channels: tuple[int, ...], strides: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.strides = strides
        self.lateral = nn.ModuleList(nn.Conv2d(each, width, 1) for each in channels)
        self.smooth = convolution(width, width)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, features: list[Tensor], rows: int) -> Tensor:
        """Map feature maps, each [B, C, H / stride, W / stride], to logits [B, 1, H, W]; `rows` is H."""
        logits = self.head(self.features(features))
        factor = rows // logits.shape[-2]
        return nn.functional.interpolate(logits, scale_factor=float(factor), mode="bilinear", align_corners=False)

    def features(self, features: list[Tensor]) -> Tensor:
        """Map feature maps to one of the finest stride, [B, width, H / stride, W / stride]."""
        total = self.lateral[-1](features[-1])
        for index in range(len(features) - 2, -1, -1):
            factor = self.strides[index + 1] // self.strides[index]
            if factor > 1:
                total = nn.functional.interpolate(total, scale_factor=float(factor), mode="nearest")
            total = total + self.lateral[index](features[index])
        smoothed: Tensor = self.smooth(total)
        return smoothed
