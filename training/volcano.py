"""A volcano recipe from beginning to end: simulator, pseudo-labels with pictures held out, calibration, checkpoint."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from lightning import seed_everything
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from tocsin import __version__
from tocsin.errors import UsageError
from tocsin.interferograms import disjoint_groups
from tocsin.manifest import Architecture, Calibration, DataSource, Training
from training.adaptation import Labelled, adapted, pooled_features, pseudo_labels, views
from training.beginning import Beginning
from training.calibration import Fit, fit_temperature
from training.checkpoints import CheckpointFacts, save
from training.datasets.interferogram import folds
from training.datasets.real_phase import RealPictures, read_real
from training.datasets.simulated_interferograms import Draw, SimulatedInterferograms
from training.learning_curve import LearningCurve
from training.networks import parameter_count
from training.networks.volcano import PROTOTYPE_DIMENSIONS, VolcanoNetwork
from training.phase_augmentation import augment_phase
from training.preprocess import encode_phase
from training.stages import StageRun, run_stage, weights_of
from training.tasks.averaged import running_mean
from training.tasks.volcano import SimulatedPhases, VolcanoTask
from training.trained import CHECKPOINT, REPORT, Trained
from training.volcano_figures import metric_rows, table, verdicts
from training.volcano_plots import draw_activations, draw_places
from training.volcano_recipe import Adaptation, VolcanoRecipe

TRAINING_SEED: Final = 2_000_000
CALIBRATION_SEED: Final = 3_000_000
"""First seeds of the simulated scenes; tests and the demo draw from below."""

FOLDS: Final = 4
WITHOUT_PLACE: Final = "adapted_without_place"
WITHOUT_PICTURE: Final = "adapted_without_picture"
MASK_PIXELS: Final = 200_000
BATCH: Final = 32
SPLIT: Final = "no label learnt from; adapted without the pictures judged, 4 folds by volcano and acquisitions"
IN_KEY: Final = {"seed", "network", "data", "augmentation", "loss", "stage", "precision", "average_decay", "start"}
"""Parts of a recipe that decide what the simulator teaches."""


@dataclass(frozen=True)
class Run:
    """What the parts of a training share.

    Attributes
    ----------
    recipe
        The recipe.
    work
        Folder for resume files, simulated scenes and finished weights.
    real
        Pictures that are never learnt from with their labels.
    simulated, held_back
        Scenes to learn from; scenes to calibrate and to adapt beside.
    resume
        Whether an interrupted stage goes on where it was.
    """

    recipe: VolcanoRecipe
    work: Path
    real: RealPictures
    simulated: SimulatedInterferograms
    held_back: SimulatedInterferograms
    resume: bool = False


@dataclass(frozen=True)
class Judged:
    """Places of the real pictures in prototype space, [N, 3].

    Attributes
    ----------
    before
        As the simulator taught.
    without_place
        Adapted without any picture of the volcano, nor of the acquisitions; None without adaptation.
    without_picture
        Adapted without the picture and others of its pair of acquisitions; other days of the volcano may be among the
        unlabelled, as they are for an observatory that adapts to its own volcano. None without adaptation.
    """

    before: Tensor
    without_place: Tensor | None = None
    without_picture: Tensor | None = None


def train(recipe: VolcanoRecipe, work: Path, data: Path | None, *, resume: bool = False) -> Trained:
    """Run a recipe.

    The network learns from simulated scenes alone. It is adapted to unlabelled pictures once per fold, without the
    fold's pictures, for the figures; and once with all pictures, still without a label, for the weights that ship.

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
    network, judged = adapt(run, network)
    deformation, mask = calibrate(run, network)
    report = _report(run, network, judged, (deformation, mask))
    draw_places(work / "prototypes.png", run.real.pictures, judged.before, judged.without_place, network.prototypes)
    draw_activations(work / "activations.png", network, run.real.pictures)
    path = work / REPORT
    path.write_text(json.dumps(report, indent=2) + "\n")
    facts = _facts(run, network, report, (deformation, mask))
    save(work / CHECKPOINT, weights_of(network), facts)
    return Trained(work / CHECKPOINT, path, facts)


def prepare(recipe: VolcanoRecipe, work: Path, data: Path | None, *, resume: bool = False) -> Run:
    """Read and draw the interferograms of a recipe."""
    if data is None:
        raise UsageError(
            "no folder of real interferograms",
            "pictures to judge the network by, and to adapt it to",
            "set TOCSIN_DATA or pass --data",
        )
    chosen = recipe.data
    relief = None if chosen.srtm3 is None else data / chosen.srtm3
    shared = work.parent / "interferograms"
    return Run(
        recipe,
        work,
        read_real(data / chosen.deepcube, None if chosen.series is None else data / chosen.series),
        SimulatedInterferograms(Draw(chosen.simulated_chips, TRAINING_SEED, relief, chosen.relief_share), shared),
        SimulatedInterferograms(Draw(chosen.calibration_chips, CALIBRATION_SEED, relief, chosen.relief_share), shared),
        resume=resume,
    )


def learn(run: Run) -> VolcanoNetwork:
    """Return the network that simulated scenes teach; a finished one in the work folder is taken as it is."""
    recipe = run.recipe
    key = hashlib.sha256(recipe.model_dump_json(include=IN_KEY).encode()).hexdigest()[:12]
    kept = run.work / f"{recipe.stage.name}-{key}.safetensors"
    seed_everything(recipe.seed, workers=True, verbose=False)
    task = VolcanoTask(recipe)
    if not kept.is_file():
        stage = StageRun(recipe.stage, run.work / f"{recipe.stage.name}-{key}", recipe.precision, resume=run.resume)
        curve = LearningCurve(run.work, run.real, run.held_back)
        beginning = Beginning(recipe.start, ("phase",), run.work.parent)
        observers = beginning.prepare(task.network)
        task.average = running_mean(task.network, recipe.average_decay)
        run_stage(task, SimulatedPhases(run.simulated, recipe), stage, observers=(curve, *observers))
        beginning.finish(task.average.module, stage.folder)
        weights = weights_of(task.average.module)
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, kept)
    network = VolcanoNetwork(recipe.network)
    network.load_state_dict(load_file(kept))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval()


def adapt(run: Run, network: VolcanoNetwork) -> tuple[VolcanoNetwork, Judged]:
    """Adapt to the unlabelled pictures, and place every picture by a network that never saw it."""
    pictures, settings = run.real.pictures, run.recipe.adaptation
    count = 1 if settings is None else settings.views
    seen = [pooled_features(network, views(each.phase, count)) for each in pictures]
    features_NVC = torch.stack(seen)
    before = _places(network, features_NVC[:, 0])
    if settings is None or network.config.head != "prototypes":
        return network, Judged(before)
    more = [pooled_features(network, views(phase, count)) for phase in run.real.unlabelled]
    adaptable = _Adaptable(
        network,
        features_NVC,
        torch.stack(more) if more else features_NVC[:0],
        _simulated_features(run, network),
        settings,
        run.recipe.seed,
    )
    pairs = [picture.taken.model_copy(update={"region": "", "volcano": ""}) for picture in pictures]
    places, moments = (_held_out(adaptable, run.real, groups) for groups in (run.real.groups, disjoint_groups(pairs)))
    return adaptable.adapt(torch.arange(len(pictures))), Judged(before, places, moments)


def _held_out(adaptable: "_Adaptable", real: RealPictures, groups: Sequence[int]) -> Tensor:
    """Return the place of every picture by a network that was adapted without its group, [N, 3]."""
    # Labels only spread the folds evenly; nothing learns from them.
    fold = np.asarray(folds(groups, [picture.label for picture in real.pictures], FOLDS))
    found = torch.empty(len(fold), PROTOTYPE_DIMENSIONS)
    for number in range(FOLDS):
        held_out = torch.from_numpy(fold == number)
        if bool(held_out.any()):
            without = adaptable.adapt(torch.nonzero(~held_out)[:, 0])
            found[held_out] = _places(without, adaptable.features[held_out, 0])
    return found


@dataclass(frozen=True)
class _Adaptable:
    """A network, features [N, V, C] of pictures, of unlabelled phase and of simulated chips, and how to adapt."""

    network: VolcanoNetwork
    features: Tensor
    unlabelled: Tensor
    simulated: Labelled
    settings: Adaptation
    seed: int

    def adapt(self, rows: Tensor) -> VolcanoNetwork:
        """Adapt to some of the pictures and to all unlabelled phase."""
        chosen = torch.cat([self.features[rows], self.unlabelled])
        labels = pseudo_labels(self.network, chosen).repeat_interleave(chosen.shape[1])
        return adapted(self.network, Labelled(chosen.flatten(0, 1), labels), self.simulated, self.settings, self.seed)


def _places(network: VolcanoNetwork, features: Tensor) -> Tensor:
    with torch.inference_mode():
        places: Tensor = network.projection(features).clone()
    return places


def _held_back(run: Run, half: int) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int64]]:
    """Return phase, masks and sources of one half of the scenes held back, as training would have changed them."""
    random = np.random.default_rng((run.recipe.seed, 2, half))
    chips = [run.held_back[index] for index in range(half, len(run.held_back), 2)]
    drawn = [augment_phase(chip.phase, chip.mask, run.recipe.augmentation, random) for chip in chips]
    sources = np.array([chip.source for chip in chips], np.int64)
    return np.stack([phase for phase, _ in drawn]), np.stack([mask for _, mask in drawn]), sources


def _simulated_features(run: Run, network: VolcanoNetwork) -> Labelled:
    """Return pooled features of the first half of the scenes held back, with their known labels."""
    phase, _, sources = _held_back(run, 0)
    return Labelled(pooled_features(network, phase), torch.from_numpy((sources >= 0).astype(np.int64)))


def calibrate(run: Run, network: VolcanoNetwork) -> tuple[Fit, Fit]:
    """Fit the temperatures of the decision and of the mask on simulated scenes that taught nothing to either."""
    phase, mask, sources = _held_back(run, 1)
    odds, pixels, truth = [], [], []
    chosen = np.random.default_rng((run.recipe.seed, 3))
    per_chip = max(1, MASK_PIXELS // len(phase))
    with torch.inference_mode():
        for start in range(0, len(phase), BATCH):
            batch = phase[start : start + BATCH]
            said = network(encode_phase(torch.from_numpy(batch)[:, None]))
            odds.append(said.deformation)
            where = chosen.integers(mask[0].size, size=(len(batch), per_chip))
            rows = np.arange(len(batch))[:, None]
            known = np.isfinite(batch.reshape(len(batch), -1)[rows, where])
            pixels.append(said.mask.flatten(1)[rows, where][known])
            truth.append(torch.from_numpy(mask[start : start + BATCH].reshape(len(batch), -1)[rows, where][known]))
    deforms = torch.from_numpy((sources >= 0).astype(np.float32))
    all_pixels, all_truth = torch.cat(pixels).float(), torch.cat(truth).float()
    decision = fit_temperature(torch.cat(odds).float(), deforms, torch.ones_like(deforms))
    return decision, fit_temperature(all_pixels, all_truth, torch.ones_like(all_truth))


def _report(run: Run, network: VolcanoNetwork, judged: Judged, fits: tuple[Fit, Fit]) -> dict[str, Any]:
    """Return all figures as JSON."""
    report: dict[str, Any] = {
        "encoder": run.recipe.network.encoder.model_dump(mode="json"),
        "calibration": {"deformation": vars(fits[0]), "mask": vars(fits[1])},
    }
    named = (
        (run.recipe.network.head, judged.before),
        (WITHOUT_PLACE, judged.without_place),
        (WITHOUT_PICTURE, judged.without_picture),
    )
    for name, places in named:
        if places is not None:
            with torch.inference_mode():
                odds = network.decide(places)
            report[name] = table(verdicts(run.real.pictures, odds, fits[0].temperature, run.recipe.threshold))
    return report


def _facts(run: Run, network: VolcanoNetwork, report: dict[str, Any], fits: tuple[Fit, Fit]) -> CheckpointFacts:
    """Gather what the checkpoint says of itself."""
    recipe, config = run.recipe, network.config
    kind = "-".join([config.encoder.family, *map(str, config.encoder.widths)])
    ending = {"softmax": "softmax", "prototypes": "PL-Pseudo" if config.projection else "PL"}[config.head]
    shown = report.get(WITHOUT_PLACE, report[config.head])
    source = f"{len(run.held_back) // 2} simulated scenes that were not learnt from"
    temperature, mask_temperature = (
        Calibration(kind="temperature", temperature=fit.temperature, data=source) for fit in fits
    )
    return CheckpointFacts(
        hazard=recipe.hazard,
        name=recipe.name,
        version=recipe.version,
        architecture=Architecture(
            name=f"{kind}-{ending}", parameters=parameter_count(network), config=config.model_dump(mode="json")
        ),
        calibration=temperature,
        output_calibrations={"mask": mask_temperature},
        threshold=recipe.threshold,
        training=Training(data=_sources(run), seed=recipe.seed, recipe=recipe.model_dump(mode="json")),
        metrics=metric_rows(shown, SPLIT if recipe.adaptation else "no picture learnt from"),
        tocsin=__version__,
    )


def _sources(run: Run) -> tuple[DataSource, ...]:
    """List the data sets learnt from."""
    chosen = run.recipe.data
    simulated = DataSource(
        name=f"tocsin.simulate.interferogram, seeds from {TRAINING_SEED}",
        chips=len(run.simulated),
        licence="Apache-2.0",
        attribution="Simulated by tocsin; relief partly from SRTM3 (NASA, public domain).",
    )
    if run.recipe.adaptation is None:
        return (simulated,)
    none = "no explicit licence from the repackager; Sentinel-1 data: Copernicus open data"
    licsar = "LiCSAR contains modified Copernicus Sentinel data analysed by COMET (Lazecky et al. 2020)."
    pictures = DataSource(
        name="DeepCube S1 and C1, pictures without their labels",
        chips=len(run.real.pictures),
        licence=none,
        attribution="DeepCube: Bountos et al. 2021, IEEE GRSL, drawn from LiCSAR interferograms of COMET.",
    )
    if chosen.series is None or not len(run.real.unlabelled):
        return simulated, pictures
    series = DataSource(
        name="LiCSAR series, increments without labels",
        chips=len(run.real.unlabelled),
        licence=none,
        attribution=licsar,
    )
    return simulated, pictures, series
