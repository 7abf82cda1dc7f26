"""How much a scoring costs beside its graph: both measured in one process, on the same chips, with the same threads."""

import resource
import time
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tocsin.errors import UsageError
from tocsin.inference import SlidingRows, read_chips
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


def graph_seconds(scene: Path, options: ScoringOptions) -> tuple[float, int]:
    """Return the seconds inside the graph for every chip of a scene, nothing beside it, and the number of chips.

    Parameters
    ----------
    scene : Path
        VV and VH in dB, on the model's own grid.
    options : ScoringOptions
        As for a scoring.
    """
    model = load_model("flood", options.model_repository, options.precision)
    name = model.manifest.inputs[0].name
    seconds, chips = 0.0, 0
    with open_backscatter(str(scene), "db") as source, open_runtime(model, options) as runtime:
        windows = plan_windows(source.grid.shape, model.manifest.chip_px, options)
        for chip in read_chips((SlidingRows(source, windows),), windows):
            if chip.images[0] is not None:
                image = chip.images[0][np.newaxis]
                if chips == 0:
                    runtime.run({name: image})
                started = time.perf_counter()
                runtime.run({name: image})
                seconds += time.perf_counter() - started
                chips += 1
    return seconds, chips


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

    Raises
    ------
    UsageError
        The scene holds no valid pixel: there is nothing to compare with.
    """
    alone, chips = graph_seconds(post, options)
    if chips == 0:
        raise UsageError(f"{post}, all no data", "a scene with valid pixels", "measure another scene")
    started = time.perf_counter()
    result = score("flood", post=post, out=out, options=options.model_copy(update={"overwrite": True, "quiet": True}))
    whole = time.perf_counter() - started
    return BenchReport(
        scene=str(post),
        shape=result.scene.shape,
        windows=chips,
        threads=options.threads or available_cores(),
        graph_seconds=round(alone, 3),
        end_to_end_seconds=round(whole, 3),
        ratio=round(whole / alone, 3),
        peak_mib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    )
