"""How a stage of any hazard begins from a pretrained encoder, and what is left when it ends."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from training.cost import CostMeter
from training.networks.encoders import Encoder
from training.start import Frozen, Start, adapt, begin, merge

COST: Final = "cost.json"
logger = logging.getLogger("tocsin.training")


class Beginning:
    """The beginning of one stage; without a start it measures what the stage costs, and does nothing else.

    Parameters
    ----------
    start
        Of the recipe.
    bands
        What the network is given, in this order.
    out
        Folder below which checkpoints are looked for.
    """

    def __init__(self, start: Start | None, bands: Sequence[str], out: Path) -> None:
        self._start, self._bands, self._out = start, tuple(bands), out
        self._meter = CostMeter()

    def prepare(self, network: nn.Module, *, load: bool = True) -> list[Callback]:
        """Load weights into the network's encoder, choose what of it learns, and return what watches the stage.

        Parameters
        ----------
        network
            With an `encoder`, when there is a start.
        load
            Whether the pretrained weights are loaded: no when an earlier stage taught the network already.

        Raises
        ------
        UsageError, ModelInvalidError, WrongBandsError
            As `training.start` raises them.
        """
        if self._start is None:
            return [self._meter]
        encoder = encoder_of(network)
        if load:
            begin(encoder, self._bands, self._start, self._out)
        adapt(encoder, self._start)
        return [self._meter] if self._start.learns == "full" else [self._meter, Frozen(encoder)]

    def finish(self, network: nn.Module, folder: Path) -> None:
        """Merge updates into the weights, and write down what the stage cost."""
        cost = asdict(self._meter.cost())
        if self._start is not None:
            encoder = encoder_of(network)
            if self._start.learns == "lora":
                cost["merged_apart"] = merge(encoder, _sample(encoder))
            encoder.requires_grad_(requires_grad=True)
            cost["learns"] = self._start.learns
        folder.mkdir(parents=True, exist_ok=True)
        (folder / COST).write_text(json.dumps(cost, indent=2) + "\n")
        logger.info("cost of %s: %s", folder.name, cost)


def encoder_of(network: nn.Module) -> Encoder:
    """Return a network's encoder."""
    encoder = network.encoder
    assert isinstance(encoder, Encoder)
    return encoder


def _sample(encoder: Encoder) -> torch.Tensor:
    """Return two encoded chips of noise, the same at every call, of a size that the encoder takes."""
    channels, size_px = encoder.config.channels_in, encoder.config.chip_px
    return torch.randn(2, channels, size_px, size_px, generator=torch.Generator().manual_seed(0))
