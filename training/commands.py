"""`tocsin train`: a recipe in, a checkpoint out; and `tocsin evaluate` on data sets whose readers are of training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tocsin.cli import options as common
from tocsin.cli.output import checked, emit, set_up_logging, table

if TYPE_CHECKING:
    from training.patch_evaluation import PatchFigures, PatchReport
    from training.pretraining_recipe import PretrainingRecipe


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Recipe that ships, by name, or a YAML file.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of checkpoint, report and resume files.")
    ] = Path("checkpoints"),
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", envvar="TOCSIN_DATA", help="Folder of the data sets.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted training was.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", envvar="TOCSIN_JSON", help="Print one JSON object on stdout and nothing else.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", envvar="TOCSIN_QUIET", help="Only errors on stderr.")] = False,
) -> None:
    """Train a model, real data held out in turn for the figures; or an encoder, from data without labels."""
    set_up_logging(quiet=quiet)
    from training import flood, landslide, volcano
    from training.landslide_recipe import LandslideRecipe
    from training.pretraining_recipe import PretrainingRecipe
    from training.recipe import Recipe, read_recipe

    read = read_recipe(recipe)
    if isinstance(read, PretrainingRecipe):
        _pretrain(read, out / read.name, data, resume=resume, as_json=as_json)
        return
    if isinstance(read, Recipe):
        trained = flood.train(read, out / read.name, data, resume=resume)
    elif isinstance(read, LandslideRecipe):
        trained = landslide.train(read, out / read.name, data, resume=resume)
    else:
        trained = volcano.train(read, out / read.name, data, resume=resume)
    rows = [
        (row.metric, row.split, f"{row.value:.3f}", f"{row.baseline_name} {row.baseline_value:.3f}")
        for row in trained.facts.metrics
    ]
    text = table(("metric", "split", "model", "baseline"), rows)
    payload = {
        "checkpoint": str(trained.checkpoint),
        "report": str(trained.report),
        "metrics": [row.model_dump(mode="json") for row in trained.facts.metrics],
    }
    emit(payload, as_json=as_json, text=f"{text}\ncheckpoint {trained.checkpoint}\nheld-out chips {trained.report}")


def _pretrain(recipe: "PretrainingRecipe", work: Path, data: Path | None, *, resume: bool, as_json: bool) -> None:
    """Run a pretraining and say what it left behind."""
    from training.pretrain import pretrain

    done = pretrain(recipe, work, data, resume=resume)
    rows = [
        (name, ", ".join(facts.bands), str(facts.steps), "-" if facts.spread is None else f"{facts.spread:.3f}")
        for name, facts in done.facts.items()
    ]
    payload = {
        "encoders": {name: str(path) for name, path in done.checkpoints.items()},
        "report": str(done.report),
        "spread": {name: facts.spread for name, facts in done.facts.items()},
    }
    files = "\n".join(f"encoder {path}" for path in done.checkpoints.values())
    text = f"{table(('modality', 'bands', 'steps', 'spread'), rows)}\n{files}\nreport {done.report}"
    emit(payload, as_json=as_json, text=text)


def sen12landslides(
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="Folder of unpacked patches (.nc) of Sen12Landslides.")
    ],
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions", metavar="CSV", help="Also write id, label (predicted) and score (P(low or high))."
        ),
    ] = None,
    model_repository: common.ModelRepository = None,
    runtime: common.Runtime = None,
    device: common.Device = None,
    precision: common.Precision = None,
    threads: common.Threads = None,
    threshold: common.Threshold = None,
    as_json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Landslide masks on the published patches of Sen12Landslides, beside the ratio of VH."""
    set_up_logging(quiet=quiet)
    from tocsin.progress import progress_bar
    from training.datasets.sen12landslides import Sen12Landslides
    from training.patch_evaluation import PatchOptions, evaluate_patches, write_predictions

    options = checked(
        PatchOptions,
        model_repository=model_repository,
        runtime=runtime,
        device=device,
        precision=precision,
        threads=threads,
        threshold=threshold,
    )
    with progress_bar("patches", len(Sen12Landslides(data).names()), quiet=quiet) as advance:
        report = evaluate_patches(data, options, advance)
    if predictions is not None:
        write_predictions(predictions, report.patches)
    emit(report, as_json=as_json, text=_described(report))


def _described(report: "PatchReport") -> str:
    head = ("REGION", "PATCHES", "WITH", "AUROC PATCHES", "AUROC PIXELS", "VH RATIO", "BELOW")
    return "\n".join(
        (
            table(head, [_row(each) for each in (report.figures, *report.regions)]),
            f"{report.days_unknown} patches without known days were not judged",
            f"{report.model} ({report.precision}, {report.runtime} on {report.device}), threshold {report.threshold:g}",
            report.conventions,
        )
    )


def _row(each: "PatchFigures") -> tuple[str, ...]:
    areas = (each.patch_auroc, each.auroc, each.ratio_auroc)
    figures = ("-" if area is None else f"{area:.3f}" for area in areas)
    return each.name, str(each.patches), str(each.with_landslides), *figures, str(each.below)
