"""Physics with known answers: the oracle of the demo, of the tests and of training.

Every simulator is written once against the Python array API, so that numpy arrays and torch tensors run the same code:
pass the random source that belongs to the library (:class:`NumpyRandom` here, ``training.random.TorchRandom`` there).
"""

from tocsin.simulate.demo import FloodDemo, write_flood_scene
from tocsin.simulate.demo_landslide import LandslideDemo, write_landslides
from tocsin.simulate.demo_volcano import InterferogramDemo, write_interferogram
from tocsin.simulate.fields import NumpyRandom, RandomSource
from tocsin.simulate.flood import FloodSettings, SimulatedFlood, flood_scene
from tocsin.simulate.injection import InjectedLandslides, inject_landslides
from tocsin.simulate.interferogram import SimulatedInterferogram, interferogram
from tocsin.simulate.interferogram_settings import InterferogramSettings
from tocsin.simulate.landslide import SimulatedLandslides, landslide_pair
from tocsin.simulate.landslide_settings import LandslideSettings, ScarSettings
from tocsin.simulate.sources import SOURCES

__all__ = [
    "SOURCES",
    "FloodDemo",
    "FloodSettings",
    "InjectedLandslides",
    "InterferogramDemo",
    "InterferogramSettings",
    "LandslideDemo",
    "LandslideSettings",
    "NumpyRandom",
    "RandomSource",
    "ScarSettings",
    "SimulatedFlood",
    "SimulatedInterferogram",
    "SimulatedLandslides",
    "flood_scene",
    "inject_landslides",
    "interferogram",
    "landslide_pair",
    "write_flood_scene",
    "write_interferogram",
    "write_landslides",
]
