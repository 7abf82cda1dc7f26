"""`tocsin bench`: what a scoring costs on this machine."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from tocsin.cli import options as common
from tocsin.cli.output import checked, emit, set_up_logging


def bench(
    scene: Annotated[
        Path | None,
        typer.Option(
            "--scene", metavar="FILE", help="Scene to measure, VV and VH in dB at 10 m; else one is simulated."
        ),
    ] = None,
    model_repository: common.ModelRepository = None,
    runtime: common.Runtime = None,
    device: common.Device = None,
    precision: common.Precision = None,
    threads: common.Threads = None,
    overlap: common.Overlap = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Time a whole scoring against its graph alone, on the same chips in one process."""
    set_up_logging(quiet=quiet)
    from tocsin.benchmark import bench_flood
    from tocsin.scoring import ScoringOptions

    options = checked(
        ScoringOptions,
        model_repository=model_repository,
        runtime=runtime,
        device=device,
        precision=precision,
        threads=threads,
        overlap=overlap,
        quiet=quiet,
    )
    with TemporaryDirectory(prefix="tocsin-bench-") as work:
        report = bench_flood(scene or _simulated(Path(work)), Path(work) / "products", options)
    rows, cols = report.shape
    text = (
        f"{rows} x {cols} px, {report.windows} windows, {report.threads} threads\n"
        f"graph alone  {report.graph_seconds:.2f} s\n"
        f"end to end   {report.end_to_end_seconds:.2f} s, ratio {report.ratio:.2f} (higher on small scenes)\n"
        f"peak memory  {report.peak_mib:,.0f} MiB"
    )
    emit(report, as_json=json, text=text)


def _simulated(folder: Path) -> Path:
    from tocsin.simulate import write_flood_scene

    return write_flood_scene(folder / "scene").post
