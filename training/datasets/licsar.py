"""LiCSAR products (Lazecky et al. 2020, Remote Sensing): GeoTIFFs of a frame, and unwrapped time series as npz.

Phase is positive where the range grew; the metres of a series are positive toward the satellite (`tocsin.phase`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from tocsin.errors import GridMismatchError, TruncatedError, UsageError, WrongDatesError, WrongUnitsError
from tocsin.grid import Grid, Window
from tocsin.interferograms import Taken
from tocsin.phase import of_motion, wrap
from tocsin.raster import open_raster
from tocsin.raster.phase_files import FRAME, PAIR, PHASE_SLACK, SUFFIX, coherence_scale

LEAST_EPOCHS: Final = 3


@dataclass(frozen=True)
class FrameInterferogram:
    """One interferogram of a frame.

    Attributes
    ----------
    taken
        Frame and days.
    grid
        Where the pixels lie.
    phase
        float32 [row, col], rad, (-pi, pi], NaN where missing: of ``geo.diff_pha``, else ``geo.unw`` wrapped.
    unwrapped
        float32 [row, col], rad, positive where the range grew, NaN where missing; None without ``geo.unw``.
    coherence
        float32 [row, col], 0..1, NaN where missing; None without ``geo.cc``.
    """

    taken: Taken
    grid: Grid
    phase: NDArray[np.float32]
    unwrapped: NDArray[np.float32] | None
    coherence: NDArray[np.float32] | None


class LicsarFrame:
    """The interferograms of a frame's folder, found by file name at any depth.

    Raises
    ------
    UsageError
        When no ``DAY_DAY.geo.diff_pha.tif`` or ``DAY_DAY.geo.unw.tif`` is there.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        found = FRAME.findall(str(self.folder.absolute()))
        self.frame = found[-1] if found else ""
        self._files: dict[str, dict[str, Path]] = {}
        for kind, suffix in SUFFIX.items():
            for path in sorted(self.folder.rglob(f"*{suffix}")):
                pair = PAIR.search(path.name.removesuffix(suffix))
                if pair:
                    self._files.setdefault(pair[0], {})[kind] = path
        if not self.pairs():
            raise UsageError(
                given=f"{self.folder}, which holds no interferogram",
                expected="files named DAY_DAY.geo.diff_pha.tif or DAY_DAY.geo.unw.tif",
                todo="pass the folder of a LiCSAR frame",
            )

    def pairs(self) -> tuple[str, ...]:
        """Return the interferograms as YYYYMMDD_YYYYMMDD, sorted."""
        return tuple(sorted(pair for pair, files in self._files.items() if {"wrapped", "unwrapped"} & set(files)))

    def read(self, pair: str) -> FrameInterferogram:
        """Read one interferogram with what lies beside it.

        A stored 0 is missing in phase, declared or not: LiCSAR writes it where nothing was measured.

        Raises
        ------
        GridMismatchError
            When its files are not on one grid.
        WrongUnitsError
            When wrapped phase exceeds pi, or coherence is neither 0..1 nor 0..255.
        """
        files = self._files.get(pair, {})
        if not {"wrapped", "unwrapped"} & set(files):
            raise UsageError(given=f"{pair}", expected=f"one of {len(self.pairs())} pairs", todo="ask pairs() for them")
        layers, grids = {}, {}
        for kind, path in files.items():
            with open_raster(path) as raster:
                grids[kind] = raster.grid
                layers[kind] = raster.read(Window(0, 0, raster.grid.height, raster.grid.width))[0]
            if kind != "coherence":
                layers[kind][layers[kind] == 0] = np.nan
        grid = next(iter(grids.values()))
        if any(other != grid for other in grids.values()):
            raise GridMismatchError(
                given=f"{pair} with grids {sorted({other.shape for other in grids.values()})}",
                expected="wrapped, unwrapped and coherence on one grid",
                todo="download the pair's files again",
            )
        phase = _checked(layers["wrapped"], files["wrapped"]) if "wrapped" in layers else layers["unwrapped"]
        coherence = None
        if "coherence" in layers:
            scale = coherence_scale(str(files["coherence"]), layers["coherence"])
            coherence = layers["coherence"] / np.float32(scale)
        start, end = _days(pair)
        taken = Taken(frame=self.frame, start=start, end=end)
        return FrameInterferogram(taken, grid, wrap(phase), layers.get("unwrapped"), coherence)

    def interferograms(self) -> Iterator[FrameInterferogram]:
        """Read all interferograms, in the order of their days."""
        for pair in self.pairs():
            yield self.read(pair)


def _days(pair: str) -> tuple[date, date]:
    """Return both days of a pair."""
    try:
        start, end = (date.fromisoformat(f"{day[:4]}-{day[4:6]}-{day[6:]}") for day in pair.split("_"))
    except ValueError as error:
        raise WrongDatesError(given=pair, expected="two days YYYYMMDD_YYYYMMDD", todo="mend the file's name") from error
    if start >= end:
        raise WrongDatesError(given=pair, expected="the earlier day first", todo="mend the file's name")
    return start, end


def _checked(phase: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
    """Return wrapped phase when it is that."""
    largest = float(np.nanmax(np.abs(phase), initial=0))
    if largest > np.pi + PHASE_SLACK:
        raise WrongUnitsError(
            given=f"{path} with phase up to {largest:.1f} rad",
            expected="wrapped phase, -pi to pi",
            todo="name unwrapped phase DAY_DAY.geo.unw.tif",
        )
    return phase


@dataclass(frozen=True)
class LicsarSeries:
    """Line-of-sight motion over time; all metres are positive toward the satellite.

    Attributes
    ----------
    increments_m
        float32 [epoch, row, col], motion since the epoch before, NaN where missing. That of the first epoch is relative
        to an acquisition whose day the file does not tell.
    cumulative_m
        float32 [epoch, row, col], their sum up to each epoch.
    dates
        Day of each epoch, ascending.
    lats, lons
        float64 [row], [col], degrees, centres of pixels.
    dem_m
        float32 [row, col], height, NaN where missing.
    """

    increments_m: NDArray[np.float32]
    cumulative_m: NDArray[np.float32]
    dates: tuple[date, ...]
    lats: NDArray[np.float64]
    lons: NDArray[np.float64]
    dem_m: NDArray[np.float32]

    def phase(self, epoch: int) -> NDArray[np.float32]:
        """Return the wrapped phase of one increment: float32 [row, col], rad, positive where the range grew."""
        return of_motion(self.increments_m[epoch])

    def pair_phase(self, first: int, second: int) -> NDArray[np.float32]:
        """Return the wrapped phase between two epochs: float32 [row, col], rad, positive where the range grew."""
        return of_motion(self.cumulative_m[second] - self.cumulative_m[first])


def read_series(path: str | Path) -> LicsarSeries:
    """Read a time series: ``inc``, ``cml`` [epoch, row, col] in m, ``dates``, ``lats``, ``lons``, ``dem``.

    Raises
    ------
    UsageError
        When there is no such file, or arrays are missing or of other shapes.
    TruncatedError
        When it is damaged.
    WrongDatesError
        When dates are no days, do not ascend or are fewer than three.
    """
    names = ("inc", "cml", "dates", "lats", "lons", "dem")
    try:
        # numpy leaves a damaged archive open when it opens it itself.
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in names if name in file.files}
    except (BadZipFile, EOFError) as error:
        raise TruncatedError(given=f"{path} ({error})", expected="a whole npz file", todo="copy it again") from error
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(given=f"{path} ({error})", expected="a series as npz", todo="pass its path") from error
    epochs = arrays["inc"].shape[0] if "inc" in arrays and arrays["inc"].ndim == 3 else 0
    rows, cols = arrays["inc"].shape[1:] if epochs else (0, 0)
    shapes = ((epochs, rows, cols), (epochs, rows, cols), (epochs,), (rows,), (cols,), (rows, cols))
    found = {name: array.shape for name, array in arrays.items()}
    if not epochs or found != dict(zip(names, shapes, strict=True)):
        raise UsageError(
            given=f"{path} with {found}",
            expected="inc and cml [epoch, row, col], dates [epoch], lats [row], lons [col], dem [row, col]",
            todo="write the series in this form",
        )
    inc, cml, dem = (arrays[name].astype(np.float32) for name in ("inc", "cml", "dem"))
    dates = _ascending(arrays["dates"], path)
    return LicsarSeries(inc, cml, dates, arrays["lats"].astype(float), arrays["lons"].astype(float), dem)


def _ascending(texts: NDArray[np.str_], path: str | Path) -> tuple[date, ...]:
    """Return the days of a series when they are days, in order and enough."""
    try:
        days = tuple(date.fromisoformat(str(text)) for text in texts)
    except ValueError as error:
        raise WrongDatesError(given=f"{path} ({error})", expected="dates YYYY-MM-DD", todo="mend dates") from error
    if len(days) < LEAST_EPOCHS or any(later <= earlier for earlier, later in pairwise(days)):
        raise WrongDatesError(
            given=f"{path} with {len(days)} epochs",
            expected=f"at least {LEAST_EPOCHS} epochs in ascending order",
            todo="pass a longer series, sorted",
        )
    return days
