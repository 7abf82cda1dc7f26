"""Runs chips of a landslide scene: probability for each pixel, and what each chip answers for the cells under it.

The first windows begin one step before the scene and the last ones end one step after it, so that every cell, those at
the edge and in the corners too, lies in exactly four windows. Windows that began at the scene's corner would see the
cells there once and the next ones twice: a landslide in the corner would count as 0.56, one beside it as 1.56. What
lies outside is NaN, as everywhere.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from tocsin.chips import ChipPlan, FloatArray, Mosaic, Strip, plan, quantise
from tocsin.errors import ModelInvalidError
from tocsin.grid import Grid, Window
from tocsin.hazards.landslide import ACQUISITIONS, BANDS, CHIP, STEP
from tocsin.inference import PIECE_PX, Chip, batches
from tocsin.landslide_cells import ChipAnswers
from tocsin.landslide_scene import LandslideScene
from tocsin.manifest import Manifest
from tocsin.raster import Source
from tocsin.raster.source import ClosingSource
from tocsin.runtimes import Runtime

INPUTS: Final = ("pre", "post", "dem")
OUTPUTS: Final = ("density_class", "density", "mask")
_SIDE: Final = ACQUISITIONS * len(BANDS)
"""Layers of one side of the event in what is read of a window."""
_AHEAD_PX: Final = 3 << 19
"""Pixels that are read at once, 80 MB of layers: tiles of a file are higher than a step, and GDAL's cache does not hold
those of six acquisitions, so that every step would decode them anew."""
AHEAD_BYTES: Final = 4 * (2 * _SIDE + 1) * _AHEAD_PX
"""What they take."""

LandslideResult = tuple[Window, FloatArray | None]
"""A window and its mask, float32 [1, chip, chip]; None where nothing was run."""


def check_model(manifest: Manifest) -> None:
    """Refuse a model that is none of landslides.

    Raises
    ------
    ModelInvalidError
        It lacks an input or output, or its chip is not the one that makes the cells.
    """
    there = {spec.name for spec in (*manifest.inputs, *manifest.outputs)}
    missing = [name for name in (*INPUTS, *OUTPUTS) if name not in there]
    if missing or manifest.chip_px != CHIP:
        raise ModelInvalidError(
            f"model {manifest.name}, chip {manifest.chip_px} px, without {', '.join(missing) or 'nothing missing'}",
            f"inputs {', '.join(INPUTS)}, outputs {', '.join(OUTPUTS)}, chip {CHIP} px",
            "export it again, or name another --model-repository",
        )


def windows_of(grid: Grid) -> ChipPlan:
    """Plan the windows over a scene with a step around it."""
    return plan((grid.height + 2 * STEP, grid.width + 2 * STEP), CHIP, CHIP - STEP)


def on_scene(window: Window) -> Window:
    """Return a window of the plan in pixels of the scene."""
    return Window(window.row - STEP, window.col - STEP, window.height, window.width)


class Around(ClosingSource):
    """A source with a step of missing pixels around it, which the plan's windows refer to.

    Parameters
    ----------
    source
        What lies in the middle; who opened it closes it.
    """

    def __init__(self, source: Source) -> None:
        height, width = source.grid.shape
        self.grid = source.grid.crop(Window(-STEP, -STEP, height + 2 * STEP, width + 2 * STEP))
        self._source = source

    def read(self, window: Window) -> FloatArray:
        """Return a window of the plan, float32 [layer, height, width]."""
        return self._source.read(on_scene(window))


class Layers(ClosingSource):
    """All that the model reads of a scene as one source: `pre`, `post` and `dem`, one layer after the other.

    Parameters
    ----------
    scene
        Read on the model's grid; who opened it closes it.
    """

    def __init__(self, scene: LandslideScene) -> None:
        self.grid = scene.model_grid
        self._scene = scene

    def read(self, window: Window) -> FloatArray:
        """Return a window, float32 [layer, height, width]: dB and metres, NaN = missing or outside the scene."""
        read = self._scene.read(window)
        sides = [side.reshape(_SIDE, *window.shape) for side in (read.pre, read.post)]
        return np.concatenate([*sides, read.dem])


class Ahead(ClosingSource):
    """A source whose rows are read some steps at once and handed out as they are asked for, from the top down.

    Parameters
    ----------
    source
        Read in full rows; who opened it closes it.
    layers
        Of the source.
    """

    def __init__(self, source: Source, layers: int = 2 * _SIDE + 1) -> None:
        self.grid = source.grid
        self._source = source
        self._layers = layers
        self._rows = STEP * max(1, _AHEAD_PX // (STEP * source.grid.width))
        self._held = (-1, np.empty((layers, 0, 0), dtype=np.float32))

    def read(self, window: Window) -> FloatArray:
        """Return a window, float32 [layer, height, width], NaN outside."""
        out = np.full((self._layers, *window.shape), np.nan, dtype=np.float32)
        inside = window.intersection(self.grid.window)
        if inside is None:
            return out
        cols = slice(inside.col - window.col, inside.col_stop - window.col)
        for number in range(inside.row // self._rows, (inside.row_stop - 1) // self._rows + 1):
            held, start = self._piece(number), number * self._rows
            top, bottom = max(inside.row, start), min(inside.row_stop, start + self._rows)
            part = held[:, top - start : bottom - start, inside.col : inside.col_stop]
            out[:, top - window.row : bottom - window.row, cols] = part
        return out

    def _piece(self, number: int) -> FloatArray:
        if self._held[0] != number:
            start = number * self._rows
            piece = Window(start, 0, min(self._rows, self.grid.height - start), self.grid.width)
            self._held = number, self._source.read(piece)
        return self._held[1]


def post_vh(layers: FloatArray) -> FloatArray:
    """Mean VH of the acquisitions after the event, float32 [height, width], dB of the mean power; NaN where none is."""
    after_db = layers[_SIDE + BANDS.index("VH") : 2 * _SIDE : len(BANDS)]
    power = np.power(np.float32(10), after_db / 10, dtype=np.float32)
    known = np.isfinite(power)
    count = known.sum(axis=0)
    mean = np.full(count.shape, np.nan, dtype=np.float32)
    np.divide(np.where(known, power, np.float32(0)).sum(axis=0), count, out=mean, where=count > 0)
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(mean), dtype=np.float32)


def seen_on_both_sides(layers: FloatArray) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Whether a pixel has a value before and one after, bool [height, width]; layers float32 [layer, height, width]."""
    before, after = (np.isfinite(layers[start : start + _SIDE]).any(axis=0) for start in (0, _SIDE))
    return np.asarray(before & after)


@dataclass(slots=True)
class LandslideInference:
    """Runs chips, and makes strips of what comes out.

    The two halves are for two threads: whoever runs the graph does nothing else.

    Attributes
    ----------
    runtime : Runtime
        Used from the calling thread only.
    grid : Grid
        The model's grid, without the step around it.
    batch : int
        Chips a run.
    on_chip : callable
        Told of every window that is done.
    answers : ChipAnswers
        What chips answered for the cells; complete when all results were drawn.
    """

    runtime: Runtime
    grid: Grid
    batch: int = 1
    on_chip: Callable[[], None] = field(default=lambda: None)
    windows: ChipPlan = field(init=False)
    answers: ChipAnswers = field(init=False)

    def __post_init__(self) -> None:
        """Plan the windows."""
        self.windows = windows_of(self.grid)
        self.answers = ChipAnswers(self.windows.rows, self.windows.cols)

    def strips(self, results: Iterable[LandslideResult]) -> Iterator[Strip]:
        """Yield strips of the quantised mask in ascending order, each as soon as its rows are complete."""
        mosaic = Mosaic(self.windows)
        height, width = self.grid.shape
        piece = max(1, PIECE_PX // width)
        for window, values in results:
            for first, rows in mosaic.add(window, values):
                inside = rows[0, max(0, STEP - first) : max(0, height + STEP - first), STEP : STEP + width]
                top = max(0, first - STEP)
                for at in range(0, len(inside), piece):
                    yield Strip(top + at, quantise(inside[at : at + piece]))

    def results(self, chips: Iterable[Chip]) -> Iterator[LandslideResult]:
        """Run chips in batches; those without a pixel that was seen on both sides pass in their place."""
        for group in batches(map(_worth_running, chips), self.batch):
            yield from self._run(group)

    def _run(self, group: list[Chip]) -> Iterator[LandslideResult]:
        images = [chip.images[0] for chip in group if chip.images[0] is not None]
        answered: list[tuple[FloatArray, ...]] = []
        for start in range(0, len(images), self.batch):
            answer = self.runtime.run(_inputs(np.stack(images[start : start + self.batch])))
            answered.extend(zip(*(answer[name] for name in OUTPUTS), strict=True))
        following = iter(answered)
        for chip in group:
            self.on_chip()
            image = chip.images[0]
            if image is None:
                yield chip.window, None
                continue
            density_class, density, mask = next(following)
            seen = seen_on_both_sides(image)
            place = divmod(self.windows.number(chip.window), self.windows.cols)
            self.answers.add(place, density_class, float(density[0]), float(seen.mean()))
            yield chip.window, np.where(seen, mask, np.float32(np.nan))


def _worth_running(chip: Chip) -> Chip:
    image = chip.images[0]
    if image is None or seen_on_both_sides(image).any():
        return chip
    return Chip(chip.window, (None,))


def _inputs(layers: FloatArray) -> dict[str, FloatArray]:
    """Sort stacked layers, float32 [batch, layer, chip, chip], into the inputs of the graph."""
    several, size = len(layers), layers.shape[2:]
    pre, post = (
        np.ascontiguousarray(layers[:, start : start + _SIDE]).reshape(several, ACQUISITIONS, len(BANDS), *size)
        for start in (0, _SIDE)
    )
    return {"pre": pre, "post": post, "dem": np.ascontiguousarray(layers[:, 2 * _SIDE :])}
