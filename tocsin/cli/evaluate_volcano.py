"""`tocsin evaluate volcano`: pictures of interferograms told apart, beside shortcuts that need no model."""

from pathlib import Path
from typing import Annotated

import typer

from tocsin.cli import options as common
from tocsin.cli.output import checked, emit, set_up_logging, table
from tocsin.detection_figures import Shortcut
from tocsin.interferograms import find_pictures
from tocsin.volcano_evaluation import (
    DetectionFigures,
    EvaluationOptions,
    VolcanoReport,
    evaluate_volcano,
    write_predictions,
)

HEAD = ("PICTURES", "N", "TP", "FP", "FN", "TN", "ACC", "BALANCED", "AUROC", "ECE", "UNSEEN", "INCOHERENT", "ROUGH")


def volcano(
    data: Annotated[
        Path,
        typer.Option("--data", metavar="DIR", help="Folder with pictures in folders named 0 and 1, at any depth."),
    ],
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions", metavar="CSV", help="Also write id, label (predicted) and score (P(deformation))."
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
    """Deformation in pictures of interferograms, beside what incoherence alone would tell."""
    set_up_logging(quiet=quiet)
    from tocsin.progress import progress_bar

    options = checked(
        EvaluationOptions,
        model_repository=model_repository,
        runtime=runtime,
        device=device,
        precision=precision,
        threads=threads,
        threshold=threshold,
    )
    with progress_bar("pictures", len(find_pictures(data)), quiet=quiet) as advance:
        report = evaluate_volcano(data, options, advance)
    if predictions is not None:
        write_predictions(predictions, report.pictures)
    emit(report, as_json=json, text=described(report))


def described(report: VolcanoReport) -> str:
    """Return the report as a table, with what has to be known to read it."""
    parts = (report.figures, *report.subsets, *report.renderings, *report.volcanoes)
    lines = [
        table(HEAD, [_row(each) for each in parts]),
        "INCOHERENT, ROUGH: that number alone, without a model: its sign, AUROC and best balanced accuracy",
        f"{report.groups} groups of pictures share neither volcano nor acquisitions",
        f"{report.model} ({report.precision}, {report.runtime} on {report.device}), threshold {report.threshold:g}",
        report.conventions,
        f"the model learnt from {'; '.join(report.learnt_from)}: figures on its own training pictures prove nothing",
    ]
    return "\n".join(lines)


def _row(part: DetectionFigures) -> tuple[str, ...]:
    counts = part.counts
    plain = [_plain(each) for each in part.shortcuts] or ["-", "-"]
    measured = (part.accuracy, part.balanced_accuracy, part.auroc, part.calibration_error)
    whole = (part.pictures, counts.tp, counts.fp, counts.fn, counts.tn)
    return (part.name, *map(str, whole), *map(_figure, measured), str(part.not_observable), *plain)


def _plain(each: Shortcut) -> str:
    return f"{'+' if each.more_is_positive else '-'} {_figure(each.auroc)} {_figure(each.balanced_accuracy)}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
