"""Running the stages of a flood recipe: finished ones are kept, folds share them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning import seed_everything
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from tocsin.hazards.flood import BANDS
from training.beginning import Beginning
from training.datasets import LabelledChip, SimulatedFloods
from training.datasets.mixed import MixedFloods, Pools
from training.recipe import Recipe
from training.recipe_parts import Stage
from training.stages import StageRun, Watch, Weights, run_stage, weights_of
from training.tasks.flood import FloodTask

SIMULATED_SEED = 1_000_000
"""First seed of the training scenes; tests and the demo draw from below."""

NOT_IN_KEY = {"stages", "version", "threshold", "name", "kept_share"}
"""Parts of a recipe that change nothing in how a stage runs."""


@dataclass(frozen=True)
class Run:
    """What all stages of a training share.

    Attributes
    ----------
    recipe
        The recipe.
    work
        Folder for resume files, finished stages and logs.
    real
        Labelled real chips to train on.
    sites
        Weakly labelled real chips to train on.
    simulated
        Simulated chips to train on.
    watched
        Chips of the event that early stopping looks at; empty: every stage runs its steps.
    resume
        Whether an interrupted stage goes on where it was.
    """

    recipe: Recipe
    work: Path
    real: tuple[LabelledChip, ...]
    sites: tuple[LabelledChip, ...]
    simulated: SimulatedFloods
    watched: tuple[LabelledChip, ...] = ()
    resume: bool = False


def fit(run: Run, stages: Sequence[Stage]) -> Weights:
    """Run stages one after the other and return the network's weights.

    A finished stage is kept in the work folder under a key of everything that decides it, so that folds which share a
    first stage train it once.

    Parameters
    ----------
    run
        Recipe, chips and folder.
    stages
        The stages to run, the first from random weights.
    """
    weights: Weights | None = None
    done = ""
    for stage in stages:
        chips = run.real if stage.real_share > 0 else ()
        done = _key(run, stage, [chip.name for chip in chips], done)
        kept = run.work / f"{stage.name}-{done}.safetensors"
        before = weights
        if kept.is_file():
            weights = load_file(kept)
        else:
            weights = _fit_stage(run, stage, before, done)
            run.work.mkdir(parents=True, exist_ok=True)
            save_file({name: tensor.contiguous() for name, tensor in weights.items()}, kept)
        if before is not None and stage.real_share > 0:
            weights = mixed(before, weights, run.recipe.kept_share)
    assert weights is not None
    return weights


def mixed(before: Weights, after: Weights, kept_share: float) -> Weights:
    """Return the mean of two states of one network, running statistics included (Wortsman et al. 2022, equation 1).

    Parameters
    ----------
    before, after
        Weights by name; counters, which are integers, are those of ``after``.
    kept_share
        Weight of ``before``, 0 to 1.
    """
    return {
        name: torch.lerp(tensor, before[name], kept_share) if tensor.is_floating_point() else tensor
        for name, tensor in after.items()
    }


def _fit_stage(run: Run, stage: Stage, weights: Weights | None, key: str) -> Weights:
    """Run one stage."""
    seed_everything(run.recipe.seed, workers=True, verbose=False)
    task = FloodTask(run.recipe, stage)
    if weights is not None:
        task.network.load_state_dict(weights)
    beginning = Beginning(run.recipe.start, BANDS, run.work.parent)
    observers = beginning.prepare(task.network, load=weights is None)
    stream = MixedFloods(Pools(run.real, run.sites, run.simulated), stage, run.recipe)
    watch = run.recipe.early_stopping if stage.real_share > 0 and run.watched else None
    folder = run.work / f"{stage.name}-{key}"
    run_stage(
        task,
        stream,
        StageRun(stage, folder, run.recipe.precision, resume=run.resume),
        None if watch is None else Watch("watched_iou", watch.every, watch.patience, _watched(run)),
        observers,
    )
    beginning.finish(task.network, folder)
    return weights_of(task.network)


def _watched(run: Run) -> DataLoader[tuple[Tensor, ...]]:
    """Return the loader of watched chips, one a batch."""
    s1_db = torch.stack([torch.from_numpy(chip.s1_db) for chip in run.watched])
    label = torch.stack([torch.from_numpy(chip.label) for chip in run.watched])
    return DataLoader(TensorDataset(s1_db, label), batch_size=1)


def _key(run: Run, stage: Stage, chips: list[str], before: str) -> str:
    """Return a short hash of what decides a stage's weights."""
    parts = [run.recipe.model_dump_json(exclude=NOT_IN_KEY), stage.model_dump_json()]
    if chips:
        parts += [",".join(chips), ",".join(chip.name for chip in run.watched)]
    text = "\n".join([*parts, before])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def predict(recipe: Recipe, weights: Weights, chips: Sequence[LabelledChip]) -> list[Tensor]:
    """Return the logits of whole chips, each [H, W] float32, in float32 arithmetic."""
    task = FloodTask(recipe, recipe.stages[-1])
    task.network.load_state_dict(weights)
    task.eval()
    with torch.inference_mode():
        return [task(torch.from_numpy(chip.s1_db)[None])[0] for chip in chips]
