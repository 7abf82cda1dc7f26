"""What all methods of pretraining share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from training.networks.bands import BandEncoder
from training.views import ViewPlan, Views

Encoders = Mapping[str, BandEncoder]
"""An encoder for each modality, by the modality's name."""


class Judgement(NamedTuple):
    """What a method says of a batch.

    Attributes
    ----------
    loss
        What is minimised.
    embedding
        [B, C] what stands for each chip, watched for collapse.
    """

    loss: Tensor
    embedding: Tensor


class Pretext(nn.Module, ABC):
    """A method of pretraining.

    Attributes
    ----------
    plan
        Views that it compares.
    encoders
        What is learnt, by modality.
    """

    plan: ViewPlan

    def __init__(self, encoders: Encoders) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)

    @property
    def encoder(self) -> BandEncoder:
        """The only encoder of a method that takes all bands together."""
        (only,) = self.encoders.values()
        assert isinstance(only, BandEncoder)
        return only

    @abstractmethod
    def forward(self, views: Views) -> Judgement:
        """Judge a batch."""

    def after_step(self, share: float) -> None:
        """Follow a step of the optimiser; ``share`` of the steps is done."""

    def taught(self, modality: str) -> BandEncoder:
        """Return the encoder that is kept at the end."""
        encoder = self.encoders[modality]
        assert isinstance(encoder, BandEncoder)
        return encoder


def head(channels: int, widths: tuple[int, ...], *, last_bias: bool = True) -> nn.Sequential:
    """Return linear layers, between them batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for width in widths[:-1]:
        layers += [nn.Linear(channels, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True)]
        channels = width
    return nn.Sequential(*layers, nn.Linear(channels, widths[-1], bias=last_bias))
