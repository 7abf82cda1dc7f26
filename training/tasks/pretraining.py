"""Learning from unlabelled chips."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.utils.data import IterableDataset

from training.datasets.unlabelled import UnlabelledPool
from training.networks.bands import BandEncoder
from training.pretraining_recipe import PretrainingRecipe
from training.stages import one_cycle
from training.tasks.pretexts import build_pretext
from training.views import ViewMaker, ViewPlan, Views


class UnlabelledViews(IterableDataset[Views]):
    """Batches of views of different chips, reproducible by step.

    Parameters
    ----------
    pool
        Chips to draw from; with fewer than a batch holds, a batch shows some of them again elsewhere.
    recipe
        Bands, views, batch size, steps and seed.
    plan
        What the method compares.
    """

    def __init__(self, pool: UnlabelledPool, recipe: PretrainingRecipe, plan: ViewPlan) -> None:
        self._pool = pool
        self._recipe = recipe
        self._maker = ViewMaker(tuple(recipe.modalities.values()), plan, recipe.views)
        self.first_step = 0

    def __iter__(self) -> Iterator[Views]:
        stage, rank = self._recipe.stage, _rank()
        for step in range(self.first_step, stage.steps):
            # One generator a step and process: a resumed run goes on with the very batches that the first would see.
            random = np.random.default_rng((self._recipe.seed, *stage.name.encode(), step, rank))
            yield self._maker.batch([self._pool[index] for index in self._drawn(stage.batch, random)], random)

    def _drawn(self, count: int, random: np.random.Generator) -> list[int]:
        """Draw chips, none twice before all others: two views of one chip as two chips would be false negatives."""
        rounds = [random.permutation(len(self._pool)) for _ in range(-(-count // len(self._pool)))]
        return [int(index) for index in np.concatenate(rounds)[:count]]


class PretrainingTask(LightningModule):
    """The stage of a pretraining.

    Parameters
    ----------
    recipe
        The whole recipe.

    Attributes
    ----------
    pretext
        The method with its encoders.
    embedding
        [B, C] what stood for each chip of the last batch.
    """

    embedding: Tensor

    def __init__(self, recipe: PretrainingRecipe) -> None:
        super().__init__()
        self._recipe = recipe
        encoders = {name: BandEncoder(bands, recipe.encoder) for name, bands in recipe.modalities.items()}
        self.pretext = build_pretext(encoders, recipe.method)
        self.embedding = torch.empty(0)

    def training_step(self, views: Views, _: int) -> Tensor:
        """Return the loss of one batch."""
        said = self.pretext(views)
        self.embedding = said.embedding.detach()
        self.log("loss", said.loss, prog_bar=True)
        loss: Tensor = said.loss
        return loss

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - as Lightning declares it
        """Let the method follow every step: before a checkpoint is written, so that a resumed run goes on alike."""
        super().optimizer_step(*arguments, **named)
        self.pretext.after_step(min(1.0, (self.trainer.global_step + 1) / self._recipe.stage.steps))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW with one cycle over the stage."""
        return one_cycle(self.pretext, self._recipe.stage)


def _rank() -> int:
    """Return the number of this process among those that train together."""
    return (
        torch.distributed.get_rank() if torch.distributed.is_available() and torch.distributed.is_initialized() else 0
    )
