"""The files of simulated landslides, as a mapping desk would receive them: two acquisitions on each side, and a DEM."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from tocsin.grid import Grid
from tocsin.raster import RasterSpec
from tocsin.simulate.demo import write_acquisition, write_band
from tocsin.simulate.fields import NumpyRandom
from tocsin.simulate.landslide import landslide_pair
from tocsin.simulate.landslide_settings import LandslideSettings

SEED: Final = 11
SHAPE: Final = (320, 320)
SETTINGS: Final = LandslideSettings(
    landslide_share=1.0,
    density_per_km2=(10.0, 30.0),
    clustering=5.0,
    large_share=1.0,
    large_m2=(3e4, 6e4),
    acquisitions=(2, 2),
    mean_slope_deg=(20.0, 28.0),
    masked_share=1.0,
    swath_edge_share=0.0,
    coarse_share=0.0,
)
# Made-up passes of a twelve-day repeat, over the mountains of Puerto Rico, where Hurricane Maria set off thousands.
PRE_TIMES: Final = ("2026-09-02T10:22:31Z", "2026-09-14T10:22:31Z")
POST_TIMES: Final = ("2026-09-26T10:22:31Z", "2026-10-08T10:22:31Z")
ORIGIN: Final = (740_000.0, 2_020_000.0)
EPSG: Final = 32619


@dataclass(frozen=True)
class LandslideDemo:
    """Where the files of simulated landslides are.

    Attributes
    ----------
    pre, post
        Folders of one acquisition each, VV and VH as separate GeoTIFFs, dB.
    dem
        Terrain height, m.
    truth
        1 where a pixel slid, 0 elsewhere; known also where nothing was observed.
    heads
        [n, 2] row and column of the pixel that holds the highest point of each landslide.
    orbit_pass, incidence_deg
        Viewing geometry of all acquisitions.
    """

    pre: tuple[Path, ...]
    post: tuple[Path, ...]
    dem: Path
    truth: Path
    heads: NDArray[np.int64]
    orbit_pass: Literal["ascending", "descending"]
    incidence_deg: float


def write_landslides(
    folder: Path, shape: tuple[int, int] = SHAPE, seed: int = SEED, settings: LandslideSettings = SETTINGS
) -> LandslideDemo:
    """Simulate landslides and write them as GeoTIFFs.

    Parameters
    ----------
    folder
        Made when missing; files of an earlier demo in it are replaced.
    shape
        (rows, cols) in pixels of 10 m.
    seed, settings
        What is simulated.
    """
    scene = landslide_pair(NumpyRandom(seed), shape, settings)
    grid = Grid(CRS.from_epsg(EPSG), Affine(settings.pixel_m, 0, ORIGIN[0], 0, -settings.pixel_m, ORIGIN[1]), *shape)
    geometry = {"ORBIT_PASS": scene.look.orbit_pass, "INCIDENCE_ANGLE": f"{scene.look.incidence_deg:.2f}"}
    sides = []
    for name, bands, times in (("pre", scene.pre_db, PRE_TIMES), ("post", scene.post_db, POST_TIMES)):
        tagged = [geometry | {"ACQUISITION_DATETIME": time, "SIMULATED": "yes"} for time in times[: len(bands)]]
        sides.append(
            tuple(
                write_acquisition(folder / f"landslide_{name}{number}", grid, np.asarray(image), tags)
                for number, (image, tags) in enumerate(zip(bands, tagged, strict=True), 1)
            )
        )
    height = RasterSpec(dtype="float32", nodata=float("nan"), unit="m", overview="average")
    mask = RasterSpec(dtype="uint8", nodata=None, overview="nearest")
    return LandslideDemo(
        pre=sides[0],
        post=sides[1],
        dem=write_band(folder / "dem.tif", grid, np.asarray(scene.dem), height),
        truth=write_band(folder / "truth.tif", grid, np.asarray(scene.mask).astype(np.uint8), mask),
        heads=np.floor(np.asarray(scene.heads)).astype(np.int64),
        orbit_pass=scene.look.orbit_pass,
        incidence_deg=round(scene.look.incidence_deg, 2),
    )
