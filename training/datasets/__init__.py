"""Readers of labelled chips: real ones by their published layout, simulated ones by seed."""

from training.datasets.chip import IGNORE, LabelledChip
from training.datasets.sen1floods11 import Sen1Floods11
from training.datasets.simulated import SimulatedFloods
from training.datasets.terramesh import TerraMeshSites

__all__ = ["IGNORE", "LabelledChip", "Sen1Floods11", "SimulatedFloods", "TerraMeshSites"]
