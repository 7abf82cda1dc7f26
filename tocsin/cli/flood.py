"""`tocsin flood`: one Sentinel-1 scene in, a flood map out."""

from pathlib import Path
from typing import Annotated

import typer

from tocsin.cli import options as common
from tocsin.cli.output import checked, emit, set_up_logging
from tocsin.cli.report import scoring_text

SEEN = "What else is known"


def flood(
    post: Annotated[
        str, typer.Argument(metavar="POST", help="Post-event SAR acquisition: a file, a folder, or 'VV.tif;VH.tif'.")
    ],
    out: common.Out,
    pre: Annotated[
        str | None,
        typer.Option(
            "--pre", metavar="FILE", help="Pre-event acquisition: its water is permanent.", rich_help_panel=SEEN
        ),
    ] = None,
    reference_water: Annotated[
        str | None,
        typer.Option("--reference-water", metavar="FILE", help="Raster of permanent water.", rich_help_panel=SEEN),
    ] = None,
    dem: Annotated[
        str | None,
        typer.Option(
            "--dem", metavar="FILE", help="Heights, m: marks layover, shadow and steep slopes.", rich_help_panel=SEEN
        ),
    ] = None,
    exclude: Annotated[
        str | None,
        typer.Option(
            "--exclude",
            metavar="FILE",
            help="Raster or polygons that radar cannot judge: towns, forest.",
            rich_help_panel=SEEN,
        ),
    ] = None,
    aoi: Annotated[
        Path | None,
        typer.Option(
            "--aoi", metavar="FILE", help="Polygons; outside them the result is no data.", rich_help_panel=SEEN
        ),
    ] = None,
    units: Annotated[
        str | None,
        typer.Option(
            "--units", metavar="db|linear", help="Unit of POST and --pre; db by default.", rich_help_panel=SEEN
        ),
    ] = None,
    orbit_pass: Annotated[
        str | None,
        typer.Option(
            "--orbit-pass",
            metavar="ascending|descending",
            help="Direction of flight, for --dem; else from tags or file name.",
            rich_help_panel=SEEN,
        ),
    ] = None,
    incidence_deg: Annotated[
        float | None,
        typer.Option(
            "--incidence-deg",
            metavar="DEG",
            help="Incidence at the scene's centre, for --dem; else from tags.",
            rich_help_panel=SEEN,
        ),
    ] = None,
    datetime: Annotated[
        str | None,
        typer.Option(
            "--datetime",
            metavar="UTC",
            help="Acquisition time of POST when its file has none, as 2024-05-31T17:20:00Z.",
            rich_help_panel=SEEN,
        ),
    ] = None,
    model_repository: common.ModelRepository = None,
    runtime: common.Runtime = None,
    device: common.Device = None,
    precision: common.Precision = None,
    threads: common.Threads = None,
    service: common.Service = None,
    overlap: common.Overlap = None,
    threshold: common.Threshold = None,
    gpkg: common.Gpkg = False,
    overwrite: common.Overwrite = False,
    dry_run: common.DryRun = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Map flood water in one Sentinel-1 scene.

    Writes class, probability, polygons, quicklook and STAC item into the folder of --out.
    A pixel without data is never dry: it is no data, and what radar cannot judge is marked so.
    """
    set_up_logging(quiet=quiet)
    from tocsin.cli.scored import scored
    from tocsin.hazards.flood import FloodInputs
    from tocsin.scoring_job import ScoringOptions

    inputs = checked(
        FloodInputs,
        post=post,
        pre=pre,
        reference_water=reference_water,
        dem=dem,
        exclude=exclude,
        units=units,
        orbit_pass=orbit_pass,
        incidence_deg=incidence_deg,
    )
    options = checked(
        ScoringOptions,
        model_repository=model_repository,
        runtime=runtime,
        device=device,
        precision=precision,
        threads=threads,
        overlap=overlap,
        threshold=threshold,
        aoi=aoi,
        datetime=datetime,
        gpkg=gpkg,
        overwrite=overwrite,
        dry_run=dry_run,
        quiet=quiet,
    )
    result = scored("flood", inputs, options, out, service)
    emit(result, as_json=json, text=scoring_text(result))
