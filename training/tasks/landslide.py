"""Learning from landslide pairs in two stages: whether there is any, then where and how many."""

import math
from collections.abc import Iterator
from typing import Final, Literal

import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from tocsin.hazards.landslide import CHIP_KM2, HIGH_DENSITY_PER_KM2
from training.datasets.burst_chips import Chips
from training.datasets.chip import IGNORE
from training.landslide_augmentation import augment_pair
from training.landslide_recipe import LandslideRecipe
from training.networks.landslide import LandslideLogits, LandslideNetwork, judged, measure
from training.objectives.density import count_loss
from training.objectives.segmentation import cross_entropy_and_dice
from training.recipe_parts import Stage
from training.stages import one_cycle
from training.tasks.averaged import AveragedTask, running_mean

LEAST_PX: Final = 50
"""Pixels of landslides that a chip of the first stage shows, if it holds any, as in the
detection task of Sen12Landslides."""

Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
StageName = Literal["presence", "segmentation"]


class AugmentedPairs(IterableDataset[Batch]):
    """Batches of (pre, post [B, 3, 2, H, W], dem [B, 1, H, W], mask [B, H, W], heads [B]), reproducible by step.

    Parameters
    ----------
    pool
        Chips to draw from.
    recipe
        Augmentation and seed.
    stage
        Batch size and steps.
    """

    def __init__(self, pool: Chips, recipe: LandslideRecipe, stage: Stage) -> None:
        self._pool = pool
        self._recipe = recipe
        self._stage = stage
        self.first_step = 0

    def __iter__(self) -> Iterator[Batch]:
        for step in range(self.first_step, self._stage.steps):
            # One generator a step: a resumed run goes on with the very batches that the first one would have seen.
            random = np.random.default_rng((self._recipe.seed, *self._stage.name.encode(), step))
            chips = [self._pool[int(index)] for index in random.integers(len(self._pool), size=self._stage.batch)]
            drawn = [augment_pair(chip, self._recipe.augmentation, random) for chip in chips]
            pre, post, dem, mask = (torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True))
            yield pre, post, dem[:, None], mask, torch.tensor([float(chip.heads) for chip in chips])


class LandslideTask(AveragedTask):
    """One stage of a landslide recipe.

    Parameters
    ----------
    recipe
        The whole recipe.
    name
        Which stage.
    """

    network: LandslideNetwork

    def __init__(self, recipe: LandslideRecipe, name: StageName) -> None:
        super().__init__()
        self._recipe = recipe
        self._name = name
        self.network = LandslideNetwork(recipe.network)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = running_mean(self.network, recipe.average_decay)

    def forward(self, pre: Tensor, post: Tensor, dem: Tensor) -> LandslideLogits:
        """Map raw pairs to logits, float32."""
        said: LandslideLogits = self.network(pre, post, dem)
        return said

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Return the loss of one batch."""
        pre, post, dem, mask, heads = batch
        seen = measure(pre, post, self._recipe.network)
        where = judged(seen)[:, 0]
        # What a chip does not show it cannot count.
        weight = where.mean(dim=(1, 2))
        if self._name == "presence":
            odds = self.network.embedding.contains_any(seen)
            # Landslides that hardly cover a pixel would teach that what holds landslides looks like what holds none.
            clear = (heads == 0) | (mask.sum(dim=(1, 2)) >= LEAST_PX)
            total = nn.functional.binary_cross_entropy_with_logits(odds, (heads > 0).float(), weight=weight * clear)
        else:
            total = self._second(self(pre, post, dem), (mask, heads), where, weight)
        self.log("loss", total, prog_bar=True)
        return total

    def _second(self, said: LandslideLogits, truth: tuple[Tensor, Tensor], where: Tensor, weight: Tensor) -> Tensor:
        """Return the loss of class, number and mask."""
        mask, heads = truth
        loss = self._recipe.loss
        entropy = nn.functional.cross_entropy(said.density_class, classes(heads), reduction="none")
        number = count_loss(said.log_density + math.log(CHIP_KM2), heads, weight)
        label = torch.where(where > 0, mask.long(), torch.full_like(mask, IGNORE, dtype=torch.long))
        pixels = cross_entropy_and_dice(said.mask[:, 0], label, loss.overlap)
        return loss.density_class * (entropy * weight).mean() + loss.density * number + loss.mask * pixels

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW with one cycle over the stage; the first stage moves the embedding alone."""
        if self._name == "presence":
            return one_cycle(self.network.embedding, self._recipe.presence)
        return one_cycle(self.network, self._recipe.segmentation)


def classes(heads: Tensor) -> Tensor:
    """Return the class of chips with so many landslides, [B] int64: none, low or high."""
    density_per_km2 = heads / CHIP_KM2
    return (heads > 0).long() + (density_per_km2 > HIGH_DENSITY_PER_KM2).long()
