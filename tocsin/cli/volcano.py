"""`tocsin volcano`: one interferogram in, a map of deformation and an alarm out."""

from pathlib import Path
from typing import Annotated

import typer

from tocsin.cli import options as common
from tocsin.cli.output import checked, emit, set_up_logging
from tocsin.cli.report import scoring_text

SEEN = "What else is known"


def volcano(
    interferogram: Annotated[
        str, typer.Argument(metavar="IFG", help="Interferogram: a GeoTIFF (LiCSAR, HyP3, ...), or a PNG of it.")
    ],
    out: common.Out,
    coherence: Annotated[
        str | None,
        typer.Option(
            "--coherence", metavar="FILE", help="Coherence on the same grid, 0-1 or 0-255.", rich_help_panel=SEEN
        ),
    ] = None,
    min_coherence: Annotated[
        float | None,
        typer.Option(
            "--min-coherence",
            metavar="C",
            help="Pixels of less coherence are not judged, with --coherence; 0.2 by default.",
            rich_help_panel=SEEN,
        ),
    ] = None,
    wrapped: Annotated[
        bool, typer.Option("--wrapped", help="IFG holds wrapped phase, the default.", rich_help_panel=SEEN)
    ] = False,
    unwrapped: Annotated[
        bool,
        typer.Option("--unwrapped", help="IFG holds unwrapped phase; it is wrapped on reading.", rich_help_panel=SEEN),
    ] = False,
    units: Annotated[
        str | None,
        typer.Option(
            "--units",
            metavar="rad|m",
            help="Unit of IFG: rad by default, or m toward the satellite.",
            rich_help_panel=SEEN,
        ),
    ] = None,
    aoi: Annotated[
        Path | None,
        typer.Option(
            "--aoi", metavar="FILE", help="Polygons; outside them the result is no data.", rich_help_panel=SEEN
        ),
    ] = None,
    datetime: Annotated[
        str | None,
        typer.Option(
            "--datetime",
            metavar="UTC",
            help="Time of the later acquisition when the file has none, as 2024-05-31T17:20:00Z.",
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
            envvar="TOCSIN_OVERLAP",
            help="Pixels that neighbouring windows share; half a chip by default.",
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
    """Find volcanic deformation in one interferogram.

    Writes class, probability, polygons, quicklook and STAC item into the folder of --out.
    A pixel without phase is never stable: it is no data, and what is not coherent is marked so.
    """
    set_up_logging(quiet=quiet)
    from tocsin.cli.scored import scored
    from tocsin.errors import UsageError
    from tocsin.hazards.volcano import VolcanoInputs
    from tocsin.scoring_job import ScoringOptions

    if wrapped and unwrapped:
        raise UsageError("--wrapped and --unwrapped", "one of the two", "say which of the two IFG holds")
    inputs = checked(
        VolcanoInputs,
        interferogram=interferogram,
        coherence=coherence,
        min_coherence=min_coherence,
        phase="wrapped" if wrapped else "unwrapped" if unwrapped else None,
        units=units,
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
    result = scored("volcano", inputs, options, out, service)
    emit(result, as_json=json, text=scoring_text(result))
