"""Readers of labelled chips and interferograms: real ones by their published layout, simulated ones by seed."""

from training.datasets.chip import IGNORE, LabelledChip
from training.datasets.deepcube import DeepCube
from training.datasets.hephaestus import Hephaestus
from training.datasets.interferogram import LabelledPhase
from training.datasets.licsar import LicsarFrame
from training.datasets.sen1floods11 import Sen1Floods11
from training.datasets.simulated import SimulatedFloods
from training.datasets.terramesh import TerraMeshSites

__all__ = [
    "IGNORE",
    "DeepCube",
    "Hephaestus",
    "LabelledChip",
    "LabelledPhase",
    "LicsarFrame",
    "Sen1Floods11",
    "SimulatedFloods",
    "TerraMeshSites",
]
