"""An interferogram as a source of wrapped phase, its coherence, and coarser looks at it.

Whatever the file holds (wrapped or unwrapped phase, motion in metres), what is read is wrapped phase in rad, NaN where
missing. Phase is never resampled as a number: coarser pixels are means of unit vectors (`tocsin.phase.resample`).
"""

import math
from pathlib import Path

import numpy as np
from affine import Affine

from tocsin.errors import UsageError, WrongBandsError, WrongUnitsError
from tocsin.grid import Grid, Window
from tocsin.phase import of_motion, resample, wrap
from tocsin.raster.opening import Raster, open_raster
from tocsin.raster.phase_files import (
    PHASE_SLACK,
    AcquiredPair,
    PhaseKind,
    PhaseUnits,
    acquired_pair,
    check_name,
    check_phase,
    coherence_scale,
    kind_of,
    zero_is_missing,
)
from tocsin.raster.sampling import check_same_grid, sample_windows
from tocsin.raster.source import BandArray, ClosingSource, Limits, Source

LEAST_VALID = 0.5
"""Share of a coarser pixel that must be measured."""
# Source pixels averaged at a time: bounds the float64 layers of the mean to some 100 MB.
PIECE_PX = 2**21


class Interferogram(ClosingSource):
    """A `Source` of one band: wrapped phase, rad, (-pi, pi]. Made by `open_interferogram`.

    A stored 0 is missing in files named as LiCSAR names them, whether or not they declare it as nodata.

    Attributes
    ----------
    href
        What the caller passed.
    raster
        The file behind it, for provenance.
    grid
        Where the pixels lie.
    kind, units
        What the file holds.
    zeros
        Share of a sample whose stored value is exactly 0 although 0 is not declared as nodata, 0..1.
    """

    def __init__(self, raster: Raster, kind: PhaseKind, units: PhaseUnits) -> None:
        self.href = raster.href
        self.raster = raster
        self.kind = kind
        self.units = units
        self.grid: Grid = raster.grid
        self.zero_is_missing = zero_is_missing(raster.path.name)
        sample = [raster.read(window).ravel() for window in sample_windows(self.grid.shape, raster.block_shape)]
        together = np.concatenate(sample)
        self.zeros = float(np.mean(together == 0))
        self._judged = False
        self._judge(self._measured(together))

    @property
    def file(self) -> Raster:
        """The file behind it, for provenance."""
        return self.raster

    @property
    def scene_id(self) -> str:
        """Name of the scene, from the file's name."""
        return self.raster.path.stem

    @property
    def acquired(self) -> AcquiredPair:
        """When both acquisitions were made, as far as tags or name tell."""
        return acquired_pair(str(self.raster.path), self.raster.tags)

    def read(self, window: Window) -> BandArray:
        """Return the wrapped phase of a window.

        Returns
        -------
        ndarray
            float32 [1, row, col], rad, (-pi, pi], NaN where missing or outside the scene.

        Raises
        ------
        TruncatedError
            When the file's body is damaged.
        WrongUnitsError
            When values appear that contradict what was stated.
        """
        stored = self._measured(self.raster.read(window))
        self._judge(stored)
        return of_motion(stored) if self.units == "m" else wrap(stored)

    def close(self) -> None:
        """Release the file."""
        self.raster.close()

    def _measured(self, stored: BandArray) -> BandArray:
        return np.where(stored == 0, np.float32(np.nan), stored) if self.zero_is_missing else stored

    def _judge(self, stored: BandArray) -> None:
        # What lies out of reach is refused wherever it lies; metres are told from phase once.
        self._judged |= check_phase(self.href, stored, self.kind, self.units, by_size=not self._judged)


def open_interferogram(
    href: str | Path, kind: PhaseKind | None = None, units: PhaseUnits = "rad", limits: Limits | None = None
) -> Interferogram:
    """Open a georeferenced interferogram of one band.

    Parameters
    ----------
    href
        GeoTIFF of wrapped or unwrapped phase (LiCSAR, HyP3, PyRate, ...), or of motion.
    kind
        ``wrapped`` or ``unwrapped``; None: from the file's name or band description, else wrapped.
    units
        ``rad``, or ``m`` toward the satellite, which is always unwrapped.
    limits
        Largest raster accepted.

    Raises
    ------
    UsageError
        Wrapped phase in metres.
    WrongBandsError
        Not one band.
    WrongUnitsError
        Values that cannot be what was stated.
    TocsinError
        And whatever `open_raster` raises.
    """
    if units == "m" and kind == "wrapped":
        raise UsageError("--wrapped with --units m", "motion in metres, which is unwrapped", "leave out --wrapped")
    check_name(Path(str(href)).name, units)
    raster = open_raster(href, limits)
    try:
        _check_one_band(raster, "phase")
        found = kind or kind_of(raster.path.name, raster.descriptions) or "wrapped"
        return Interferogram(raster, "unwrapped" if units == "m" else found, units)
    except BaseException:
        raster.close()
        raise


def _check_one_band(raster: Raster, what: str) -> None:
    if raster.count != 1:
        raise WrongBandsError(
            f"{raster.href} with {raster.count} bands", f"one band of {what}", "extract that band (gdal_translate -b)"
        )


class Coherence(ClosingSource):
    """A `Source` of one band: coherence, 0..1. Made by `open_coherence`.

    Attributes
    ----------
    raster
        The file behind it, for provenance.
    grid
        Where the pixels lie.
    """

    def __init__(self, raster: Raster) -> None:
        self.raster = raster
        self.grid: Grid = raster.grid
        windows = sample_windows(self.grid.shape, raster.block_shape)
        sample = np.concatenate([raster.read(window).ravel() for window in windows])
        # Bytes can hold no coherence of 0..1 but 0 and 1.
        self._scale = max(coherence_scale(raster.href, sample), 255.0 if raster.integer else 1.0)

    def read(self, window: Window) -> BandArray:
        """Return coherence, float32 [1, row, col], 0..1, NaN where missing or outside.

        Raises
        ------
        WrongUnitsError
            When a value beyond 1 appears where the sample spoke for 0..1.
        """
        values = self.raster.read(window) / np.float32(self._scale)
        if float(np.nanmax(values, initial=0)) > 1 + PHASE_SLACK or float(np.nanmin(values, initial=0)) < 0:
            raise WrongUnitsError(
                f"{self.raster.href} with values beyond 0..{self._scale:g}, which a sample of it kept to",
                "coherence, 0..1 or 0..255",
                "pass the coherence of the same interferogram as its producer wrote it",
            )
        return values

    def close(self) -> None:
        """Release the file."""
        self.raster.close()


def open_coherence(href: str | Path, interferogram: Interferogram, limits: Limits | None = None) -> Coherence:
    """Open the coherence of an interferogram.

    Raises
    ------
    GridMismatchError
        It lies on another grid.
    WrongBandsError, WrongUnitsError
        Not one band, or values that are no coherence.
    TocsinError
        And whatever `open_raster` raises.
    """
    raster = open_raster(href, limits)
    try:
        _check_one_band(raster, "coherence")
        check_same_grid(interferogram.raster, raster, "interferogram and coherence")
        return Coherence(raster)
    except BaseException:
        raster.close()
        raise


class Coherent(ClosingSource):
    """Phase with NaN where coherence is low or unknown."""

    def __init__(self, phase: Source, coherence: Source, least: float) -> None:
        self.grid = phase.grid
        self._phase = phase
        self._coherence = coherence
        self._least = least

    def read(self, window: Window) -> BandArray:
        """Return wrapped phase, float32 [1, row, col], rad, NaN where missing or not coherent."""
        phase = self._phase.read(window)
        return np.where(self._coherence.read(window) >= self._least, phase, np.float32(np.nan))


class Incoherent(ClosingSource):
    """1 where there is phase and its coherence is low or unknown, else 0: float32 [1, row, col]."""

    def __init__(self, phase: Source, coherence: Source, least: float) -> None:
        self.grid = phase.grid
        self._phase = phase
        self._coherent = Coherent(phase, coherence, least)

    def read(self, window: Window) -> BandArray:
        """Return the mask of a window; 0 outside the scene."""
        there = np.isfinite(self._phase.read(window))
        return (there & ~np.isfinite(self._coherent.read(window))).astype(np.float32)


class Multilooked(ClosingSource):
    """Phase at a whole fraction of the resolution: each pixel the mean unit vector of `rows` x `cols` old ones.

    A pixel of which less than half was measured is NaN, what lies outside the old grid counting as not measured.

    Attributes
    ----------
    grid
        Same upper left corner, covering the old grid.
    factor
        Old pixels along rows and columns of a new one.
    """

    def __init__(self, source: Source, factor: tuple[int, int]) -> None:
        self.factor = factor
        self.grid = multilooked_grid(source.grid, factor)
        self._source = source

    def read(self, window: Window) -> BandArray:
        """Return wrapped phase, float32 [1, row, col], rad, NaN where missing or outside."""
        rows, cols = self.factor
        out = np.empty((1, *window.shape), dtype=np.float32)
        step = max(1, PIECE_PX // (rows * cols * max(1, window.width)))
        for at in range(0, window.height, step):
            height = min(step, window.height - at)
            old = Window((window.row + at) * rows, window.col * cols, height * rows, window.width * cols)
            phase = self._source.read(old)[0]
            out[0, at : at + height] = resample(phase, (rows, cols), (height, window.width), LEAST_VALID).phase
        return out


def multilooked_grid(grid: Grid, factor: tuple[int, int]) -> Grid:
    """Return a grid whose pixels are `factor` (rows, columns) of `grid`'s: same corner, covering it."""
    rows, cols = factor
    at = grid.transform
    coarser = Affine(at.a * cols, 0.0, at.c, 0.0, at.e * rows, at.f)
    return Grid(grid.crs, coarser, math.ceil(grid.height / rows), math.ceil(grid.width / cols))
