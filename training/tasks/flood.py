"""Learning to see water."""

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from training.datasets import IGNORE
from training.networks import build
from training.objectives.segmentation import cross_entropy_and_dice
from training.preprocess import encode
from training.recipe import Recipe
from training.recipe_parts import Stage
from training.stages import one_cycle


class FloodTask(LightningModule):
    """One stage of a flood recipe.

    Parameters
    ----------
    recipe
        The whole recipe.
    stage
        The stage to run.
    """

    mean: Tensor
    std: Tensor
    clamp: Tensor

    def __init__(self, recipe: Recipe, stage: Stage) -> None:
        super().__init__()
        self._recipe = recipe
        self._stage = stage
        self.network = build(recipe.network)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        scale = recipe.normalisation
        self.register_buffer("mean", torch.tensor(scale.mean).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(scale.std).reshape(1, -1, 1, 1))
        self.register_buffer("clamp", torch.tensor([scale.low, scale.high]).reshape(2, 1, -1, 1, 1))
        self._watched = [0, 0]

    def forward(self, s1_db: Tensor) -> Tensor:
        """Map raw chips [B, 2, H, W] dB to logits [B, H, W] float32."""
        encoded = encode(s1_db, self.mean, self.std, self.clamp).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.network(encoded)
        return logits[:, 0].float()

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Return the loss of one batch."""
        s1_db, label = batch
        loss = cross_entropy_and_dice(self(s1_db), label, self._recipe.overlap_weight)
        self.log("loss", loss, prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget the last look."""
        self._watched = [0, 0]

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Count water of one watched chip."""
        s1_db, label = batch
        water = torch.sigmoid(self(s1_db)) >= self._recipe.threshold
        judged, truth = label != IGNORE, label == 1
        self._watched[0] += int((water & truth & judged).sum())
        self._watched[1] += int(((water | truth) & judged).sum())

    def on_validation_epoch_end(self) -> None:
        """Report the pooled IoU of the watched event."""
        self.log("watched_iou", self._watched[0] / max(1, self._watched[1]), prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW with one cycle over the stage."""
        return one_cycle(self.network, self._stage)
