"""`tocsin anomaly`: what is normal at one volcano, and whether an interferogram is.

Scoring needs a runtime only; fitting writes graphs, and is registered by the package that can.
"""

from pathlib import Path
from typing import Annotated

import typer

from tocsin.cli import options as common
from tocsin.cli.output import checked, emit, set_up_logging
from tocsin.cli.registry import add_registered
from tocsin.cli.report import scoring_text

app = typer.Typer(no_args_is_help=True)
"""The group."""


@app.callback()
def _anomaly() -> None:
    """Fit a volcano's normal epochs, and score interferograms against them."""


@app.command()
def score(
    interferogram: Annotated[
        str, typer.Argument(metavar="IFG", help="Unwrapped phase or motion (GeoTIFF), or a series (.npz) with --date.")
    ],
    model: Annotated[Path, typer.Option("--model", metavar="MODEL", help="Folder written by tocsin anomaly fit.")],
    out: common.Out,
    date: Annotated[
        str | None, typer.Option("--date", metavar="YYYY-MM-DD", help="Epoch of a series: the day that it ends.")
    ] = None,
    units: Annotated[
        str | None,
        typer.Option("--units", metavar="rad|m", help="Unit of a GeoTIFF; rad by default, m is toward the satellite."),
    ] = None,
    device: common.Device = None,
    threads: common.Threads = None,
    overwrite: common.Overwrite = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Score one interferogram against a fitted model.

    Writes a map of distances and a picture into the folder of --out.
    What was not measured is no data, never normal.
    """
    set_up_logging(quiet=quiet)
    from tocsin.anomaly.reading import AnomalyInputs
    from tocsin.anomaly.scoring import score_interferogram
    from tocsin.runtimes import RuntimeOptions

    inputs = checked(AnomalyInputs, interferogram=interferogram, date=date, units=units)
    options = checked(RuntimeOptions, device=device, threads=threads)
    result = score_interferogram(inputs, model, out, options, overwrite=overwrite)
    emit(result, as_json=json, text=scoring_text(result))


add_registered(app, "anomaly")
