"""Scores floods: one pass over the scene, water probability in, flood products out."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from tocsin.chips import ChipPlan, Strip
from tocsin.hazards.flood import FloodInputs
from tocsin.inference import AsideProbability, Inference, ReturnToScene, SlidingRows, read_chips
from tocsin.pipeline import run_pipeline
from tocsin.products import FloodProducts, FloodRequest
from tocsin.raster import Source, align
from tocsin.result import InputFile, Result, ScoringPlan
from tocsin.runtimes import Runtime
from tocsin.scene import FloodScene, open_flood_scene
from tocsin.scoring_job import HazardJob, Order, expected_peak_bytes, plan_windows


def open_flood_job(stack: ExitStack, inputs: FloodInputs, order: Order) -> HazardJob:
    """Open and check everything that a flood scoring reads.

    Parameters
    ----------
    stack
        Owner of what is opened.
    inputs
        Names of the inputs.
    order
        Model, options and folder of the products.
    """
    options = order.options
    return _Job(open_flood_scene(stack, inputs, order.model.manifest, aoi=options.aoi, when=options.datetime), order)


@dataclass(slots=True)
class _Job:
    """One scene, one model, one set of options: everything is open and checked."""

    scene: FloodScene
    order: Order
    products: FloodProducts = field(init=False)

    @property
    def windows(self) -> ChipPlan:
        return plan_windows(self.scene.model_grid.shape, self.order.model.manifest.chip_px, self.order.options)

    def plan(self) -> Result:
        """Say what a run would do, without reading a pixel of the scene."""
        windows, scene = self.windows, self.scene
        aoi = scene.aoi_model
        to_run = len(windows) if aoi is None else sum(bool((aoi.read(window) > 0).any()) for window in windows)
        resampled = 2 * scene.model_grid.height * scene.model_grid.width if scene.resampled else 0
        rasters = 3 + bool(scene.exclude or scene.dem)
        summary = ScoringPlan(
            windows=len(windows),
            windows_to_run=to_run,
            chip_px=windows.chip,
            overlap_px=windows.overlap,
            expected_peak_bytes=expected_peak_bytes(windows, scene.grid.width, len(scene.acquisitions)),
            bytes_to_write=rasters * scene.grid.height * scene.grid.width * 4 // 3
            + len(scene.acquisitions) * resampled,
        )
        return self.order.planned(scene, summary)

    def prepare(self, stack: ExitStack) -> None:
        """Refuse products that exist, before any work."""
        self.products = stack.enter_context(FloodProducts(self._request()))

    def run(self, stack: ExitStack, runtime: Runtime) -> Result:
        """Score, write, and return what was written."""
        windows, order, products = self.windows, self.order, self.products
        hashed: list[InputFile] = []
        to_scene = self._to_scene(stack)
        tick = stack.enter_context(order.progress(len(windows)))
        inference = self._inference(runtime, windows, tick)
        run_pipeline(
            self._read(windows, products, hashed),
            inference.results,
            lambda results: products.consume(to_scene(inference.strips(results))),
        )
        outcome = products.commit(order.provenance(runtime, self.scene, hashed), self.scene.warnings)
        return order.done(self.scene, outcome, order.provenance(runtime, self.scene, hashed))

    def _read(self, windows: ChipPlan, products: FloodProducts, hashed: list[InputFile]) -> Iterator[Any]:
        """Yield chips, then hash the inputs: it costs no time of its own, since the runtime still has work waiting."""
        scene = self.scene
        show: Callable[..., None] = lambda window, image: products.add_backdrop(scene.model_grid, window, image[0])  # noqa: E731
        first, *others = scene.acquisitions
        rows = (SlidingRows(first, windows, show), *(SlidingRows(other, windows) for other in others))
        yield from read_chips(rows, windows, scene.aoi_model)
        hashed.extend(InputFile(href=raster.href, sha256=raster.sha256()) for raster in scene.files)

    def _inference(self, runtime: Runtime, windows: ChipPlan, tick: Callable[[], None]) -> Inference:
        manifest = self.order.model.manifest
        return Inference(
            runtime=runtime,
            windows=windows,
            acquisitions=len(self.scene.acquisitions),
            input_name=manifest.inputs[0].name,
            output_name=manifest.outputs[0].name,
            batch=self.order.options.batch,
            on_chip=tick,
        )

    def _to_scene(self, stack: ExitStack) -> Callable[[Iterable[Strip]], Iterable[Strip]]:
        """Return what brings strips onto the scene's own grid: nothing to do unless it was resampled."""
        scene = self.scene
        if not scene.resampled:
            return lambda strips: strips
        asides = tuple(
            stack.enter_context(AsideProbability(self.order.out, scene.model_grid)) for _ in scene.acquisitions
        )
        aligned: tuple[Source, ...] = tuple(align(aside, scene.grid, "bilinear") for aside in asides)
        return ReturnToScene(asides, aligned, scene.post).strips

    def _request(self) -> FloodRequest:
        scene = self.scene
        return FloodRequest(
            out=self.order.out,
            scene_id=scene.id,
            grid=scene.grid,
            threshold=self.order.threshold,
            facts=self.order.facts(),
            pre=len(scene.acquisitions) > 1,
            reference_water=scene.reference_water,
            dem=scene.dem,
            exclude=scene.exclude,
            aoi=scene.aoi,
            orbit_pass=scene.orbit_pass,
            incidence_deg=scene.incidence_deg,
            acquired=scene.acquired,
            pre_acquired=scene.pre_acquired,
            overwrite=self.order.options.overwrite,
            gpkg=self.order.options.gpkg,
        )
