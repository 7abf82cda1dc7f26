"""A pretraining from beginning to end: unlabelled chips, one stage, an encoder's checkpoint for each modality."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from lightning import seed_everything

from tocsin import __version__
from tocsin.manifest import DataSource, Training
from training.collapse_watch import CollapseWatch
from training.cost import CostMeter
from training.datasets.unlabelled import UnlabelledPool
from training.datasets.unlabelled_sources import read_pool
from training.encoder_checkpoints import EncoderFacts, save_encoder
from training.pretraining_recipe import PretrainingRecipe
from training.stages import StageRun, run_stage
from training.tasks.pretraining import PretrainingTask, UnlabelledViews

REPORT: Final = "pretraining.json"


@dataclass(frozen=True)
class Pretrained:
    """What a pretraining leaves behind.

    Attributes
    ----------
    checkpoints
        Files of the encoders, by modality.
    report
        JSON of how it went: chips, loss and spread by step, cost.
    facts
        What each checkpoint says of itself, by modality.
    """

    checkpoints: dict[str, Path]
    report: Path
    facts: dict[str, EncoderFacts]


def pretrain(recipe: PretrainingRecipe, work: Path, data: Path | None, *, resume: bool = False) -> Pretrained:
    """Run a recipe.

    Parameters
    ----------
    recipe
        What to learn, and from what.
    work
        Folder for everything that is written.
    data
        Folder that the recipe's data sets lie below (TOCSIN_DATA).
    resume
        Go on with an interrupted run.

    Raises
    ------
    UsageError
        When there are no unlabelled chips, or a single one.
    WrongBandsError
        When the recipe names a band that nobody knows.
    ModelInvalidError
        When the run collapses, or the folder of a local encoder holds none.
    """
    seed_everything(recipe.seed, workers=True, verbose=False)
    task = PretrainingTask(recipe)
    bands = [name for each in recipe.modalities.values() for name in each]
    extra = ("height",) if task.pretext.plan.heights else ()
    pool, sources = read_pool(recipe.data, (data, work.parent / "interferograms"), bands, extra)
    watch, meter = CollapseWatch(recipe.collapse, recipe.stage.steps), CostMeter()
    stage = StageRun(recipe.stage, work / recipe.stage.name, recipe.precision, resume=resume, hardware=recipe.hardware)
    run_stage(task, UnlabelledViews(pool, recipe, task.pretext.plan), stage, observers=(watch, meter))
    return _written(recipe, task, work, _Outcome(pool, sources, watch, meter))


@dataclass(frozen=True)
class _Outcome:
    """What was learnt from, and what was seen meanwhile."""

    pool: UnlabelledPool
    sources: tuple[DataSource, ...]
    watch: CollapseWatch
    meter: CostMeter


def _written(recipe: PretrainingRecipe, task: PretrainingTask, work: Path, outcome: _Outcome) -> Pretrained:
    """Write checkpoints and report."""
    work.mkdir(parents=True, exist_ok=True)
    checkpoints, facts = {}, {}
    training = Training(data=outcome.sources, seed=recipe.seed, recipe=recipe.model_dump(mode="json"))
    course = outcome.watch.course
    for modality in recipe.modalities:
        encoder = task.pretext.taught(modality)
        described = getattr(encoder.encoder, "described", None)
        config = encoder.config.model_copy(update={"folder": None, "transformers": described} if described else {})
        facts[modality] = EncoderFacts(
            encoder=config,
            modality=modality,
            bands=encoder.bands,
            method=recipe.method.kind,
            steps=recipe.stage.steps,
            spread=course[-1][2] if course else None,
            training=training,
            tocsin=__version__,
        )
        checkpoints[modality] = work / f"encoder_{modality}.safetensors"
        save_encoder(checkpoints[modality], encoder, facts[modality])
    report: dict[str, Any] = {
        "chips": len(outcome.pool),
        "left_out": outcome.pool.left_out,
        "places": outcome.pool.places(),
        "course": [{"step": step, "loss": loss, "spread": found} for step, loss, found in course],
        "cost": asdict(outcome.meter.cost()),
    }
    path = work / REPORT
    path.write_text(json.dumps(report, indent=2) + "\n")
    return Pretrained(checkpoints, path, facts)
