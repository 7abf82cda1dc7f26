"""How a volcano network gets better while the simulator teaches it: written down, never acted upon."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from tocsin.detection_figures import auroc, count
from training.datasets.real_phase import RealPictures
from training.datasets.simulated_interferograms import SimulatedInterferograms
from training.networks.volcano import VolcanoNetwork
from training.preprocess import encode_phase
from training.tasks.volcano import VolcanoTask

CURVE: Final = "curve.json"
EVERY: Final = 500
PICTURES: Final = 250
BATCH: Final = 32
logger = logging.getLogger("tocsin.training")


@dataclass(frozen=True)
class Judged:
    """Chips by data set: phase [N, H, W], rad, and whether they deform, [N]."""

    phase: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    deforms: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


class LearningCurve(Callback):
    """Judges the averaged weights every few steps and appends a row to ``curve.json``.

    Parameters
    ----------
    folder
        Where the file goes; rows of an interrupted run are kept.
    real
        Pictures; about 250 of them are judged.
    held_back
        Simulated scenes that are not learnt from; as many are judged.
    """

    def __init__(self, folder: Path, real: RealPictures, held_back: SimulatedInterferograms) -> None:
        few = real.few(PICTURES)
        self._file = folder / CURVE
        self._sets: dict[str, Judged] = {}
        for subset in ("C1", "S1"):
            own = [picture for picture in few.pictures if picture.subset == subset]
            if own:
                labels = np.array([picture.label == 1 for picture in own])
                self._sets[subset] = Judged(np.stack([picture.phase for picture in own]), labels)
        chips = [held_back[index] for index in range(min(PICTURES, len(held_back)))]
        labels = np.array([chip.source >= 0 for chip in chips])
        self._sets["simulated"] = Judged(np.stack([chip.phase for chip in chips]), labels)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        """Judge now and then, and at the end."""
        step = trainer.global_step
        if step % EVERY and step != trainer.max_steps:
            return
        assert isinstance(pl_module, VolcanoTask)
        network: Any = pl_module.average.module
        row = {"step": step} | {name: figures(network, judged) for name, judged in self._sets.items()}
        rows = json.loads(self._file.read_text()) if self._file.is_file() else []
        kept = [each for each in rows if each["step"] < step]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps([*kept, row], indent=1) + "\n")
        logger.info("learning curve: %s", row)


def figures(network: VolcanoNetwork, judged: Judged) -> dict[str, float | None]:
    """Return balanced accuracy at even odds, and AUROC; the network is left as it was."""
    was_training = network.training
    network.eval()
    with torch.inference_mode():
        odds = [
            network(encode_phase(torch.from_numpy(judged.phase[start : start + BATCH])[:, None])).deformation
            for start in range(0, len(judged.phase), BATCH)
        ]
    network.train(was_training)
    scores = torch.cat(odds).float().numpy().astype(np.float64)
    return {
        "balanced_accuracy": count(scores > 0, judged.deforms).balanced_accuracy,
        "auroc": auroc(scores, judged.deforms),
    }
