"""What a stage costs: trainable parameters, peak memory, seconds a step."""

import resource
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

KIBIBYTE = 1024


@dataclass(frozen=True)
class Cost:
    """What a stage cost.

    Attributes
    ----------
    trainable, parameters
        Number of parameters that learn, and of all.
    peak_bytes
        Largest memory: on the GPU what tensors took during the stage; on the CPU that of the whole process so far.
    seconds_per_step
        Median over the steps but the first, which builds what the others use; None after a single one.
    device
        Where it ran.
    """

    trainable: int
    parameters: int
    peak_bytes: int
    seconds_per_step: float | None
    device: str


class CostMeter(Callback):
    """Measure a stage while it runs; ask for `cost` afterwards."""

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._last = 0.0
        self._facts = (0, 0, "cpu")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count parameters, and forget what was used before."""
        del trainer
        counts = [(each.numel(), each.requires_grad) for each in pl_module.parameters()]
        trainable = sum(number for number, learns in counts if learns)
        self._facts = trainable, sum(number for number, _ in counts), str(pl_module.device)
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)
        self._last = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:  # noqa: ANN401 - as Lightning declares it
        """Take the time."""
        now = time.perf_counter()
        self._seconds.append(now - self._last)
        self._last = now

    def cost(self) -> Cost:
        """Return what the stage cost."""
        trainable, parameters, device = self._facts
        if device.startswith("cuda"):
            peak = torch.cuda.max_memory_allocated(device)
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else KIBIBYTE)
        later = self._seconds[1:]
        return Cost(trainable, parameters, peak, statistics.median(later) if later else None, device)
