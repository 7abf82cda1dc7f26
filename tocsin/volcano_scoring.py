"""Scores interferograms: scans every scale with overlapping chips, and writes the products of what comes out."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from tocsin.chips import ChipPlan
from tocsin.hazards.volcano import ChipVerdict, VolcanoInputs
from tocsin.inference import AsideProbability, SlidingRows, read_chips
from tocsin.pipeline import run_pipeline
from tocsin.raster import align
from tocsin.result import InputFile, Result, ResultWarning, ScoringPlan, Status
from tocsin.runtimes import Runtime
from tocsin.scoring_job import HazardJob, Order, expected_peak_bytes, plan_windows
from tocsin.volcano_inference import LEAST_COVERED, ScaleBlend, ScaleInference, set_aside, source_names
from tocsin.volcano_products import VolcanoProducts, VolcanoRequest
from tocsin.volcano_scene import Scale, VolcanoScene, open_volcano_scene

OVERLAP_PART: Final = 2
"""Windows share half a chip: deformation up to half a chip wide lies whole in at least one of them."""
SMALL_CHIP: Final = 0.1
"""An answer that rests on a smaller share of a chip says so: the model was trained on chips that are mostly whole."""


def open_volcano_job(stack: ExitStack, inputs: VolcanoInputs, order: Order) -> HazardJob:
    """Open and check everything that a volcano scoring reads.

    Parameters
    ----------
    stack
        Owner of what is opened.
    inputs
        Names of the inputs.
    order
        Model, options and folder of the products.
    """
    options, manifest = order.options, order.model.manifest
    names = source_names(manifest)
    return _Job(open_volcano_scene(stack, inputs, manifest, aoi=options.aoi, when=options.datetime), order, names)


@dataclass(slots=True)
class _Job:
    """One scene, one model, one set of options: everything is open and checked."""

    scene: VolcanoScene
    order: Order
    source_names: tuple[str, ...]
    products: VolcanoProducts = field(init=False)

    def windows(self, scale: Scale) -> ChipPlan:
        return plan_windows(scale.grid.shape, self.order.model.manifest.chip_px, self.order.options, OVERLAP_PART)

    def plan(self) -> Result:
        """Say what a run would do, without reading a pixel of the scene."""
        scene, scales = self.scene, self.scene.scales
        plans = [self.windows(scale) for scale in scales]
        pixels = scene.grid.height * scene.grid.width
        aside = sum(2 * scale.grid.height * scale.grid.width for scale in scales if scale.looks != (1, 1))
        summary = ScoringPlan(
            windows=sum(map(len, plans)),
            windows_to_run=sum(map(_windows_to_run, scales, plans)),
            chip_px=plans[0].chip,
            overlap_px=plans[0].overlap,
            expected_peak_bytes=max(expected_peak_bytes(each, scene.grid.width, 2) for each in plans),
            bytes_to_write=3 * pixels * 4 // 3 + aside,
        )
        return self.order.planned(scene, summary)

    def prepare(self, stack: ExitStack) -> None:
        """Refuse products that exist, before any work."""
        self.products = stack.enter_context(VolcanoProducts(self._request()))

    def run(self, stack: ExitStack, runtime: Runtime) -> Result:
        """Score, write, and return what was written."""
        scene, order, products = self.scene, self.order, self.products
        total = sum(len(self.windows(scale)) for scale in scene.scales)
        tick = stack.enter_context(order.progress(total))
        finest, *others = (self._inference(runtime, scale, tick) for scale in scene.scales)
        asides = [self._aside(stack, each) for each in others]
        if scene.resampled:
            asides.append(self._aside(stack, finest))
        blend = ScaleBlend(tuple(align(aside, scene.grid, "bilinear") for aside in asides), scene.phase)
        if scene.resampled:
            products.consume(blend.alone())
        else:
            run_pipeline(
                self._read(finest), finest.results, lambda results: products.consume(blend.over(finest.strips(results)))
            )
        hashed = [InputFile(href=file.href, sha256=file.sha256()) for file in scene.files]
        verdicts = [verdict for each in (finest, *others) for verdict in each.verdicts]
        sparse = sum(each.sparse for each in (finest, *others))
        outcome = products.commit(
            order.provenance(runtime, scene, hashed), (*scene.warnings, *_found(verdicts, sparse)), verdicts
        )
        status: Status = "ok" if scene.georeferenced else "partial"
        return order.done(scene, outcome, order.provenance(runtime, scene, hashed), status)

    def _aside(self, stack: ExitStack, inference: ScaleInference) -> AsideProbability:
        """Scan a scale whose pixels are not the scene's, and keep its probability."""
        aside = stack.enter_context(AsideProbability(self.order.out, inference.scale.grid))
        run_pipeline(
            self._read(inference), inference.results, lambda results: set_aside(inference.strips(results), aside)
        )
        return aside

    def _read(self, inference: ScaleInference) -> Iterator[Any]:
        """Yield the chips of a scale; the finest one is also shown behind the quicklook."""
        scale, show = inference.scale, None
        if scale.factor == 1:
            show = lambda window, phase: self.products.add_backdrop(scale.grid, window, phase[0])  # noqa: E731
        rows = SlidingRows(scale.source, inference.windows, show)
        return read_chips((rows,), inference.windows, scale.aoi)

    def _inference(self, runtime: Runtime, scale: Scale, tick: Callable[[], None]) -> ScaleInference:
        return ScaleInference(
            runtime=runtime,
            scale=scale,
            windows=self.windows(scale),
            input_name=self.order.model.manifest.inputs[0].name,
            batch=self.order.options.batch,
            on_chip=tick,
        )

    def _request(self) -> VolcanoRequest:
        scene, order = self.scene, self.order
        return VolcanoRequest(
            out=order.out,
            scene_id=scene.id,
            grid=scene.grid,
            threshold=order.threshold,
            facts=order.facts(),
            unobservable=scene.unobservable,
            aoi=scene.aoi,
            acquired=scene.acquired,
            reference_acquired=scene.reference_acquired,
            sources=self.source_names,
            overwrite=order.options.overwrite,
            gpkg=order.options.gpkg,
        )


def _windows_to_run(scale: Scale, windows: ChipPlan) -> int:
    if scale.aoi is None:
        return len(windows)
    area = scale.aoi
    return sum(bool((area.read(window) > 0).any()) for window in windows)


def _found(verdicts: list[ChipVerdict], sparse: int) -> tuple[ResultWarning, ...]:
    """Say on how little an answer rests, and what was not judged."""
    found = {}
    if verdicts:
        highest = max(verdicts, key=lambda verdict: verdict.deformation)
        if highest.valid_fraction < SMALL_CHIP:
            found["small_scene"] = (
                f"the highest probability of deformation rests on phase in {highest.valid_fraction:.2%} of a chip; the "
                "model was trained on chips that are mostly whole: look at the interferogram"
            )
    if sparse:
        found["sparse_windows"] = (
            f"{sparse} windows with phase on less than {LEAST_COVERED:.0%} of their pixels were not judged; what no "
            "other window covers is no data"
        )
    return tuple(ResultWarning(code=code, message=message) for code, message in found.items())
