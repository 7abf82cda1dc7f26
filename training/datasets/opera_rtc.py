"""Series of OPERA RTC-S1 bursts (NASA/JPL, Copernicus Sentinel-1): gamma0 in linear power, 30 m.

Files are found by their name at any depth::

    OPERA_L2_RTC-S1_{burst}_{acquired}Z_{processed}Z_{sensor}_30_v{version}_{VV|VH}[_{variant}].tif

A series is one burst in one variant (raw, cropped, despeckled): what is compared looks alike. It has no landslide
labels: its changes are speckle, rain, seasons and works, which is what a detector must not call a landslide.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tocsin.errors import GridMismatchError, UsageError, WrongDatesError
from tocsin.grid import Grid
from tocsin.raster import open_raster
from tocsin.raster.acquired import parse_time
from tocsin.raster.units import check_values, to_db

NAME: Final = re.compile(
    r"OPERA_L2_RTC-S1_(?P<burst>T\d{3}-\d{6}-IW\d)_(?P<acquired>\d{8}T\d{6})Z_(?P<processed>\d{8}T\d{6})Z"
    r"_(?P<sensor>S1[A-D])_30_v[\d.]+_(?P<polarisation>VV|VH)(?:_(?P<variant>\w+))?\.tif"
)
POLARISATIONS: Final = ("VV", "VH")

Split = tuple[tuple[int, ...], tuple[int, ...]]
"""Positions in a series of what comes before and of what comes after a moment."""


@dataclass(frozen=True)
class BurstFiles:
    """The files of one acquisition.

    Attributes
    ----------
    acquired
        UTC.
    sensor
        S1A to S1D.
    files
        By polarisation; one of both may be missing.
    """

    acquired: datetime
    sensor: str
    files: dict[str, Path]

    @property
    def href(self) -> str:
        """What a scoring takes: both files, or the folder's only one."""
        return ";".join(str(self.files[name]) for name in POLARISATIONS if name in self.files)


@dataclass(frozen=True)
class BurstSeries:
    """One burst over time.

    Attributes
    ----------
    burst
        Track, burst and subswath, such as T137-292319-IW2.
    variant
        What follows the polarisation in the names, such as ``tv_cropped``; empty for files as delivered.
    acquisitions
        In the order of time; of one that was processed twice, the later processing.
    """

    burst: str
    variant: str
    acquisitions: tuple[BurstFiles, ...]

    def grid(self) -> Grid:
        """Return the grid of the first acquisition."""
        with open_raster(next(iter(self.acquisitions[0].files.values()))) as raster:
            return raster.grid

    def read(self) -> NDArray[np.float32]:
        """Read all acquisitions.

        Returns
        -------
        numpy.ndarray
            float32 [time, 2, row, col]: VV and VH in dB; NaN where nothing was measured, and where a polarisation has
            no file.

        Raises
        ------
        GridMismatchError
            When a file lies on another grid than the first.
        WrongUnitsError
            When a file does not hold linear power.
        """
        grid = self.grid()
        out = np.full((len(self.acquisitions), len(POLARISATIONS), *grid.shape), np.nan, dtype=np.float32)
        for values, acquisition in zip(out, self.acquisitions, strict=True):
            for polarisation, path in acquisition.files.items():
                values[POLARISATIONS.index(polarisation)] = _read_db(path, grid)
        return out

    def runs(self, before: int = 3, after: int = 3) -> Iterator[Split]:
        """Yield every moment between two acquisitions with the closest ones on both sides."""
        for moment in range(before, len(self.acquisitions) - after + 1):
            yield tuple(range(moment - before, moment)), tuple(range(moment, moment + after))

    def combinations(self, before: int = 3, after: int = 3) -> Iterator[Split]:
        """Yield every choice of acquisitions of which the first ones are before and the others after, in order."""
        for chosen in combinations(range(len(self.acquisitions)), before + after):
            yield chosen[:before], chosen[before:]


class OperaRtc:
    """The series below a folder.

    Parameters
    ----------
    folder
        Holds files by the names of the product, at any depth.

    Raises
    ------
    UsageError
        When there is none.
    WrongDatesError
        When a name holds an impossible time.
    """

    def __init__(self, folder: str | Path) -> None:
        found: dict[tuple[str, str], dict[datetime, _Newest]] = {}
        for path in sorted(Path(folder).rglob("OPERA_L2_RTC-S1_*.tif")):
            match = NAME.fullmatch(path.name)
            if match:
                series = found.setdefault((match["burst"], match["variant"] or ""), {})
                series.setdefault(_time(match["acquired"], path), _Newest(match["sensor"], {})).add(match, path)
        if not found:
            raise UsageError(
                f"{folder}, which holds no burst",
                "files named OPERA_L2_RTC-S1_BURST_TIMEZ_TIMEZ_SENSOR_30_vVERSION_VV.tif",
                "pass the folder of the downloaded bursts",
            )
        self.series: tuple[BurstSeries, ...] = tuple(
            BurstSeries(
                burst, variant, tuple(each.files_at(time) for time, each in sorted(found[burst, variant].items()))
            )
            for burst, variant in sorted(found)
        )

    def one(self, burst: str, variant: str = "") -> BurstSeries:
        """Return the series of a burst.

        Raises
        ------
        UsageError
            When it is not there.
        """
        for series in self.series:
            if (series.burst, series.variant) == (burst, variant):
                return series
        there = ", ".join(f"{series.burst} {series.variant!r}" for series in self.series)
        raise UsageError(f"burst {burst} in variant {variant!r}", f"one of {there}", "ask `series` for them")


@dataclass(frozen=True)
class _Newest:
    """The files of one acquisition while they are found: of each polarisation the latest processing."""

    sensor: str
    paths: dict[str, tuple[str, Path]]

    def add(self, match: re.Match[str], path: Path) -> None:
        """Keep a file unless a later processing is there."""
        polarisation, processed = match["polarisation"], match["processed"]
        if processed >= self.paths.get(polarisation, ("", path))[0]:
            self.paths[polarisation] = processed, path

    def files_at(self, time: datetime) -> BurstFiles:
        """Return what was kept."""
        return BurstFiles(time, self.sensor, {name: path for name, (_, path) in sorted(self.paths.items())})


def _time(text: str, path: Path) -> datetime:
    time = parse_time(text)
    if time is None:
        raise WrongDatesError(path.name, "a time YYYYMMDDThhmmss", "mend the file's name")
    return time


def _read_db(path: Path, grid: Grid) -> NDArray[np.float32]:
    with open_raster(path) as raster:
        if raster.grid != grid:
            raise GridMismatchError(
                f"{path} on {raster.grid.shape} px from {raster.grid.bounds}",
                f"the grid of the series, {grid.shape} px from {grid.bounds}",
                "crop all files of a series alike",
            )
        stored = raster.read(grid.window, (0,))[0]
    check_values(str(path), stored, "linear")
    return to_db(stored, "linear")
