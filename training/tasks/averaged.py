"""What tasks share whose running mean of the weights is what is used."""

from typing import Any

from lightning import LightningModule
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def running_mean(network: nn.Module, decay: float) -> AveragedModel:
    """Return the running mean of a network's weights and buffers, of which a step keeps the share `decay`."""
    mean: Any = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(network, multi_avg_fn=mean, use_buffers=True)


class AveragedTask(LightningModule):
    """A task whose `average` follows its `network`.

    Attributes
    ----------
    network
        What is optimised.
    average
        Its running mean, of `running_mean`.
    """

    network: nn.Module
    average: AveragedModel

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - as Lightning declares it
        """Follow the weights with every step: before a checkpoint is written, so that a resumed run goes on alike."""
        super().optimizer_step(*arguments, **named)
        self.average.update_parameters(self.network)
