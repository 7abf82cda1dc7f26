"""Readers of labelled chips and interferograms: real ones by their published layout, simulated ones by seed."""

from training.datasets.chip import IGNORE, LabelledChip
from training.datasets.deepcube import DeepCube
from training.datasets.hephaestus import Hephaestus
from training.datasets.interferogram import LabelledPhase
from training.datasets.inventory import InventoryOptions, count_per_cell, read_inventory
from training.datasets.licsar import LicsarFrame
from training.datasets.opera_rtc import OperaRtc
from training.datasets.sen1floods11 import Sen1Floods11
from training.datasets.sen12landslides import Sen12Landslides
from training.datasets.simulated import SimulatedFloods
from training.datasets.terramesh import TerraMeshSites

__all__ = [
    "IGNORE",
    "DeepCube",
    "Hephaestus",
    "InventoryOptions",
    "LabelledChip",
    "LabelledPhase",
    "LicsarFrame",
    "OperaRtc",
    "Sen1Floods11",
    "Sen12Landslides",
    "SimulatedFloods",
    "TerraMeshSites",
    "count_per_cell",
    "read_inventory",
]
