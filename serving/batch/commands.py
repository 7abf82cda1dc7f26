"""`tocsin batch`: thousands of scenes, on this machine or a cluster."""

from typing import TYPE_CHECKING, Annotated

import typer

from tocsin.cli import options as common
from tocsin.cli.output import checked, emit, set_up_logging

if TYPE_CHECKING:
    from serving.batch.settings import BatchResult

CLUSTER = "Who scores"


def batch(
    manifest: Annotated[
        str,
        typer.Argument(
            metavar="MANIFEST",
            help="CSV, Parquet or GeoJSON table, STAC catalog, folder or glob; or its URL in a bucket.",
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Folder, or s3:// prefix, of the products.", rich_help_panel=common.WRITE
        ),
    ],
    hazard: Annotated[
        str | None,
        typer.Option(
            "--hazard",
            metavar="flood|landslide|volcano",
            help="Of scenes whose manifest does not say it: a folder, a glob, plain STAC items.",
        ),
    ] = None,
    zones: Annotated[
        str | None,
        typer.Option(
            "--zones",
            metavar="FILE",
            help="Polygons, for statistics in each: districts, catchments.",
            rich_help_panel=common.WRITE,
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            metavar="tcp://HOST:PORT",
            help="A Dask cluster that exists; processes on this machine by default.",
            rich_help_panel=CLUSTER,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", metavar="N", help="Processes on this machine; one a core by default.", rich_help_panel=CLUSTER
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            metavar="SIZE",
            help="What a worker on this machine may hold, as 1.5GB; beyond, it is ended and its scene goes to another.",
            rich_help_panel=CLUSTER,
        ),
    ] = None,
    model_repository: common.ModelRepository = None,
    runtime: common.Runtime = None,
    device: common.Device = None,
    precision: common.Precision = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            metavar="N",
            envvar="TOCSIN_THREADS",
            help="CPU threads of the graph in each worker; its share of the cores by default.",
            rich_help_panel=common.RUN,
        ),
    ] = None,
    overlap: common.Overlap = None,
    threshold: common.Threshold = None,
    gpkg: common.Gpkg = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            envvar="TOCSIN_OVERWRITE",
            help="Score every scene again, whatever the journal says.",
            rich_help_panel=common.WRITE,
        ),
    ] = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Score every scene of a manifest, and go on where an earlier run of it was stopped.

    A scene that cannot be scored never stops the others: it is in the result with its reason, and the exit code is 7.
    Writes products of each scene to DIR/HAZARD/ID, and a STAC catalog, a report and a ranking of all.
    """
    set_up_logging(quiet=quiet)
    from serving.batch.run import run
    from serving.batch.settings import FAILED_EXIT, BatchSettings
    from tocsin.scoring_job import ScoringOptions

    options = checked(
        ScoringOptions,
        model_repository=model_repository,
        runtime=runtime,
        device=device,
        precision=precision,
        threads=threads,
        overlap=overlap,
        threshold=threshold,
        gpkg=gpkg,
        overwrite=overwrite,
        quiet=quiet,
    )
    settings = checked(
        BatchSettings,
        manifest=manifest,
        out=out,
        hazard=hazard,
        scheduler=scheduler,
        zones=zones,
        workers=workers,
        memory=memory,
        options=options,
    )
    result = run(settings)
    emit(result, as_json=json, text=batch_text(result))
    if result.summary.failed:
        raise typer.Exit(FAILED_EXIT)


def batch_text(result: "BatchResult") -> str:
    """Return what a person needs from a batch: how many, what failed and why, and where to look."""
    summary = result.summary
    scenes = f"{summary.done} done, {summary.skipped} done before, {summary.failed} failed"
    lines = [f"{scenes} in {summary.seconds:,.0f} s; {summary.km2:,.1f} km2 observed"]
    lines += [f"failed: {failure.id}: {failure.message} ({failure.code})" for failure in result.failures]
    lines += [f"{name:<12}{path}" for name, path in result.products.items()]
    return "\n".join(lines)
