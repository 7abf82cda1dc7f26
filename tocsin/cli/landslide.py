"""`tocsin landslide`: acquisitions before and after an event in, a map of landslides out."""

from pathlib import Path
from typing import Annotated

import typer

from tocsin.cli import options as common
from tocsin.cli.output import checked, emit, set_up_logging
from tocsin.cli.report import scoring_text

SEEN = "What else is known"


def landslide(
    pre: Annotated[
        list[str],
        typer.Option(
            "--pre",
            metavar="FILE",
            help="Pre-event SAR acquisition: a file, a folder, or 'VV.tif;VH.tif'. Repeat for up to three.",
        ),
    ],
    post: Annotated[
        list[str],
        typer.Option(
            "--post",
            metavar="FILE",
            help="Post-event SAR acquisition of the same track. Repeat for up to three; the first gives the grid.",
        ),
    ],
    out: common.Out,
    dem: Annotated[
        str | None,
        typer.Option(
            "--dem",
            metavar="FILE",
            help="Heights, m: the model reads slopes; marks layover, shadow and cliffs.",
            rich_help_panel=SEEN,
        ),
    ] = None,
    exclude: Annotated[
        str | None,
        typer.Option(
            "--exclude",
            metavar="FILE",
            help="Raster or polygons that radar cannot judge: fields, clear-cuts.",
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
            "--units", metavar="db|linear", help="Unit of --pre and --post; db by default.", rich_help_panel=SEEN
        ),
    ] = None,
    orbit_pass: Annotated[
        str | None,
        typer.Option(
            "--orbit-pass",
            metavar="ascending|descending",
            help="Direction of flight, for --dem; else from tags.",
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
            help="Time of the first --post when its file has none, as 2024-05-31T17:20:00Z.",
            rich_help_panel=SEEN,
        ),
    ] = None,
    model_repository: common.ModelRepository = None,
    runtime: common.Runtime = None,
    device: common.Device = None,
    precision: common.Precision = None,
    threads: common.Threads = None,
    service: common.Service = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            "--overlap",
            metavar="PX",
            help="Pixels that neighbouring windows share: 64, which makes the cells; others are refused.",
            rich_help_panel=common.RUN,
        ),
    ] = None,
    threshold: common.Threshold = None,
    gpkg: common.Gpkg = False,
    overwrite: common.Overwrite = False,
    dry_run: common.DryRun = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Map landslides from one to three Sentinel-1 acquisitions before and after an event.

    Writes class, probability and density of cells of 64 px, the mask of pixels, ranked cells, quicklook and STAC item
    into the folder of --out. What was not seen before and after is no data, never free of landslides.
    """
    set_up_logging(quiet=quiet)
    from tocsin.cli.scored import scored
    from tocsin.hazards.landslide import LandslideInputs
    from tocsin.scoring_job import ScoringOptions

    inputs = checked(
        LandslideInputs,
        post=post,
        pre=pre,
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
    result = scored("landslide", inputs, options, out, service)
    emit(result, as_json=json, text=scoring_text(result))
