"""How much a scoring costs beside its graph: both measured in one process, on the same chips, with the same threads."""

import resource
import time
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tocsin.raster import open_backscatter
from tocsin.repository import load_model
from tocsin.runtimes import available_cores, open_runtime
from tocsin.scoring import ScoringOptions, plan_windows, score


class BenchReport(BaseModel):
    """One measurement."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scene: str = Field(description="path of the scene")
    shape: tuple[int, int] = Field(description="rows and columns, pixels")
    windows: int = Field(ge=1, description="chips run, the same in both measurements")
    threads: int = Field(ge=1, description="CPU threads of the graph")
    graph_seconds: float = Field(gt=0, description="the graph alone, chips in memory")
    end_to_end_seconds: float = Field(gt=0, description="from opening the file to the last product")
    ratio: float = Field(gt=0, description="end to end over graph alone; the smaller the scene, the larger")
    peak_mib: float = Field(gt=0, description="peak resident memory of this process so far, MiB")


def bench_flood(post: Path, out: Path, options: ScoringOptions) -> BenchReport:
    """Measure one flood scene.

    Parameters
    ----------
    post : Path
        Scene on the model's own grid, VV and VH in dB.
    out : Path
        Folder of the products; those of an earlier measurement are replaced.
    options : ScoringOptions
        As for a scoring.
    """
    model = load_model("flood", options.model_repository, options.precision)
    with open_backscatter(str(post), "db") as source:
        windows = plan_windows(source.grid.shape, model.manifest.chip_px, options)
        shape = source.grid.shape
        images = [source.read(window)[np.newaxis] for window in windows]
    chips = [image for image in images if not np.isnan(image).all()]
    with open_runtime(model, options) as runtime:
        runtime.run({"s1": chips[0]})
        started = time.perf_counter()
        for chip in chips:
            runtime.run({"s1": chip})
        graph_seconds = time.perf_counter() - started
    del images, chips
    started = time.perf_counter()
    score("flood", post=post, out=out, options=options.model_copy(update={"overwrite": True, "quiet": True}))
    end_to_end_seconds = time.perf_counter() - started
    return BenchReport(
        scene=str(post),
        shape=shape,
        windows=len(windows),
        threads=options.threads or available_cores(),
        graph_seconds=round(graph_seconds, 3),
        end_to_end_seconds=round(end_to_end_seconds, 3),
        ratio=round(end_to_end_seconds / graph_seconds, 3),
        peak_mib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    )
