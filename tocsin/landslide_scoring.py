"""Scores landslides: one pass over the stack of acquisitions, the mask and the cells out, and products of both."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from tocsin.chips import ChipPlan, FloatArray, Strip
from tocsin.errors import UsageError
from tocsin.grid import Window
from tocsin.hazards.landslide import CHIP, STEP, LandslideInputs
from tocsin.inference import AsideProbability, ReturnToScene, SlidingRows, read_chips
from tocsin.landslide_cells import COUNT_ERROR
from tocsin.landslide_inference import (
    AHEAD_BYTES,
    Ahead,
    Around,
    LandslideInference,
    Layers,
    check_model,
    on_scene,
    post_vh,
    windows_of,
)
from tocsin.landslide_products import LandslideProducts, LandslideRequest
from tocsin.landslide_scene import LandslideScene, open_landslide_scene
from tocsin.manifest import Manifest
from tocsin.pipeline import run_pipeline
from tocsin.raster import align
from tocsin.result import InputFile, Result, ScoringPlan
from tocsin.runtimes import Runtime
from tocsin.scoring_job import HazardJob, Order, expected_peak_bytes

_IMAGES: Final = 7
"""Two layers each: what is held of a window row is six acquisitions and heights, whatever was given."""


def open_landslide_job(stack: ExitStack, inputs: LandslideInputs, order: Order) -> HazardJob:
    """Open and check everything that a landslide scoring reads.

    Parameters
    ----------
    stack
        Owner of what is opened.
    inputs
        Names of the inputs.
    order
        Model, options and folder of the products.

    Raises
    ------
    UsageError
        An overlap that would not make the cells.
    """
    options, manifest = order.options, order.model.manifest
    check_model(manifest)
    if options.overlap not in {None, CHIP - STEP}:
        raise UsageError(
            f"overlap {options.overlap}", f"{CHIP - STEP} px: steps of chips make the cells", "leave the overlap out"
        )
    return _Job(open_landslide_scene(stack, inputs, manifest, aoi=options.aoi, when=options.datetime), order)


@dataclass(slots=True)
class _Job:
    """One scene, one model, one set of options: everything is open and checked."""

    scene: LandslideScene
    order: Order
    products: LandslideProducts = field(init=False)

    @property
    def windows(self) -> ChipPlan:
        return windows_of(self.scene.model_grid)

    def plan(self) -> Result:
        """Say what a run would do, without reading a pixel of the scene."""
        windows, scene = self.windows, self.scene
        aoi = scene.aoi_model
        to_run = len(windows) if aoi is None else sum(bool((aoi.read(on_scene(each)) > 0).any()) for each in windows)
        pixels, small = scene.grid.height * scene.grid.width, scene.cells.height * scene.cells.width
        rasters = (2 + bool(scene.exclude or scene.heights)) * pixels + 7 * small
        aside = 2 * scene.model_grid.height * scene.model_grid.width if scene.resampled else 0
        summary = ScoringPlan(
            windows=len(windows),
            windows_to_run=to_run,
            chip_px=windows.chip,
            overlap_px=windows.overlap,
            expected_peak_bytes=expected_peak_bytes(windows, scene.grid.width, _IMAGES) + AHEAD_BYTES,
            bytes_to_write=rasters * 4 // 3 + aside,
        )
        return self.order.planned(scene, summary)

    def prepare(self, stack: ExitStack) -> None:
        """Refuse products that exist, before any work."""
        self.products = stack.enter_context(LandslideProducts(self._request()))

    def run(self, stack: ExitStack, runtime: Runtime) -> Result:
        """Score, write, and return what was written."""
        scene, order, products = self.scene, self.order, self.products
        hashed: list[InputFile] = []
        to_scene = self._to_scene(stack)
        tick = stack.enter_context(order.progress(len(self.windows)))
        inference = LandslideInference(runtime, scene.model_grid, order.options.batch, tick)
        run_pipeline(
            self._read(hashed),
            inference.results,
            lambda results: products.consume(to_scene(inference.strips(results))),
        )
        outcome = products.commit(inference.answers, order.provenance(runtime, scene, hashed), scene.warnings)
        return order.done(scene, outcome, order.provenance(runtime, scene, hashed))

    def _read(self, hashed: list[InputFile]) -> Iterator[Any]:
        """Yield chips, then hash the inputs: it costs no time of its own, since the runtime still has work waiting."""
        scene, windows = self.scene, self.windows

        def show(window: Window, layers: FloatArray) -> None:
            self.products.add_backdrop(scene.model_grid, on_scene(window), post_vh(layers))

        rows = SlidingRows(Around(Ahead(Layers(scene))), windows, show)
        aoi = None if scene.aoi_model is None else Around(scene.aoi_model)
        yield from read_chips((rows,), windows, aoi)
        hashed.extend(InputFile(href=file.href, sha256=file.sha256()) for file in scene.files)

    def _to_scene(self, stack: ExitStack) -> Callable[[Iterable[Strip]], Iterable[Strip]]:
        """Return what brings strips onto the scene's own grid: nothing to do unless it was resampled."""
        scene = self.scene
        if not scene.resampled:
            return lambda strips: strips
        aside = stack.enter_context(AsideProbability(self.order.out, scene.model_grid))
        return ReturnToScene((aside,), (align(aside, scene.grid, "bilinear"),), scene.both).strips

    def _request(self) -> LandslideRequest:
        scene, order = self.scene, self.order
        return LandslideRequest(
            out=order.out,
            scene_id=scene.id,
            grid=scene.grid,
            cells=scene.cells,
            threshold=order.threshold,
            facts=order.facts(),
            heights=scene.heights,
            exclude=scene.exclude,
            aoi=scene.aoi,
            orbit_pass=scene.orbit_pass,
            incidence_deg=scene.incidence_deg,
            pre_acquired=scene.pre_acquired,
            post_acquired=scene.post_acquired,
            days_between=scene.days_between,
            count_error=_count_error(order.model.manifest),
            overwrite=order.options.overwrite,
            gpkg=order.options.gpkg,
        )


def _count_error(manifest: Manifest) -> float | None:
    """Return what the manifest says of the error of a region's number, the largest of its figures; None without any."""
    return max((row.value for row in manifest.metrics if row.metric == COUNT_ERROR), default=None)
