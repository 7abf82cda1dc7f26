"""The files of a simulated interferogram, as a volcano observatory would receive them from LiCSAR."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from tocsin.grid import Grid
from tocsin.raster import RasterSpec
from tocsin.simulate.demo import write_band
from tocsin.simulate.fields import NumpyRandom
from tocsin.simulate.interferogram import interferogram
from tocsin.simulate.interferogram_settings import InterferogramSettings

SEED: Final = 32
SHAPE: Final = (500, 600)
PIXEL_DEG: Final = 0.001
PIXEL_M: Final = 111.0
SETTINGS: Final = InterferogramSettings(
    deforming_share=1.0,
    second_share=0.0,
    outside_share=0.0,
    steep_ramp_share=0.0,
    sources=("mogi", "sill", "dyke"),
    pixel_m=(PIXEL_M, PIXEL_M),
    peak_rad=(15.0, 60.0),
    lost_share=0.0,
    hole_share=0.0,
    masked_share=0.0,
    coast_share=0.0,
    swath_edge_share=0.3,
)
# A made-up pair of a twelve-day repeat, over the Afar, where rifts open.
PAIR: Final = "20261002_20261014"
ORIGIN: Final = (40.3, 13.9)
EPSG: Final = 4326


@dataclass(frozen=True)
class InterferogramDemo:
    """Where the files of a simulated interferogram are.

    Attributes
    ----------
    interferogram
        Wrapped phase, rad.
    coherence
        0 to 1.
    dem
        Terrain height, m.
    truth
        1 where the ground deforms, 0 elsewhere; known also where nothing was observed.
    source_name
        Kind of the source.
    """

    interferogram: Path
    coherence: Path
    dem: Path
    truth: Path
    source_name: str


def write_interferogram(
    folder: Path,
    shape: tuple[int, int] = SHAPE,
    seed: int = SEED,
    settings: InterferogramSettings = SETTINGS,
) -> InterferogramDemo:
    """Simulate an interferogram and write it as GeoTIFFs with the names and pixels of LiCSAR.

    Parameters
    ----------
    folder
        Made when missing; files of an earlier demo in it are replaced.
    shape
        (rows, cols) in pixels of 0.001 degrees.
    seed, settings
        What is simulated.
    """
    scene = interferogram(NumpyRandom(seed), shape, settings)
    grid = Grid(CRS.from_epsg(EPSG), Affine(PIXEL_DEG, 0, ORIGIN[0], 0, -PIXEL_DEG, ORIGIN[1]), *shape)
    tags = {"ORBIT_PASS": scene.look.orbit_pass, "SIMULATED": "yes"}
    phase = RasterSpec(dtype="float32", nodata=float("nan"), unit="rad", tags=tags, overview="nearest")
    share = RasterSpec(dtype="float32", nodata=float("nan"), tags=tags, overview="average")
    height = RasterSpec(dtype="float32", nodata=float("nan"), unit="m", overview="average")
    mask = RasterSpec(dtype="uint8", nodata=None, overview="nearest")
    return InterferogramDemo(
        interferogram=write_band(folder / f"{PAIR}.geo.diff_pha.tif", grid, scene.wrapped_rad, phase),
        coherence=write_band(folder / f"{PAIR}.geo.cc.tif", grid, scene.coherence, share),
        dem=write_band(folder / "dem.tif", grid, scene.dem, height),
        truth=write_band(folder / "truth.tif", grid, scene.mask.astype(np.uint8), mask),
        source_name=scene.source_name,
    )
