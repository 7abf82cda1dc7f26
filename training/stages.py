"""One run of an optimiser with Lightning: deterministic, resumable, stopped early on data that are held out."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.utils.data import DataLoader

from training.recipe_parts import Hardware, Stage

WARM_UP_SHARE = 0.1
"""Share of a stage in which the learning rate rises."""

ONE_DEVICE = Hardware()
LOG_EVERY = 100
RESUME_EVERY = 100
logger = logging.getLogger("tocsin.training")
# Lightning speaks of devices and of its maker's services at every start.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)

Weights = dict[str, Tensor]


class StepStream(Protocol):
    """A data set of whole batches, one a step, that can start at any step."""

    first_step: int

    def __iter__(self) -> Iterator[Any]:
        """Yield batches from `first_step` on."""


@dataclass(frozen=True)
class StageRun:
    """How a stage is run.

    Attributes
    ----------
    stage
        Steps and learning rate.
    folder
        For files to resume from.
    precision
        Arithmetic, as Lightning names it.
    resume
        Whether an interrupted run goes on where it was.
    hardware
        Devices and machines.
    """

    stage: Stage
    folder: Path
    precision: Any
    resume: bool = False
    hardware: Hardware = ONE_DEVICE


@dataclass(frozen=True)
class Watch:
    """What ends a stage early.

    Attributes
    ----------
    metric
        Name under which the task logs it; more is better.
    every
        Steps between looks.
    patience
        Looks without a better value before the stage ends; the best weights are kept.
    loader
        Batches to look at.
    """

    metric: str
    every: int
    patience: int
    loader: DataLoader[Any]


class _Course(Callback):
    """Tell the log how the loss falls."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        """Log the loss now and then."""
        if trainer.global_step % LOG_EVERY == 0:
            loss = float(trainer.callback_metrics["loss"])
            logger.info("%s: step %d of %d, loss %.4f", self._stage.name, trainer.global_step, self._stage.steps, loss)


def run_stage(
    task: LightningModule,
    stream: StepStream,
    run: StageRun,
    watch: Watch | None = None,
    observers: Sequence[Callback] = (),
) -> None:
    """Train a task in place.

    Parameters
    ----------
    task
        Logs its loss as ``loss``.
    stream
        Its batches.
    run
        Steps, folder, precision.
    watch
        What ends it early; None: it runs all its steps.
    observers
        Callbacks that write down how it goes.
    """
    stage = run.stage
    resume = ModelCheckpoint(
        run.folder, filename="resume", every_n_train_steps=RESUME_EVERY, enable_version_counter=False
    )
    callbacks: list[Callback] = [_Course(stage), resume, *observers]
    best = None
    if watch is not None:
        best = ModelCheckpoint(
            run.folder, filename="best", monitor=watch.metric, mode="max", enable_version_counter=False
        )
        callbacks += [EarlyStopping(watch.metric, patience=watch.patience, mode="max"), best]
    trainer = Trainer(
        max_steps=stage.steps,
        accelerator="auto",
        devices=run.hardware.devices,
        num_nodes=run.hardware.machines,
        strategy=run.hardware.strategy,
        precision=run.precision,
        gradient_clip_val=1.0,
        callbacks=callbacks,
        logger=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        val_check_interval=watch.every if watch is not None else None,
        limit_val_batches=1.0 if watch is not None else 0,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
    )
    last = run.folder / "resume.ckpt"
    path = str(last) if run.resume and last.is_file() else None
    if path is not None:
        stream.first_step = int(torch.load(path, weights_only=True)["global_step"])
    loader: DataLoader[Any] = DataLoader(stream, batch_size=None)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        # A stage without a watch has no validation, and its stream draws in this process by design.
        warnings.filterwarnings("ignore", message=".*(validation_step|num_workers|_pytree|isinstance|not empty).*")
        trainer.fit(task, loader, watch.loader if watch else None, ckpt_path=path, weights_only=True)
    if best is not None and best.best_model_path:
        task.load_state_dict(torch.load(best.best_model_path, weights_only=True)["state_dict"])


def one_cycle(network: nn.Module, stage: Stage) -> OptimizerLRScheduler:
    """Return AdamW over a network, and a learning rate that rises and falls once over a stage."""
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=stage.learning_rate, weight_decay=stage.weight_decay, foreach=True
    )
    schedule: Any = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, stage.learning_rate, total_steps=stage.steps + 1, pct_start=WARM_UP_SHARE
    )
    return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def weights_of(network: nn.Module) -> Weights:
    """Return a network's state on the CPU, apart from the network."""
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
