"""A landslide recipe from beginning to end: pairs, two stages, calibration, figures on what is held out, checkpoint."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from lightning import seed_everything
from safetensors.torch import load_file, save_file
from torch import Tensor

from tocsin import __version__
from tocsin.errors import UsageError
from tocsin.hazards.landslide import BANDS
from tocsin.manifest import Architecture, Calibration, DataSource, Training
from training.beginning import Beginning
from training.calibration import Fit, fit_class_temperature, fit_temperature
from training.checkpoints import CheckpointFacts, save
from training.datasets.landslide_pairs import Draw, LandslidePairs
from training.landslide_augmentation import augment_pair
from training.landslide_figures import Judge, figures, metric_rows
from training.landslide_recipe import LandslideRecipe
from training.networks import parameter_count
from training.networks.landslide import LandslideNetwork, judged, measure
from training.stages import StageRun, Weights, run_stage, weights_of
from training.tasks.averaged import running_mean
from training.tasks.landslide import AugmentedPairs, LandslideTask, StageName, classes
from training.trained import CHECKPOINT, REPORT, Trained

TRAINING_SEED: Final = 4_000_000
CALIBRATION_SEED: Final = 5_000_000
TEST_SEED: Final = 6_000_000
"""First seeds of the chips; tests and the demo draw from below."""

BATCH: Final = 16
PIXELS_PER_CHIP: Final = 200
PARTS: Final = {
    "presence": {"seed", "network", "data", "augmentation", "presence", "average_decay", "precision", "start"},
    "segmentation": {
        "seed", "network", "data", "augmentation", "presence", "segmentation", "loss", "average_decay", "precision",
        "start",
    },
}  # fmt: skip
"""Parts of a recipe that decide what a stage teaches."""


@dataclass(frozen=True)
class Run:
    """What the parts of a training share.

    Attributes
    ----------
    recipe
        The recipe.
    work
        Folder for resume files and finished weights; pairs lie beside it.
    data
        Folder that the recipe's data sets lie below; None: everything is simulated.
    pairs, held_back
        Chips to learn from; chips of the same places to calibrate on.
    resume
        Whether an interrupted stage goes on where it was.
    """

    recipe: LandslideRecipe
    work: Path
    data: Path | None
    pairs: LandslidePairs
    held_back: LandslidePairs
    resume: bool = False


def train(recipe: LandslideRecipe, work: Path, data: Path | None, *, resume: bool = False) -> Trained:
    """Run a recipe.

    Parameters
    ----------
    recipe
        What to train.
    work
        Folder for everything that is written; finished parts in it are taken as they are.
    data
        Folder that the recipe's data sets lie below (TOCSIN_DATA).
    resume
        Go on with an interrupted stage.

    Raises
    ------
    UsageError
        When the recipe names data that are not there.
    """
    run = prepare(recipe, work, data, resume=resume)
    network = learn(run)
    fits = calibrate(run, network)
    test = LandslidePairs(test_draw(run), work.parent / "landslide_pairs")
    report = {
        "calibration": {"density_class": vars(fits[0]), "mask": vars(fits[1])},
        **figures(
            Judge(network, fits[0].temperature, recipe.threshold), recipe.data, data, (run.held_back.all(), test.all())
        ),
    }
    work.mkdir(parents=True, exist_ok=True)
    path = work / REPORT
    path.write_text(json.dumps(report, indent=2) + "\n")
    facts = _facts(run, network, report, fits)
    save(work / CHECKPOINT, weights_of(network), facts)
    return Trained(work / CHECKPOINT, path, facts)


def prepare(recipe: LandslideRecipe, work: Path, data: Path | None, *, resume: bool = False) -> Run:
    """Draw the pairs of a recipe."""
    chosen = recipe.data
    if data is None and (chosen.srtm3, chosen.opera_rtc, chosen.forest) != (None, None, None):
        raise UsageError(
            "no folder of relief and bursts",
            "the folder below which srtm3 and opera_rtc lie",
            "set TOCSIN_DATA or pass --data",
        )
    shared = work.parent / "landslide_pairs"
    learnt, calibration = (
        LandslidePairs(_draw(recipe, data, count, seed), shared)
        for count, seed in ((chosen.training_chips, TRAINING_SEED), (chosen.calibration_chips, CALIBRATION_SEED))
    )
    return Run(recipe, work, data, learnt, calibration, resume=resume)


def _draw(recipe: LandslideRecipe, data: Path | None, count: int, seed: int) -> Draw:
    """Return what decides chips of the places to learn from."""
    chosen = recipe.data
    bursts = None if chosen.opera_rtc is None or data is None else data / chosen.opera_rtc
    return Draw(
        count,
        seed,
        None if chosen.srtm3 is None or data is None else data / chosen.srtm3,
        chosen.tiles,
        chosen.relief_share,
        bursts,
        chosen.bursts,
        chosen.injected_share,
    )


def test_draw(run: Run) -> Draw:
    """Return what decides the simulated chips that the figures are of: no tile and no seed of them was learnt from."""
    chosen = run.recipe.data
    relief = None if chosen.srtm3 is None or run.data is None else run.data / chosen.srtm3
    return Draw(chosen.test_chips, TEST_SEED, relief, chosen.tiles_held_out, chosen.relief_share)


def learn(run: Run) -> LandslideNetwork:
    """Return the network that both stages teach; finished ones in the work folder are taken as they are."""
    first = _stage(run, "presence", None)
    weights = _stage(run, "segmentation", first)
    network = LandslideNetwork(run.recipe.network)
    network.load_state_dict(weights)
    return network.eval()


def _stage(run: Run, name: StageName, before: Weights | None) -> Weights:
    """Return the weights after a stage that begins with those before it."""
    recipe = run.recipe
    stage = recipe.presence if name == "presence" else recipe.segmentation
    key = hashlib.sha256(recipe.model_dump_json(include=PARTS[name]).encode()).hexdigest()[:12]
    kept = run.work / f"{name}-{key}.safetensors"
    if kept.is_file():
        return load_file(kept)
    seed_everything(recipe.seed, workers=True, verbose=False)
    task = LandslideTask(recipe, name)
    if before is not None:
        task.network.load_state_dict(before)
    beginning = Beginning(recipe.start, BANDS, run.work.parent)
    observers = beginning.prepare(task.network.embedding, load=before is None)
    task.average = running_mean(task.network, recipe.average_decay)
    stream = AugmentedPairs(run.pairs, recipe, stage)
    folder = run.work / f"{name}-{key}"
    run_stage(task, stream, StageRun(stage, folder, recipe.precision, resume=run.resume), observers=observers)
    averaged: Any = task.average.module
    beginning.finish(averaged.embedding, folder)
    weights = {part: tensor.contiguous() for part, tensor in weights_of(task.average.module).items()}
    run.work.mkdir(parents=True, exist_ok=True)
    save_file(weights, kept)
    return weights


def calibrate(run: Run, network: LandslideNetwork) -> tuple[Fit, Fit]:
    """Fit the temperatures of the class and of the mask on chips that taught nothing."""
    random = np.random.default_rng((run.recipe.seed, 3))
    found: list[tuple[Tensor, ...]] = []
    with torch.inference_mode():
        for start in range(0, len(run.held_back), BATCH):
            chips = [run.held_back[index] for index in range(start, min(start + BATCH, len(run.held_back)))]
            drawn = [augment_pair(chip, run.recipe.augmentation, random) for chip in chips]
            pre, post, dem, mask = (torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True))
            said = network(pre, post, dem[:, None])
            where = judged(measure(pre, post, network.config)).flatten(1)
            at = torch.from_numpy(random.integers(where.shape[1], size=(len(chips), PIXELS_PER_CHIP)))
            known = torch.gather(where, 1, at) > 0
            pixels, truth = (torch.gather(each.flatten(1), 1, at)[known] for each in (said.mask, mask.float()))
            some = where.mean(dim=1) > 0
            label = classes(torch.tensor([float(chip.heads) for chip in chips]))
            found.append((said.density_class[some], label[some], pixels, truth))
    logits, labels, pixels, truth = (torch.cat(part) for part in zip(*found, strict=True))
    return fit_class_temperature(logits, labels), fit_temperature(pixels, truth, torch.ones_like(truth))


def _facts(run: Run, network: LandslideNetwork, report: dict[str, Any], fits: tuple[Fit, Fit]) -> CheckpointFacts:
    """Gather what the checkpoint says of itself."""
    recipe, config = run.recipe, network.config
    source = f"{len(run.held_back)} simulated and injected chips that were not learnt from"
    temperature, mask_temperature = (
        Calibration(kind="temperature", temperature=fit.temperature, data=source) for fit in fits
    )
    return CheckpointFacts(
        hazard=recipe.hazard,
        name=recipe.name,
        version=recipe.version,
        architecture=Architecture(
            name="-".join(["landslide-unet", *map(str, config.widths)]),
            parameters=parameter_count(network),
            config=config.model_dump(mode="json"),
        ),
        calibration=temperature,
        output_calibrations={"mask": mask_temperature},
        threshold=recipe.threshold,
        training=Training(data=_sources(run), seed=recipe.seed, recipe=recipe.model_dump(mode="json")),
        metrics=metric_rows(report),
        tocsin=__version__,
    )


def _sources(run: Run) -> tuple[DataSource, ...]:
    """List the data sets learnt from."""
    real = int(run.pairs.is_injected.sum())
    simulated = DataSource(
        name=f"tocsin.simulate.landslide_pair, seeds from {TRAINING_SEED}",
        chips=len(run.pairs) - real,
        licence="Apache-2.0",
        attribution="Simulated by tocsin; relief partly from SRTM3 (NASA, public domain).",
    )
    if not real:
        return (simulated,)
    bursts = DataSource(
        name=f"OPERA RTC-S1 bursts {', '.join(run.recipe.data.bursts)}, simulated scars laid in",
        chips=real,
        licence="Apache-2.0",
        attribution="OPERA RTC-S1 (NASA/JPL); contains modified Copernicus Sentinel data.",
    )
    return simulated, bursts
