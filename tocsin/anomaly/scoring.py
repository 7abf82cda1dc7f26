"""Score one interferogram with a fitted model: score, map and picture."""

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

import tocsin
from tocsin.anomaly.manifest import INPUT, MAP, SCORE, AnomalyManifest, read_model
from tocsin.anomaly.picture import PictureFacts, write_picture
from tocsin.anomaly.preparation import measured_pixels
from tocsin.anomaly.reading import AnomalyInputs, Motion, read_motion
from tocsin.product_files import ProductFiles
from tocsin.raster import RasterSpec
from tocsin.result import AnomalySummary, InputFile, Provenance, Result, ResultWarning, SceneFacts
from tocsin.runtimes import Runtime, RuntimeOptions
from tocsin.runtimes.onnx import OnnxRuntime
from tocsin.stac import ItemFacts, ItemWords, write_item

NAME: Final = "anomaly"
FEW: Final = 0.5
"""Share of the grid below which the result warns: what was not seen could not alarm."""


def score_interferogram(
    inputs: AnomalyInputs, model: Path, out: Path, options: RuntimeOptions, *, overwrite: bool = False
) -> Result:
    """Score one interferogram and write its products into a folder.

    Parameters
    ----------
    inputs
        What is scored.
    model
        Folder of a fitted model.
    out
        Folder of the products.
    options
        How the graph is run.
    overwrite
        Replace products that exist.

    Raises
    ------
    TocsinError
        See `read_model`, `read_motion` and `ProductFiles`.
    """
    started = datetime.now(UTC)
    manifest, graph = read_model(model)
    motion = read_motion(inputs, manifest.series)
    with ExitStack() as stack:
        files = ProductFiles(out, f"{motion.id}_{NAME}", overwrite=overwrite)
        stack.callback(files.discard)
        runtime = stack.enter_context(OnnxRuntime(graph, options))
        given = runtime.run({INPUT: motion.metres[None, None]})
        found = float(given[SCORE][0, 0])
        summary = AnomalySummary(
            score=found if np.isfinite(found) else None,
            threshold=manifest.threshold,
            anomalous=bool(found > manifest.threshold) if np.isfinite(found) else None,
        )
        values = given[MAP][0, 0]
        warnings = _warnings(motion, values)
        ran = _provenance(manifest, motion, inputs, runtime)
        files.raster("anomaly", motion.grid, _spec(manifest)).write_rows(0, values)
        facts = PictureFacts(
            motion=motion,
            summary=summary,
            fitted=len(manifest.fit_epochs),
            method=_method(ran, manifest),
            notes=warnings,
        )
        with files.finishing():
            write_picture(files.working("quicklook"), facts, values)
            ran = ran.model_copy(
                update={"started": started, "seconds": round((datetime.now(UTC) - started).total_seconds(), 3)}
            )
            item = files.working("item")
            write_item(item, _item(manifest, motion, files, (summary, ran, warnings)))
        return Result(
            hazard="volcano",
            status="ok" if np.isfinite(values).any() else "empty",
            scene=_scene(motion, values),
            products=files.commit(),
            summary=summary,
            warnings=warnings,
            provenance=ran,
        )


def score_series(runtime: Runtime, motion: NDArray[np.float32], batch: int = 8) -> NDArray[np.float64]:
    """Return the score of each epoch of motion [epoch, row, col], m; NaN where nothing was measured."""
    parts = [runtime.run({INPUT: motion[at : at + batch, None]})[SCORE][:, 0] for at in range(0, len(motion), batch)]
    return np.asarray(np.concatenate(parts), dtype=np.float64)


def _scene(motion: Motion, values: NDArray[np.float32]) -> SceneFacts:
    grid = motion.grid
    return SceneFacts(
        id=motion.id,
        crs=grid.crs_name,
        shape=(grid.height, grid.width),
        bounds=grid.bounds,
        valid_fraction=float(np.isfinite(values).mean()),
        acquired=motion.acquired,
    )


def _spec(manifest: AnomalyManifest) -> RasterSpec:
    return RasterSpec(
        dtype="float32",
        nodata=float("nan"),
        unit="1",
        description=f"distance from normal epochs ({manifest.settings.method})",
        tags={
            "MODEL": NAME,
            "WEIGHTS": manifest.graph.sha256,
            "THRESHOLD": f"{manifest.threshold:.6g}",
            "TOCSIN": tocsin.__version__,
        },
        overview="average",
    )


def _warnings(motion: Motion, values: NDArray[np.float32]) -> tuple[ResultWarning, ...]:
    found = {}
    if motion.acquired is None:
        found["acquired_unknown"] = "neither tags nor name tell when it was acquired"
    elif motion.day_only:
        found["acquired_day_only"] = "only days of acquisition are known: 00:00 UTC stands for each"
    share = float(np.isfinite(values).mean())
    if share < FEW:
        found["few_pixels"] = f"{share:.0%} of the grid was judged: what was not seen could not alarm"
    unseen = measured_pixels(motion.metres) & ~np.isfinite(values)
    if unseen.any():
        found["never_fitted"] = f"{unseen.mean():.1%} of the grid was measured now, but not in the epochs fitted"
    return tuple(ResultWarning(code=code, message=message) for code, message in found.items())


def _provenance(manifest: AnomalyManifest, motion: Motion, inputs: AnomalyInputs, runtime: Runtime) -> Provenance:
    return Provenance(
        model=NAME,
        version=manifest.encoder.version,
        sha256=manifest.graph.sha256,
        precision=runtime.precision,
        runtime=runtime.name,
        device=runtime.device,
        threshold=manifest.threshold,
        tocsin=tocsin.__version__,
        inputs=(InputFile(href=inputs.interferogram, sha256=motion.sha256),),
        resampled=None,
        started=datetime.now(UTC),
        seconds=0,
    )


def _item(
    manifest: AnomalyManifest,
    motion: Motion,
    files: ProductFiles,
    outcome: tuple[AnomalySummary, Provenance, tuple[ResultWarning, ...]],
) -> ItemFacts:
    """Gather what the item says."""
    summary, provenance, warnings = outcome
    words = ItemWords(
        hazard="volcano",
        title="Anomaly map of",
        lineage=f"Distance of an interferogram from {len(manifest.fit_epochs)} normal epochs of its volcano",
        assets={"anomaly": "Distance from normal epochs", "quicklook": "Quicklook"},
        classes={},
    )
    return ItemFacts(
        words=words,
        scene_id=f"{motion.id}_{NAME}",
        grid=motion.grid,
        files={name: file for name, file in files.names.items() if name != "item"},
        acquired=motion.acquired,
        pre_acquired=None,
        summary=summary,
        provenance=provenance,
        warnings=warnings,
    )


def _method(ran: Provenance, manifest: AnomalyManifest) -> str:
    return (
        f"{manifest.settings.method} over the encoder of {manifest.encoder.model} {manifest.encoder.version}, "
        f"{len(manifest.fit_epochs)} epochs of {manifest.series.id}, {ran.runtime} on {ran.device}"
    )
