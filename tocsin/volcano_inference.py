"""Runs chips of an interferogram: probability of deforming for each pixel, and a verdict for each chip.

A pixel's probability in a chip is the smaller of its own and the chip's. Windows share half a chip, so that deformation
up to half a chip wide lies whole in at least one of them.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from tocsin.chips import PROBABILITY_NODATA, ChipPlan, FloatArray, Mosaic, Strip, quantise
from tocsin.errors import ModelInvalidError
from tocsin.grid import Window
from tocsin.hazards.volcano import ChipVerdict
from tocsin.inference import PIECE_PX, AsideProbability, Chip, batches
from tocsin.manifest import Manifest
from tocsin.raster import Source
from tocsin.runtimes import Runtime
from tocsin.volcano_scene import Scale

OUTPUTS: Final = ("deformation", "source", "mask")
"""Outputs of the graph that scanning needs."""
LEAST_COVERED: Final = 0.01
"""A window is not run when a smaller share of its pixels inside the scene holds phase: of 224 px squared that leaves
500, scattered over the sea; its pixels are no data unless another window covers them."""

ScaleResult = tuple[Window, FloatArray]
"""A window and what is known there, float32 [2, chip, chip]: probability and 1, or 0 and 0 where nothing is known."""


def source_names(manifest: Manifest) -> tuple[str, ...]:
    """Return the kinds of source in the order of the model's output.

    Raises
    ------
    ModelInvalidError
        The model has not the outputs of a volcano model.
    """
    specs = {spec.name: spec for spec in manifest.outputs}
    missing = [name for name in OUTPUTS if name not in specs]
    if missing:
        raise ModelInvalidError(
            f"model {manifest.name} without output {', '.join(missing)}",
            f"outputs {', '.join(OUTPUTS)}",
            "export it again, or name another --model-repository",
        )
    return specs["source"].bands


@dataclass(slots=True)
class ScaleInference:
    """Runs the chips of one scale, and makes strips of what comes out.

    The two halves are for two threads: whoever runs the graph does nothing else.

    Attributes
    ----------
    runtime : Runtime
        Used from the calling thread only.
    scale : Scale
        What is scanned.
    windows : ChipPlan
        Windows over the scale's grid, in any order.
    input_name : str
        Tensor of the graph.
    batch : int
        Chips a run.
    on_chip : callable
        Told of every window that is done.
    verdicts : list of ChipVerdict
        Grows with every chip that is run.
    sparse : int
        Windows that were not run because they hold too little phase.
    """

    runtime: Runtime
    scale: Scale
    windows: ChipPlan
    input_name: str
    batch: int = 1
    on_chip: Callable[[], None] = field(default=lambda: None)
    verdicts: list[ChipVerdict] = field(default_factory=list)
    sparse: int = 0

    def strips(self, results: Iterable[ScaleResult]) -> Iterator[Strip]:
        """Yield strips of quantised probability in ascending order, each as soon as its rows are complete."""
        # Where a window knows nothing the others decide: the mean runs over probability and knowledge alike.
        mosaic = Mosaic(self.windows, 2)
        for window, values in results:
            for row, rows in mosaic.add(window, values):
                step = max(1, PIECE_PX // rows.shape[2])
                for at in range(0, rows.shape[1], step):
                    probability, known = rows[:, at : at + step]
                    with np.errstate(divide="ignore", invalid="ignore"):
                        yield Strip(row + at, quantise(np.where(known > 0, probability / known, np.float32(np.nan))))

    def results(self, chips: Iterable[Chip]) -> Iterator[ScaleResult]:
        """Run chips in batches; those that hold too little pass in their place."""
        for group in batches(map(self._enough, chips), self.batch):
            yield from self._run(group)

    def _enough(self, chip: Chip) -> Chip:
        """Return the chip without its image when it covers too little to be judged."""
        image = chip.images[0]
        inside = chip.window.intersection(self.scale.grid.window)
        if image is None or inside is None:
            return chip
        known, area = np.isfinite(image), self.scale.aoi
        if area is not None and not (known & (area.read(chip.window) > 0)).any():
            # What lies beside the area of interest alone is no verdict on it.
            return Chip(chip.window, (None,))
        if np.count_nonzero(known) >= LEAST_COVERED * inside.height * inside.width:
            return chip
        self.sparse += 1
        return Chip(chip.window, (None,))

    def _run(self, group: list[Chip]) -> Iterator[ScaleResult]:
        images = [chip.images[0] for chip in group if chip.images[0] is not None]
        answers: list[tuple[FloatArray, ...]] = []
        for start in range(0, len(images), self.batch):
            answer = self.runtime.run({self.input_name: np.stack(images[start : start + self.batch])})
            answers.extend(zip(*(answer[name] for name in OUTPUTS), strict=True))
        following = iter(answers)
        for chip in group:
            self.on_chip()
            image = chip.images[0]
            known = np.zeros((2, self.windows.chip, self.windows.chip), dtype=np.float32)
            if image is not None:
                deformation, source, mask = next(following)
                self._judge(chip.window, image, float(deformation[0]), source)
                probability = np.minimum(mask[0], deformation[0])
                known[1] = np.isfinite(probability)
                known[0] = np.where(known[1] > 0, probability, np.float32(0))
            yield chip.window, known

    def _judge(self, window: Window, image: FloatArray, deformation: float, source: FloatArray) -> None:
        verdict = ChipVerdict(
            window=self.scale.to_scene(window),
            scale=self.scale.factor,
            deformation=deformation,
            source=tuple(float(share) for share in source),
            valid_fraction=float(np.mean(np.isfinite(image))),
        )
        self.verdicts.append(verdict)


@dataclass(frozen=True, slots=True)
class ScaleBlend:
    """Joins scales on the scene's own grid: the highest probability of all, no data where the scene has no phase.

    Attributes
    ----------
    asides : tuple of Source
        Probability at other scales, each aligned onto the scene's grid.
    scene : Source
        Phase on the scene's own grid.
    """

    asides: tuple[Source, ...]
    scene: Source

    def over(self, strips: Iterable[Strip]) -> Iterator[Strip]:
        """Raise strips on the scene's own grid to what the other scales say."""
        for strip in strips:
            yield self._raised(strip) if self.asides else strip

    def alone(self) -> Iterator[Strip]:
        """Yield strips of the scene's grid where the model never saw the scene's own pixels."""
        height, width = self.scene.grid.shape
        step = max(1, PIECE_PX // width)
        for row in range(0, height, step):
            unknown = np.full((min(step, height - row), width), PROBABILITY_NODATA, dtype=np.uint16)
            yield self._raised(Strip(row, unknown))

    def _raised(self, strip: Strip) -> Strip:
        """Return the highest probability of a strip and the other scales; only where the scene has phase."""
        window = Window(strip.row, 0, *strip.probability.shape)
        # One more than the code of no data wraps to 0, so that the highest of known values wins.
        highest = strip.probability + np.uint16(1)
        for aside in self.asides:
            np.maximum(highest, quantise(aside.read(window)[0]) + np.uint16(1), out=highest)
        highest -= np.uint16(1)
        if (strip.probability == PROBABILITY_NODATA).any():
            highest[np.isnan(self.scene.read(window)[0])] = PROBABILITY_NODATA
        return Strip(strip.row, highest)


def set_aside(strips: Iterable[Strip], aside: AsideProbability) -> None:
    """Keep the strips of a scale for later."""
    for strip in strips:
        aside.append(strip.probability)
