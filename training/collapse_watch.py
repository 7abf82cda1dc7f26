"""Stop a pretraining that learns nothing: all chips look the same to it, or its loss is no number."""

import math
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from pydantic import Field

from tocsin.errors import ModelInvalidError
from training.objectives.collapse import spread
from training.recipe_parts import Part


class CollapseSettings(Part):
    """When embeddings count as collapsed."""

    least_spread: float = Field(
        0.01, ge=0, le=1, description="Spread of embeddings below which a look counts; 1 is any direction, 0 one alone."
    )
    every: int = Field(20, ge=1, description="Steps between looks.")
    patience: int = Field(5, ge=1, description="Looks in a row that count before the run stops.")
    after_share: float = Field(0.1, ge=0, le=1, description="Share of steps before the first look.")


class CollapseWatch(Callback):
    """Look at the embeddings of a batch now and then.

    Parameters
    ----------
    settings
        When to stop.
    steps
        Of the whole run.

    Attributes
    ----------
    course
        Step, loss and spread of every look.
    """

    def __init__(self, settings: CollapseSettings, steps: int) -> None:
        self._settings = settings
        self._first = settings.after_share * steps
        self._count = 0
        self.course: list[tuple[int, float, float]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:  # noqa: ANN401
        """Look, and stop the run when there is no point in going on.

        Raises
        ------
        ModelInvalidError
            When the embeddings have been the same for too many looks, or the loss is no number.
        """
        step, loss = trainer.global_step, float(trainer.callback_metrics["loss"])
        if not math.isfinite(loss):
            raise ModelInvalidError(
                f"loss {loss} at step {step}", "a number", "lower the learning rate, or set precision to 32-true"
            )
        if step % self._settings.every:
            return
        embedding: Any = pl_module.embedding
        found = spread(embedding)
        self.course.append((step, loss, found))
        self._count = self._count + 1 if step >= self._first and found < self._settings.least_spread else 0
        if self._count >= self._settings.patience:
            raise ModelInvalidError(
                f"collapse: embeddings at step {step} that are the same for all chips (spread {found:.4f}, "
                f"{self._count} looks in a row)",
                f"a spread of at least {self._settings.least_spread:g}",
                "give a larger batch, a lower learning rate or views that differ less",
            )
