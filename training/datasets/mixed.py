"""The stream of training batches: real and simulated chips, cropped and augmented."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from training.augmentation import augment, crop, lay_flood
from training.datasets import IGNORE, LabelledChip, SimulatedFloods
from training.recipe import Recipe
from training.recipe_parts import Stage

TRIES = 5
"""Crops tried before one with hardly a judged pixel is taken."""
LEAST_JUDGED = 0.05


@dataclass(frozen=True)
class Pools:
    """Chips to draw from.

    Attributes
    ----------
    real
        Labelled real chips; may be empty when the stage takes none.
    sites
        Weakly labelled real chips; may be empty.
    simulated
        Simulated chips.
    """

    real: Sequence[LabelledChip]
    sites: Sequence[LabelledChip]
    simulated: SimulatedFloods


class MixedFloods(IterableDataset[tuple[Tensor, Tensor]]):
    """Batches of (s1_db [B, 2, H, W] float32, label [B, H, W] int16), reproducible by seed and step.

    Parameters
    ----------
    pools
        Where chips are drawn from.
    stage
        Batch size, steps and share of real chips.
    recipe
        Augmentation, chip size and seed.
    """

    def __init__(self, pools: Pools, stage: Stage, recipe: Recipe) -> None:
        self._pools = pools
        self._stage = stage
        self._recipe = recipe
        self._seed = (recipe.seed, *stage.name.encode())
        self.first_step = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for step in range(self.first_step, self._stage.steps):
            # One generator a step: a resumed run goes on with the very batches that the first one would have seen.
            random = np.random.default_rng((*self._seed, step))
            chips = [self._draw(random) for _ in range(self._stage.batch)]
            s1_db = np.stack([chip.s1_db for chip in chips])
            yield torch.from_numpy(s1_db), torch.from_numpy(np.stack([chip.label for chip in chips]))

    def _draw(self, random: np.random.Generator) -> LabelledChip:
        """Draw one chip."""
        settings, chip_px = self._recipe.augmentation, self._recipe.data.chip_px
        if random.random() >= self._stage.real_share:
            return augment(self._simulate(random), settings, random)
        from_sites = len(self._pools.sites) > 0 and random.random() < self._recipe.data.terramesh_share
        pool = self._pools.sites if from_sites else self._pools.real
        for _ in range(TRIES):
            chip = crop(pool[int(random.integers(len(pool)))], chip_px, random)
            if (chip.label != IGNORE).mean() > LEAST_JUDGED:
                break
        if random.random() < settings.flood_share:
            chip = lay_flood(chip, self._simulate(random))
        return augment(chip, settings, random)

    def _simulate(self, random: np.random.Generator) -> LabelledChip:
        """Take one simulated chip."""
        pool = self._pools.simulated
        return crop(pool[int(random.integers(len(pool)))], self._recipe.data.chip_px, random)
