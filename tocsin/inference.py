"""The three stages of a scoring: cut chips from sources, run them, turn their results into strips of the scene.

Arrays are (band, row, col) float32, NaN = no data. Every pixel of a source is read once: windows are cut from rows that
slide down the scene, so that strip-layout and tiled files cost the same, and memory is width x chip.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from tocsin.chips import (
    PROBABILITY_NODATA,
    ChipPlan,
    FloatArray,
    Mosaic,
    QuantisedArray,
    Strip,
    dequantise,
    quantise,
)
from tocsin.errors import StorageFullError
from tocsin.grid import Grid, Window
from tocsin.raster import Source
from tocsin.runtimes import Runtime

PIECE_PX = 1 << 20
"""Pixels worked on at a time: bounds what every stage needs beside the rows themselves."""
BRIDGED_PX = 1 << 23
"""Rows of more pixels than this are read in one piece (64 MB for two float32 bands): a file in strips is decoded anew
for every piece that the cache of GDAL does not bridge."""
FIRST_COLUMNS = 1024
"""Columns read at a time at the top of the scene, so that the first chip need not wait for the whole width."""

OnRead = Callable[[Window, FloatArray], None]


@dataclass(frozen=True, slots=True)
class Chip:
    """A window and what was read there.

    Attributes
    ----------
    window : Window
        One of the plan's.
    images : tuple of (numpy.ndarray or None)
        Per acquisition float32 [band, chip, chip] in raw units, NaN = no data; None = nothing to run.
    """

    window: Window
    images: tuple[FloatArray | None, ...]


ChipResult = tuple[Window, FloatArray | None]
"""A window and its result, float32 [acquisition, chip, chip]; None where nothing was run."""


class SlidingRows:
    """The rows of one source under the current row of windows; each row is read once.

    Parameters
    ----------
    source : Source
        Read from the top down.
    windows : ChipPlan
        Windows over the source's grid.
    on_read : callable
        Told of every piece that is read, in the thread that reads.
    """

    def __init__(self, source: Source, windows: ChipPlan, on_read: OnRead | None = None) -> None:
        self._source = source
        self._plan = windows
        self._on_read = on_read
        self._rows: FloatArray | None = None
        self._at = -1
        self._columns = 0

    def cut(self, window: Window) -> FloatArray | None:
        """Copy of `window`, float32 [band, chip, chip], NaN outside the scene; None when it holds no valid value."""
        row = window.row // self._plan.step
        while self._at < row:
            self._at += 1
            self._advance()
        self._read_to(min(window.col_stop, self._plan.width))
        assert self._rows is not None
        image = self._rows[:, :, window.col : window.col + window.width].copy()
        return None if np.isnan(image).all() else image

    def _advance(self) -> None:
        self._columns = 0
        if self._rows is not None:
            kept = self._plan.overlap
            self._rows[:, :kept] = self._rows[:, self._plan.step :]
            self._rows[:, kept:] = np.nan

    def _read_to(self, stop: int) -> None:
        """Read the new rows up to column `stop`."""
        start = self._at * self._plan.step
        kept = self._plan.overlap if self._at else 0
        height = min(start + self._plan.chip, self._plan.height) - start - kept
        columns = self._plan.width if height * self._plan.width > BRIDGED_PX else max(1, PIECE_PX // height)
        if self._at == 0:
            columns = FIRST_COLUMNS
        while self._columns < stop:
            piece = Window(start + kept, self._columns, height, min(columns, self._plan.width - self._columns))
            values = self._source.read(piece)
            if self._rows is None:
                self._rows = self._empty(values.shape[0])
            self._rows[:, kept : kept + height, piece.col : piece.col_stop] = values
            self._columns = piece.col_stop
            if self._on_read is not None:
                self._on_read(piece, values)

    def _empty(self, bands: int) -> FloatArray:
        width = (self._plan.cols - 1) * self._plan.step + self._plan.chip
        return np.full((bands, self._plan.chip, width), np.nan, dtype=np.float32)


def read_chips(rows: tuple[SlidingRows, ...], windows: ChipPlan, aoi: Source | None = None) -> Iterator[Chip]:
    """Read the chips of all windows in row-major order.

    Parameters
    ----------
    rows : tuple of SlidingRows
        The scene first, then other acquisitions on its grid; these are run only where the scene has a valid pixel.
    windows : ChipPlan
        Windows over the common grid.
    aoi : Source or None
        One band, above 0 in the area of interest; windows outside it are not run.

    Yields
    ------
    Chip
    """
    for window in windows:
        wanted = aoi is None or bool((aoi.read(window) > 0).any())
        images = tuple(source.cut(window) for source in rows)
        yield Chip(window, images if wanted and images[0] is not None else (None,) * len(rows))


def batches(chips: Iterable[Chip], size: int) -> Iterator[list[Chip]]:
    """Yield groups of chips that hold at least `size` images together; chips without images pass on their own."""
    group: list[Chip] = []
    images = 0
    for chip in chips:
        group.append(chip)
        images += sum(image is not None for image in chip.images)
        if images >= size or images == 0:
            yield group
            group, images = [], 0
    if group:
        yield group


@dataclass(slots=True)
class Inference:
    """Runs chips, and makes strips of what comes out.

    The two halves are for two threads: whoever runs the graph does nothing else.

    Attributes
    ----------
    runtime : Runtime
        Used from the calling thread only.
    windows : ChipPlan
        The plan whose windows come, in any order.
    acquisitions : int
        1, or 2 when a pre-event acquisition comes with every chip.
    input_name, output_name : str
        Tensors of the graph; the output is [batch, 1, chip, chip].
    batch : int
        Images a run.
    on_chip : callable
        Told of every window that is done.
    """

    runtime: Runtime
    windows: ChipPlan
    acquisitions: int
    input_name: str
    output_name: str
    batch: int = 1
    on_chip: Callable[[], None] = field(default=lambda: None)

    def strips(self, results: Iterable[ChipResult]) -> Iterator[Strip]:
        """Yield strips of quantised probability in ascending order, each as soon as its rows are complete."""
        mosaic = Mosaic(self.windows, self.acquisitions)
        for window, values in results:
            for row, rows in mosaic.add(window, values):
                step = max(1, PIECE_PX // rows.shape[2])
                for at in range(0, rows.shape[1], step):
                    post, *pre = (quantise(band[at : at + step]) for band in rows)
                    yield Strip(row + at, post, pre[0] if pre else None)

    def results(self, chips: Iterable[Chip]) -> Iterator[ChipResult]:
        """Run chips in batches; empty ones pass in their place."""
        for group in batches(chips, self.batch):
            yield from self._run(group)

    def _run(self, group: list[Chip]) -> Iterator[ChipResult]:
        images = [image for chip in group for image in chip.images if image is not None]
        results: list[FloatArray] = []
        for start in range(0, len(images), self.batch):
            several = images[start : start + self.batch]
            stacked = several[0][None] if len(several) == 1 else np.stack(several)
            results.extend(self.runtime.run({self.input_name: stacked})[self.output_name])
        following = iter(results)
        for chip in group:
            self.on_chip()
            if all(image is None for image in chip.images):
                yield chip.window, None
                continue
            size = (self.acquisitions, self.windows.chip, self.windows.chip)
            values = np.full(size, np.nan, dtype=np.float32)
            for band, image in enumerate(chip.images):
                if image is not None:
                    values[band] = next(following)[0]
            yield chip.window, values


class AsideProbability:
    """Quantised probability in a plain working file, written row by row, read back as a `Source`.

    Parameters
    ----------
    folder : pathlib.Path
        Where the working file lies; it is removed on `close`.
    grid : Grid
        The model's grid.
    """

    def __init__(self, folder: Path, grid: Grid) -> None:
        self.grid = grid
        handle, name = tempfile.mkstemp(prefix=".tocsin-", suffix=".part", dir=folder)
        self._path = Path(name)
        self._file = os.fdopen(handle, "wb")
        self._written = 0

    def append(self, rows: QuantisedArray) -> None:
        """Write the next rows, uint16 [height, width].

        Raises
        ------
        StorageFullError
            The disk is full.
        """
        try:
            self._file.write(np.ascontiguousarray(rows).data)
            self._file.flush()
            self._written += len(rows)
        except OSError as error:
            raise StorageFullError(
                f"a disk that took no more ({error.strerror})", f"room beside {self._path.parent}", "free some space"
            ) from error

    def read(self, window: Window) -> FloatArray:
        """Return probability in `window`, float32 [1, height, width], NaN = no data, outside or not written yet."""
        height, width = self._written, self.grid.width
        top, left = max(window.row, 0), max(window.col, 0)
        bottom, right = min(window.row + window.height, height), min(window.col + window.width, width)
        values = np.full((1, window.height, window.width), np.nan, dtype=np.float32)
        if top < bottom and left < right:
            stored = np.memmap(self._path, dtype=np.uint16, mode="r", shape=(height, width))
            part = dequantise(np.asarray(stored[top:bottom, left:right]))
            values[0, top - window.row : bottom - window.row, left - window.col : right - window.col] = part
        return values

    def close(self) -> None:
        """Remove the working file; calling it again does nothing."""
        with suppress(OSError):  # a full disk refuses the last bytes once more; the file goes anyway
            self._file.close()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        """Return the source."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Remove the working file."""
        self.close()


@dataclass(frozen=True, slots=True)
class ReturnToScene:
    """Brings strips on the model's grid back to the scene's own grid.

    Attributes
    ----------
    asides : tuple of AsideProbability
        One an acquisition, on the model's grid.
    aligned : tuple of Source
        The same, aligned onto the scene's grid.
    scene : Source
        The scene as it was read; where it has no valid value the result is no data.
    """

    asides: tuple[AsideProbability, ...]
    aligned: tuple[Source, ...]
    scene: Source

    def strips(self, strips: Iterable[Strip]) -> Iterator[Strip]:
        """Take every strip of the model's grid, then yield those of the scene's grid."""
        for strip in strips:
            self.asides[0].append(strip.probability)
            if strip.pre_probability is not None:
                self.asides[1].append(strip.pre_probability)
        height, width = self.scene.grid.shape
        step = max(1, PIECE_PX // width)
        for row in range(0, height, step):
            window = Window(row, 0, min(step, height - row), width)
            unseen = np.isnan(self.scene.read(window)).all(axis=0)
            stored = [quantise(source.read(window)[0]) for source in self.aligned]
            stored[0][unseen] = PROBABILITY_NODATA
            yield Strip(row, stored[0], stored[1] if len(stored) > 1 else None)
