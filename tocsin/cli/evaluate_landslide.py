"""`tocsin evaluate landslide`: masks on labelled events, beside the plain ratio of VH; cells on quiet pairs."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from tocsin.cli import options as common
from tocsin.cli.output import checked, emit, set_up_logging, table
from tocsin.landslide_evaluation import LandslideReport, PairReport, evaluate_landslide, write_predictions
from tocsin.landslide_events import EventOptions, find_pairs

HEAD = ("EVENT", "SERIES", "PAIR", "SLID PX", "AUROC", "VH RATIO", "AP", "VH RATIO", "CELLS", "LOW", "HIGH", "EXPECTED")


def landslide(
    data: Annotated[
        Path,
        typer.Option("--data", metavar="DIR", help="Folders with label.tif and SERIES_YYYY-MM-DD.tif, at any depth."),
    ],
    event_date: Annotated[
        datetime | None,
        typer.Option(
            "--event-date", formats=["%Y-%m-%d"], help="Day of every event; event.json beside each label by default."
        ),
    ] = None,
    units: Annotated[
        str | None, typer.Option("--units", metavar="db|linear", help="Unit of the acquisitions; db by default.")
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions",
            metavar="CSV",
            help="Also write id, label (predicted: 1 with a low or high cell) and score.",
        ),
    ] = None,
    model_repository: common.ModelRepository = None,
    runtime: common.Runtime = None,
    device: common.Device = None,
    precision: common.Precision = None,
    threads: common.Threads = None,
    threshold: common.Threshold = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Landslide masks on labelled events, beside the ratio of VH, and false alarms on quiet pairs."""
    set_up_logging(quiet=quiet)
    from tocsin.progress import progress_bar
    from tocsin.scoring import ScoringOptions

    events = checked(EventOptions, event_date=event_date and event_date.date(), units=units)
    options = checked(
        ScoringOptions,
        model_repository=model_repository,
        runtime=runtime,
        device=device,
        precision=precision,
        threads=threads,
        threshold=threshold,
        quiet=True,
    )
    with progress_bar("pairs", len(find_pairs(data, events)), quiet=quiet) as advance:
        report = evaluate_landslide(data, events, options, advance)
    if predictions is not None:
        write_predictions(predictions, report.pairs)
    emit(report, as_json=json, text=described(report))


def described(report: LandslideReport) -> str:
    """Return the report as a table, with what has to be known to read it."""
    means = f"mean AUROC {_figure(report.mean_auroc)}, of the VH ratio {_figure(report.mean_ratio_auroc)}"
    alarms = f"low {_share(report.quiet_low_share)}, high {_share(report.quiet_high_share)}"
    lines = [
        table(HEAD, [_row(pair) for pair in report.pairs]),
        f"{means}; smallest gain over it {_figure(report.worst_gain)}",
        f"quiet pairs: {report.quiet_cells} cells, {alarms}",
        f"{report.model} ({report.precision}, {report.runtime} on {report.device}), threshold {report.threshold:g}",
        report.conventions,
        f"the model learnt from {'; '.join(report.learnt_from)}: figures on its own training places prove nothing",
    ]
    return "\n".join(lines)


def _row(pair: PairReport) -> tuple[str, ...]:
    kind = "quiet" if pair.quiet else "event"
    figures = (pair.auroc, pair.ratio_auroc, pair.average_precision, pair.ratio_average_precision)
    expected = "-" if pair.expected_landslides is None else f"{pair.expected_landslides:.1f}"
    counts = (str(pair.cells), str(pair.low_cells), str(pair.high_cells), expected)
    head = (pair.event, pair.series, f"{kind} {pair.before} + {pair.after}", "-" if pair.quiet else str(pair.slid))
    return (*head, *map(_figure, figures), *counts)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"
