"""`tocsin evaluate`: accuracy on labelled scenes, beside a baseline that needs no model."""

from pathlib import Path
from typing import Annotated

import typer

from tocsin.cli import options as common
from tocsin.cli.evaluate_landslide import landslide
from tocsin.cli.evaluate_volcano import volcano
from tocsin.cli.output import checked, emit, set_up_logging, table
from tocsin.cli.registry import add_registered
from tocsin.evaluation import FloodReport, evaluate_flood, find_chips, write_predictions

app = typer.Typer(no_args_is_help=True)
"""The group: one sub-command per hazard."""


@app.callback()
def _evaluate() -> None:
    """Measure a model on labelled scenes, beside a baseline."""


app.command("landslide")(landslide)
app.command("volcano")(volcano)
add_registered(app, "evaluate")


@app.command()
def flood(
    data: Annotated[
        Path,
        typer.Option("--data", metavar="DIR", help="Folder that holds S1Hand/ and LabelHand/, as Sen1Floods11 does."),
    ],
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions",
            metavar="CSV",
            help="Also write id, label (predicted: 1 with water) and score (water share).",
        ),
    ] = None,
    model_repository: common.ModelRepository = None,
    runtime: common.Runtime = None,
    device: common.Device = None,
    precision: common.Precision = None,
    threads: common.Threads = None,
    overlap: common.Overlap = None,
    threshold: common.Threshold = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Water IoU on Sen1Floods11 chips, pooled and per chip, beside Otsu's threshold on VH."""
    set_up_logging(quiet=quiet)
    from tocsin.progress import progress_bar
    from tocsin.scoring import ScoringOptions

    options = checked(
        ScoringOptions,
        model_repository=model_repository,
        runtime=runtime,
        device=device,
        precision=precision,
        threads=threads,
        overlap=overlap,
        threshold=threshold,
        quiet=True,
    )
    with progress_bar("chips", len(find_chips(data)), quiet=quiet) as advance:
        report = evaluate_flood(data, options, lambda _: advance())
    if predictions is not None:
        write_predictions(predictions, report)
    emit(report, as_json=json, text=_text(report))


def _text(report: FloodReport) -> str:
    rows = [(chip.id, _figure(chip.iou), _figure(chip.otsu_iou), str(chip.counts.labelled)) for chip in report.chips]
    rows += [
        (f"pooled over {len(report.chips)} chips", _figure(report.pooled_iou), _figure(report.otsu_pooled_iou), ""),
        ("mean over chips with water", _figure(report.mean_chip_iou), _figure(report.otsu_mean_chip_iou), ""),
    ]
    dry = ""
    if report.dry_chips:
        share, otsu = report.dry_false_water or 0.0, report.otsu_dry_false_water or 0.0
        dry = f"{report.dry_chips} chips without water: {share:.2%} called water, Otsu {otsu:.2%}\n"
    learnt = f"the model learnt from {'; '.join(report.learnt_from)}: figures on its own training chips prove nothing"
    return f"{table(('CHIP', 'IOU', 'OTSU', 'WATER PX'), rows)}\n{dry}{report.conventions}\n{learnt}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
