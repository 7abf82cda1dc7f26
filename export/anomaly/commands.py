"""`tocsin anomaly fit` and `tocsin evaluate anomaly`: what needs graphs to be written."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tocsin.cli import options as common
from tocsin.cli.output import checked, emit, set_up_logging, table
from tocsin.errors import UsageError, WrongDatesError

if TYPE_CHECKING:
    from export.anomaly.fitting import FitRequest
    from tocsin.anomaly.evaluation import AnomalyReport
    from tocsin.anomaly.manifest import AnomalyManifest

FITTED = "What is fitted"

FitUntil = Annotated[
    str | None,
    typer.Option("--fit-until", metavar="YYYY-MM-DD", help="Last day that is fitted; all by default."),
]
Method = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="padim|wmaha|nlml|wnlml",
        help="Distance: Mahalanobis, weighted, negative log likelihood, weighted; wnlml by default.",
        rich_help_panel=FITTED,
    ),
]
Layers = Annotated[
    str | None,
    typer.Option("--layers", metavar="N,...", help="Feature maps, 1 finest; 1,2,3 by default.", rich_help_panel=FITTED),
]
LayerWeights = Annotated[
    str | None,
    typer.Option(
        "--layer-weights",
        metavar="W,...",
        help="Weight per map of wmaha and wnlml; 1,2,3 by default (ours).",
        rich_help_panel=FITTED,
    ),
]
Channels = Annotated[
    int | None,
    typer.Option("--channels", metavar="N", help="Channels drawn at random; 100 by default.", rich_help_panel=FITTED),
]
Seed = Annotated[
    int | None, typer.Option("--seed", metavar="N", help="Seed of that draw; 1024 by default.", rich_help_panel=FITTED)
]
Epsilon = Annotated[
    float | None,
    typer.Option("--epsilon", metavar="E", help="Added to variances; 0.01 by default.", rich_help_panel=FITTED),
]
Scaling = Annotated[
    str | None,
    typer.Option(
        "--scaling",
        metavar="scaled|wrapped",
        help="scaled: by the range of the fit set (default); wrapped: true phase.",
        rich_help_panel=FITTED,
    ),
]
ThresholdQuantile = Annotated[
    float | None,
    typer.Option(
        "--threshold-quantile",
        metavar="Q",
        help="Of the held-out scores of fit epochs; 1 by default: above all.",
        rich_help_panel=FITTED,
    ),
]


def fit(
    series: Annotated[Path, typer.Argument(metavar="SERIES", help="Time series (.npz: inc, cml, dates, ...).")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="MODEL", help="Folder of the fitted model.")],
    fit_until: FitUntil = None,
    method: Method = None,
    layers: Layers = None,
    layer_weights: LayerWeights = None,
    channels: Channels = None,
    seed: Seed = None,
    epsilon: Epsilon = None,
    scaling: Scaling = None,
    threshold_quantile: ThresholdQuantile = None,
    model_repository: common.ModelRepository = None,
    threads: common.Threads = None,
    overwrite: common.Overwrite = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Fit the normal epochs of one volcano, and write graph and manifest."""
    set_up_logging(quiet=quiet)
    from export.anomaly.fitting import fit_series, refuse_existing
    from tocsin.repository import load_model

    refuse_existing(out, overwrite=overwrite)
    settings = {
        "method": method,
        "layers": numbers("--layers", layers),
        "layer_weights": numbers("--layer-weights", layer_weights),
        "channels": channels,
        "seed": seed,
        "epsilon": epsilon,
        "scaling": scaling,
        "threshold_quantile": threshold_quantile,
    }
    request = requested(series, fit_until, settings)
    fitted = fit_series(request, load_model("volcano", model_repository), threads)
    fitted.write(out, overwrite=overwrite)
    emit(fitted.manifest, as_json=json, text=fit_text(fitted.manifest, out))


def evaluate(
    data: Annotated[Path, typer.Option("--data", metavar="SERIES", help="Time series (.npz).")],
    fit_until: Annotated[str, typer.Option("--fit-until", metavar="YYYY-MM-DD", help="Last day that is fitted.")],
    predictions: Annotated[
        Path | None,
        typer.Option("--predictions", metavar="CSV", help="Also write id (day), label (above the threshold), score."),
    ] = None,
    event: Annotated[
        list[str] | None,
        typer.Option("--event", metavar="YYYY-MM-DD", help="Epoch whose rank and AUROC are wanted; may repeat."),
    ] = None,
    method: Method = None,
    layers: Layers = None,
    layer_weights: LayerWeights = None,
    channels: Channels = None,
    seed: Seed = None,
    epsilon: Epsilon = None,
    scaling: Scaling = None,
    threshold_quantile: ThresholdQuantile = None,
    model_repository: common.ModelRepository = None,
    threads: common.Threads = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Fit a series up to a day and score all its epochs, beside scores that need no network."""
    set_up_logging(quiet=quiet)
    from export.anomaly.evaluation import evaluate_anomaly
    from tocsin.anomaly.evaluation import write_predictions
    from tocsin.repository import load_model
    from tocsin.runtimes import RuntimeOptions

    settings = {
        "method": method,
        "layers": numbers("--layers", layers),
        "layer_weights": numbers("--layer-weights", layer_weights),
        "channels": channels,
        "seed": seed,
        "epsilon": epsilon,
        "scaling": scaling,
        "threshold_quantile": threshold_quantile,
    }
    request = requested(data, fit_until, settings)
    options = checked(RuntimeOptions, threads=threads)
    events = [day_of("--event", text) for text in event or []]
    report = evaluate_anomaly(request, load_model("volcano", model_repository), options, events)
    if predictions is not None:
        write_predictions(predictions, report)
    emit(report, as_json=json, text=report_text(report))


def requested(series: Path, until: str | None, settings: Mapping[str, object]) -> "FitRequest":
    """Return what to fit, of what the user gave."""
    from export.anomaly.fitting import FitRequest
    from tocsin.anomaly.settings import FitSettings

    day = None if until is None else day_of("--fit-until", until)
    return FitRequest(series, day, checked(FitSettings, **settings))


def day_of(option: str, text: str) -> date:
    """Return a day.

    Raises
    ------
    WrongDatesError
        It is none.
    """
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise WrongDatesError(f"{option} {text}", "a day as YYYY-MM-DD", "mend it") from error


def numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """Return numbers separated by commas, None for None.

    Raises
    ------
    UsageError
        They are none.
    """
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} {text}", "numbers separated by commas", "mend it") from error


def fit_text(manifest: "AnomalyManifest", out: Path) -> str:
    """Return what was fitted, for a human reader."""
    epochs = manifest.fit_epochs
    return (
        f"{out}: {manifest.settings.method} over {len(epochs)} epochs of {manifest.series.id}, "
        f"{epochs[0].date} to {epochs[-1].date}\n"
        f"alarm above {manifest.threshold:.2f}: {manifest.threshold_rule}\n"
        f"graph {manifest.graph.bytes} bytes, sha256 {manifest.graph.sha256}, "
        f"at most {manifest.parity.max_difference:.2g} of the largest value from the reference"
    )


def report_text(report: "AnomalyReport") -> str:
    """Return a table of the later epochs that score highest, and the figures."""
    later = sorted(
        (each for each in report.epochs if not each.fitted and each.score is not None),
        key=lambda each: -(each.score or 0),
    )
    rows = [(str(each.id), f"{each.score:.2f}", "alarm" if each.anomalous else "") for each in later[:10]]
    rate = "-" if report.false_alarm_rate is None else f"{report.false_alarm_rate:.1%}"
    lines = [
        table(("HIGHEST LATER", "SCORE", ""), rows),
        f"{report.fit_epochs} epochs fitted until {report.fit_until}, {report.later_epochs} later ones",
        f"alarm above {report.threshold:.2f}: {report.alarms} alarms, outside events {rate} of the epochs",
    ]
    for each in report.events:
        beside = ", ".join(f"{name} {value:.3f}" for name, value in each.baselines.items())
        area = "-" if each.auroc is None else f"{each.auroc:.3f}"
        lines.append(f"event {each.event}: rank {each.rank}, AUROC {area} (without a network: {beside})")
    return "\n".join([*lines, report.conventions])
