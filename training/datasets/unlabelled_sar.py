"""Unlabelled backscatter, and what lies beside it: Sen1Floods11, OPERA RTC, TerraMesh sites, simulated floods.

Each reader yields `UnlabelledChip`; the labelled readers of the same data sets find and check the files.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tocsin.errors import UsageError, WrongBandsError
from tocsin.raster import open_raster
from tocsin.simulate import FloodSettings, NumpyRandom, flood_scene
from training.bands import S2
from training.datasets.opera_rtc import OperaRtc
from training.datasets.sen1floods11 import S2_BANDS, S2_SCALE, Sen1Floods11, event_of
from training.datasets.terramesh import TerraMeshSites
from training.datasets.unlabelled import UnlabelledChip

Layers = Mapping[str, NDArray[np.float32]]

L2A: Final = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
"""Bands of a TerraMesh S2L2A file, in order."""


def sen1floods11(folder: Path) -> Iterator[UnlabelledChip]:
    """Yield every chip of S1Hand, with its optical acquisition where there is one; labels are not read.

    Sentinel-2 is L1C there: reflectance at the top of the atmosphere.
    """
    data = Sen1Floods11(folder)
    for name in data.names():
        with open_raster(data.hand / "S1Hand" / f"{name}_S1Hand.tif") as raster:
            s1_db = raster.read(raster.grid.window)
        layers = {"VV": s1_db[0], "VH": s1_db[1]}
        if (data.hand / "S2Hand" / f"{name}_S2Hand.tif").is_file():
            layers |= dict(zip((_two_digits(band) for band in S2_BANDS), data.read_s2(name), strict=True))
        yield UnlabelledChip(name, event_of(name), layers)


def opera_rtc(folder: Path) -> Iterator[UnlabelledChip]:
    """Yield every acquisition of every series, in dB, the one before it as a second date: VV_before and VH_before."""
    for series in OperaRtc(folder).series:
        before: NDArray[np.float32] | None = None
        for number, s1_db in enumerate(series.read()):
            layers = {"VV": s1_db[0], "VH": s1_db[1]}
            if before is not None:
                layers |= {"VV_before": before[0], "VH_before": before[1]}
            yield UnlabelledChip(f"{series.burst}_{series.variant}_{number}", series.burst, layers)
            before = s1_db


def terramesh(folder: Path) -> Iterator[UnlabelledChip]:
    """Yield every site: Sentinel-1 RTC, Sentinel-2 L2A and height, those that are there."""
    sites = TerraMeshSites(folder)
    for path in sorted((sites.folder / "S1RTC").glob("*.tif")):
        with open_raster(path) as raster:
            s1_db = raster.read(raster.grid.window)
        layers = {"VV": s1_db[0], "VH": s1_db[1]}
        optical, dem = (sites.folder / part / path.name for part in ("S2L2A", "DEM"))
        if optical.is_file():
            layers |= _l2a(optical)
        if dem.is_file():
            with open_raster(dem) as raster:
                layers["height"] = raster.read(raster.grid.window)[0]
        yield UnlabelledChip(path.stem, path.stem, layers)


def simulated_floods(count: int, size_px: int, first_seed: int) -> Iterator[UnlabelledChip]:
    """Yield simulated scenes with both dates and heights: sample i is the scene of seed ``first_seed + i``."""
    for seed in range(first_seed, first_seed + count):
        scene = flood_scene(NumpyRandom(seed), (size_px, size_px), FloodSettings(pre_event=True))
        post, dem = np.asarray(scene.post_db, np.float32), np.asarray(scene.dem, np.float32)
        before = np.full_like(post, np.nan) if scene.pre_db is None else np.asarray(scene.pre_db, np.float32)
        layers = {"VV": post[0], "VH": post[1], "VV_before": before[0], "VH_before": before[1], "height": dem}
        yield UnlabelledChip(f"simulated_{seed}", f"simulated_{seed}", layers)


def _two_digits(name: str) -> str:
    return name if name in S2 else f"B0{name[1:]}"


def _l2a(path: Path) -> Layers:
    """Return the reflectance of a TerraMesh site; its numbers go down to 1: the offset of 1000 is taken off already."""
    with open_raster(path) as raster:
        if raster.count != len(L2A):
            raise WrongBandsError(f"{path} with {raster.count} bands", ", ".join(L2A), "check the file")
        stored = raster.read(raster.grid.window)
    missing = (stored == 0).all(axis=0)
    reflectance = np.where(missing, np.nan, stored * S2_SCALE).astype(np.float32)
    return dict(zip(L2A, reflectance, strict=True))


def read_band(path: Path) -> NDArray[np.float32]:
    """Return the only band of a file, [row, col].

    Raises
    ------
    UsageError
        When there are several.
    """
    with open_raster(path) as raster:
        if raster.count != 1:
            raise UsageError(f"{path} with {raster.count} bands", "one band a file", "check the data set")
        values: NDArray[np.float32] = raster.read(raster.grid.window)[0]
    return values
