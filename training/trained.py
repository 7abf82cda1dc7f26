"""What a training leaves behind, whatever the hazard."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from training.checkpoints import CheckpointFacts

CHECKPOINT: Final = "checkpoint.safetensors"
REPORT: Final = "held_out.json"


@dataclass(frozen=True)
class Trained:
    """What a training leaves behind.

    Attributes
    ----------
    checkpoint
        The file that ``tocsin export model`` takes.
    report
        JSON of every figure on data held out.
    facts
        What the checkpoint says of itself.
    """

    checkpoint: Path
    report: Path
    facts: CheckpointFacts
