"""`tocsin train`: a recipe in, a checkpoint out."""

from pathlib import Path
from typing import Annotated

import typer

from tocsin.cli.output import emit, set_up_logging, table


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
    """Train a model: real data held out in turn for the figures, then all of them for the weights."""
    set_up_logging(quiet=quiet)
    from training import flood, landslide, volcano
    from training.landslide_recipe import LandslideRecipe
    from training.recipe import Recipe, read_recipe

    read = read_recipe(recipe)
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
