"""LiCSAR products (Lazecky et al. 2020, Remote Sensing): the GeoTIFFs of a frame.

Phase is positive where the range grew. Time series as npz are read by `tocsin.series`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tocsin.errors import GridMismatchError, UsageError, WrongDatesError, WrongUnitsError
from tocsin.grid import Grid, Window
from tocsin.interferograms import Taken
from tocsin.phase import wrap
from tocsin.raster import open_raster
from tocsin.raster.phase_files import FRAME, PAIR, PHASE_SLACK, SUFFIX, coherence_scale


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
