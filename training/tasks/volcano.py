"""Learning from simulated interferograms whether the ground moves, why, and where."""

from collections.abc import Iterator

import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from training.datasets.simulated_interferograms import SimulatedInterferograms
from training.networks.volcano import VolcanoLogits, VolcanoNetwork
from training.objectives.prototypes import distance_cross_entropy, pull
from training.phase_augmentation import augment_phase
from training.preprocess import encode_phase
from training.stages import one_cycle
from training.tasks.averaged import AveragedTask, running_mean
from training.volcano_recipe import VolcanoRecipe

Batch = tuple[Tensor, Tensor, Tensor]


class SimulatedPhases(IterableDataset[Batch]):
    """Batches of (phase [B, 1, H, W] float32 rad, mask [B, H, W] float32, source [B] int64), reproducible by step.

    Parameters
    ----------
    pool
        Chips to draw from.
    recipe
        Batch size, steps, augmentation and seed.
    """

    def __init__(self, pool: SimulatedInterferograms, recipe: VolcanoRecipe) -> None:
        self._pool = pool
        self._recipe = recipe
        self.first_step = 0

    def __iter__(self) -> Iterator[Batch]:
        stage = self._recipe.stage
        for step in range(self.first_step, stage.steps):
            # One generator a step: a resumed run goes on with the very batches that the first one would have seen.
            random = np.random.default_rng((self._recipe.seed, *stage.name.encode(), step))
            chips = [self._pool[int(index)] for index in random.integers(len(self._pool), size=stage.batch)]
            drawn = [augment_phase(chip.phase, chip.mask, self._recipe.augmentation, random) for chip in chips]
            phase = torch.from_numpy(np.stack([phase for phase, _ in drawn]))[:, None]
            mask = torch.from_numpy(np.stack([mask for _, mask in drawn])).float()
            yield phase, mask, torch.tensor([chip.source for chip in chips])


class VolcanoTask(AveragedTask):
    """The stage of a volcano recipe.

    Parameters
    ----------
    recipe
        The whole recipe.
    """

    network: VolcanoNetwork

    def __init__(self, recipe: VolcanoRecipe) -> None:
        super().__init__()
        self._recipe = recipe
        self.network = VolcanoNetwork(recipe.network)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # What one step learns of the simulator, the next may undo on real phase: the mean over steps holds.
        self.average = running_mean(self.network, recipe.average_decay)

    def forward(self, phase: Tensor) -> VolcanoLogits:
        """Map raw chips [B, 1, H, W] rad to logits, float32."""
        logits = self.network(encode_phase(phase).contiguous(memory_format=torch.channels_last))
        return VolcanoLogits(*(part.float() for part in logits))

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Return the loss of one batch."""
        phase, mask, source = batch
        said, loss = self(phase), self._recipe.loss
        deforms = (source >= 0).long()
        total = self._decision(said.embedding, deforms)
        total = total + loss.mask * nn.functional.binary_cross_entropy_with_logits(said.mask[:, 0], mask)
        if bool(deforms.any()):
            at = deforms > 0
            total = total + loss.source * nn.functional.cross_entropy(said.source[at], source[at])
        self.log("loss", total, prog_bar=True)
        return total

    def _decision(self, embedding: Tensor, deforms: Tensor) -> Tensor:
        """Return the loss of the decision: by distances to prototypes, or by two logits."""
        if self._recipe.network.head == "softmax":
            return nn.functional.cross_entropy(embedding, deforms)
        prototypes = self.network.prototypes
        total = distance_cross_entropy(embedding, prototypes, deforms)
        return total + self._recipe.loss.pull * pull(embedding, prototypes, deforms)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW with one cycle over the stage."""
        return one_cycle(self.network, self._recipe.stage)
