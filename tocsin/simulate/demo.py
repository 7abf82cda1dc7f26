"""The files of a simulated flood, as an ops room would receive them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from tocsin.grid import Grid
from tocsin.raster import RasterSpec, RasterWriter
from tocsin.simulate.fields import NumpyRandom
from tocsin.simulate.flood import PIXEL_M, FloodSettings, SimulatedFlood, flood_scene

SEED: Final = 37
SHAPE: Final = (1024, 1536)
SETTINGS: Final = FloodSettings(water_share=0.15, relief_m=25.0, swath_edge_share=1.0, vegetated_share=0.0)
# Made-up passes of a twelve-day repeat, over the plain of the lower Ebro, where such floods happen.
POST_TIME: Final = "2026-10-14T06:03:21Z"
PRE_TIME: Final = "2026-10-02T06:03:21Z"
ORIGIN: Final = (698_000.0, 4_640_000.0)
EPSG: Final = 32630


@dataclass(frozen=True)
class FloodDemo:
    """Where the files of a simulated flood are.

    Attributes
    ----------
    post, pre
        Folders of one acquisition each, VV and VH as separate GeoTIFFs, dB.
    dem
        Terrain height, m.
    reference_water
        1 where water is permanent, 0 elsewhere.
    truth
        1 where there is water during the flood, permanent water included; 0 elsewhere; known beyond the swath edge too.
    orbit_pass, incidence_deg
        Viewing geometry of both acquisitions.
    """

    post: Path
    pre: Path
    dem: Path
    reference_water: Path
    truth: Path
    orbit_pass: Literal["ascending", "descending"]
    incidence_deg: float


def write_flood_scene(
    folder: Path, shape: tuple[int, int] = SHAPE, seed: int = SEED, settings: FloodSettings = SETTINGS
) -> FloodDemo:
    """Simulate a flood and write it as GeoTIFFs.

    Parameters
    ----------
    folder
        Made when missing; files of an earlier demo in it are replaced.
    shape
        (rows, cols) in pixels of 10 m.
    seed, settings
        What is simulated.
    """
    scene = flood_scene(NumpyRandom(seed), shape, settings)
    grid = Grid(CRS.from_epsg(EPSG), Affine(PIXEL_M, 0, ORIGIN[0], 0, -PIXEL_M, ORIGIN[1]), *shape)
    post = write_acquisition(folder / "flood_post", grid, scene.post_db, _tags(scene, POST_TIME))
    assert scene.pre_db is not None, "the demo's settings ask for a pre-event acquisition"
    pre = write_acquisition(folder / "flood_pre", grid, scene.pre_db, _tags(scene, PRE_TIME))
    height = RasterSpec(dtype="float32", nodata=float("nan"), unit="m", overview="average")
    mask = RasterSpec(dtype="uint8", nodata=None, overview="nearest")
    return FloodDemo(
        post=post,
        pre=pre,
        dem=write_band(folder / "dem.tif", grid, scene.dem, height),
        reference_water=write_band(folder / "reference_water.tif", grid, scene.permanent.astype(np.uint8), mask),
        truth=write_band(folder / "truth.tif", grid, scene.water.astype(np.uint8), mask),
        orbit_pass=scene.orbit_pass,
        incidence_deg=round(scene.incidence_deg, 2),
    )


def _tags(scene: SimulatedFlood, time: str) -> dict[str, str]:
    """Return the tags that say when and how an acquisition was made."""
    return {
        "ACQUISITION_DATETIME": time,
        "ORBIT_PASS": scene.orbit_pass,
        "INCIDENCE_ANGLE": f"{scene.incidence_deg:.2f}",
        "SIMULATED": "yes",
    }


def write_acquisition(folder: Path, grid: Grid, bands_db: NDArray[np.float32], tags: dict[str, str]) -> Path:
    """Write VV and VH of one acquisition, [2, H, W] dB, as files of their own."""
    for band, polarisation in zip(bands_db, ("VV", "VH"), strict=True):
        spec = RasterSpec(
            dtype="float32", nodata=float("nan"), unit="dB", description=polarisation, tags=tags, overview="average"
        )
        write_band(folder / f"{folder.name}_{polarisation}.tif", grid, band, spec)
    return folder


def write_band(path: Path, grid: Grid, array: NDArray[Any], spec: RasterSpec) -> Path:
    """Write one band whole.

    Parameters
    ----------
    path
        File to write; its folder is made when missing.
    grid
        Where the pixels lie.
    array
        [H, W], of any type that casts to the spec's.
    spec
        Type, no data and tags.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with RasterWriter(path, grid, spec) as writer:
        writer.write_rows(0, array.astype(spec.dtype))
        writer.commit()
    return path
