"""A flood recipe from beginning to end: first stages, events held out, calibration, final weights, checkpoint."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from tocsin import __version__
from tocsin.errors import UsageError
from tocsin.evaluation import add_counts
from tocsin.manifest import Architecture, Calibration, DataSource, MetricRow, Training
from training.checkpoints import CheckpointFacts, save
from training.datasets import Sen1Floods11, SimulatedFloods, TerraMeshSites
from training.fit import SIMULATED_SEED, Run, fit
from training.held_out import HeldOutChip, calibrate, leave_one_event_out, pooled
from training.networks import build, parameter_count
from training.recipe import Recipe
from training.trained import CHECKPOINT, REPORT, Trained

SEN1FLOODS11: Final = "Sen1Floods11 hand-labelled"
ATTRIBUTION: Final = {
    SEN1FLOODS11: "Sen1Floods11: Bonafilia et al. 2020, CVPR workshops.",
    "TerraMesh": "TerraMesh: Blumenstiel et al. 2025, CC-BY-4.0; land cover: Karra et al. 2021, CC-BY-4.0.",
}


def train(recipe: Recipe, work: Path, data: Path | None, *, resume: bool = False) -> Trained:
    """Run a recipe.

    Every event is held out in turn for the figures and for the temperature; the network that ships then learns from all
    of them, by the same stages.

    Parameters
    ----------
    recipe
        What to train.
    work
        Folder for everything that is written; finished stages in it are taken as they are.
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
    judged = leave_one_event_out(run)
    temperature = calibrate(judged)
    weights = fit(run, recipe.stages)
    report = work / REPORT
    report.write_text(json.dumps(_report(judged, asdict(temperature)), indent=2) + "\n")
    facts = _facts(recipe, run, judged, temperature.temperature)
    save(work / CHECKPOINT, weights, facts)
    return Trained(work / CHECKPOINT, report, facts)


def prepare(recipe: Recipe, work: Path, data: Path | None, *, resume: bool = False) -> Run:
    """Read and draw the chips that a recipe learns from."""
    if data is None or recipe.data.sen1floods11 is None:
        raise UsageError(
            given="no folder of labelled floods",
            expected="real events to hold out for the figures and the temperature",
            todo="set TOCSIN_DATA or pass --data, and name data.sen1floods11 in the recipe",
        )
    simulated = SimulatedFloods(
        recipe.data.simulated_chips, recipe.data.chip_px, SIMULATED_SEED, cache=work / "simulated.npz"
    )
    sites = tuple(TerraMeshSites(data / recipe.data.terramesh).chips()) if recipe.data.terramesh else ()
    return Run(
        recipe, work, tuple(Sen1Floods11(data / recipe.data.sen1floods11).chips()), sites, simulated, resume=resume
    )


def _facts(recipe: Recipe, run: Run, judged: Sequence[HeldOutChip], temperature: float) -> CheckpointFacts:
    """Gather what the checkpoint says of itself."""
    network = recipe.network
    kind, widths = network.family if network.family != "unet" else f"{network.stage} U-Net", network.widths
    if network.encoder is not None:
        kind, widths = network.encoder.family, network.encoder.widths
    events = sorted({chip.event for chip in run.real})
    config: dict[str, Any] = network.model_dump(mode="json")
    return CheckpointFacts(
        hazard=recipe.hazard,
        name=recipe.name,
        version=recipe.version,
        architecture=Architecture(
            name=f"{kind} {'-'.join(map(str, widths))}",
            parameters=parameter_count(build(network)),
            config=config,
        ),
        normalisation=recipe.normalisation,
        calibration=Calibration(
            kind="temperature",
            temperature=temperature,
            data=f"{SEN1FLOODS11}, logits of events held out in turn ({', '.join(events)}), each with the same weight",
        ),
        threshold=recipe.threshold,
        training=Training(data=_sources(run), seed=recipe.seed, recipe=recipe.model_dump(mode="json")),
        metrics=_metrics(judged),
        tocsin=__version__,
    )


def _sources(run: Run) -> tuple[DataSource, ...]:
    """List the data sets learnt from."""
    none = "no explicit licence for the labels; Sentinel-1 data: Copernicus open data"
    sources = [DataSource(name=SEN1FLOODS11, chips=len(run.real), licence=none, attribution=ATTRIBUTION[SEN1FLOODS11])]
    if run.sites:
        name = "TerraMesh"
        sources.append(DataSource(name=name, chips=len(run.sites), licence="CC-BY-4.0", attribution=ATTRIBUTION[name]))
    simulated = f"tocsin.simulate.flood_scene, seeds from {SIMULATED_SEED}"
    sources.append(
        DataSource(name=simulated, chips=len(run.simulated), licence="Apache-2.0", attribution="Simulated by tocsin.")
    )
    return tuple(sources)


def _metrics(judged: Sequence[HeldOutChip]) -> tuple[MetricRow, ...]:
    """State pooled and per-chip IoU beside Otsu."""
    model, otsu = pooled(judged)
    wet = [each for each in judged if each.model.labelled > 0]
    command = "tocsin train flood --data DATA"
    rows = [
        MetricRow(
            dataset=SEN1FLOODS11,
            split="leave one event out",
            metric="IoU water, pooled over judged pixels",
            value=model.iou or 0.0,
            baseline_name="Otsu on VH per chip",
            baseline_value=otsu.iou or 0.0,
            n=len(judged),
            command=command,
        ),
        MetricRow(
            dataset=SEN1FLOODS11,
            split="leave one event out",
            metric="IoU water, mean over chips whose label holds water",
            value=sum(each.model.iou or 0.0 for each in wet) / max(1, len(wet)),
            baseline_name="Otsu on VH per chip",
            baseline_value=sum(each.otsu.iou or 0.0 for each in wet) / max(1, len(wet)),
            n=max(1, len(wet)),
            command=command,
        ),
    ]
    return tuple(rows)


def _report(judged: Sequence[HeldOutChip], temperature: dict[str, float]) -> dict[str, Any]:
    """Return the figures of every held-out chip."""
    model, otsu = pooled(judged)
    chips = [
        {
            "chip": each.chip.name,
            "held_out_event": each.chip.event,
            "iou": each.model.iou if each.model.labelled else None,
            "otsu_iou": each.otsu.iou if each.otsu.labelled else None,
            "simulated_only_iou": each.simulated.iou if each.simulated and each.simulated.labelled else None,
            "water_pixels": each.model.labelled,
            "judged_pixels": each.model.judged,
            "false_water_pixels": each.model.either - each.model.labelled,
            "otsu_false_water_pixels": each.otsu.either - each.otsu.labelled,
            "simulated_only_false_water_pixels": each.simulated and each.simulated.either - each.simulated.labelled,
        }
        for each in judged
    ]
    return {
        "pooled_iou": model.iou,
        "otsu_pooled_iou": otsu.iou,
        "simulated_only_pooled_iou": add_counts([each.simulated for each in judged if each.simulated]).iou,
        "calibration": temperature,
        "chips": chips,
    }
