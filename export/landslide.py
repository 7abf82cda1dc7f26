"""What export has to know about the hazard landslide: its graph, its facts, its parity chips."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import torch

from export.checkpoint import LICENCE, ask_for_metrics, attribution, load_weights
from export.landslide_chips import landslide_chips
from export.landslide_graph import LandslideGraph
from export.parity import OutputLimits, ParityChips, ParityLimits
from tocsin.hazards.landslide import ACQUISITIONS, BANDS, CHIP, CLASSES, LANDSLIDE_CLASSES, NONE
from tocsin.manifest import Calibration, ModelFacts, TensorSpec
from training.checkpoints import CheckpointFacts
from training.networks.landslide import LandslideConfig, LandslideNetwork

MULTIPLE_OF: Final = 32
GSD_M: Final = (7.0, 15.0)
LIMITS: Final = ParityLimits(
    outputs={
        "density_class": OutputLimits(decision="highest"),
        # Per km2, of which there may be hundreds: a ten-thousandth of the bound between low and high.
        "density": OutputLimits(decision="none", difference=2.5e-3),
    }
)

DESCRIPTION: Final = (
    "Density of landslides (none, at most 25, more than 25 per km2), their expected number per km2 and a mask, from "
    "one to three Sentinel-1 acquisitions on each side of an event (VV and VH backscatter, dB, about 10 m) and, where "
    "given, terrain heights. It sees vegetated slopes laid bare over some pixels. It does not see landslides of a "
    "pixel or two, over bare ground, in layover or shadow, or that leave the canopy standing, and may take clear-cuts, "
    "fields, floods or melting snow for landslides. Classes and densities were learnt on simulated landslides and on "
    "scars laid into real backscatter, not on an inventory: they rank places, and count only as far as these resemble "
    "the event."
)


def module(checkpoint: CheckpointFacts, weights: Mapping[str, torch.Tensor]) -> LandslideGraph:
    """Return the module that is written as a graph, with the checkpoint's weights.

    Raises
    ------
    ModelInvalidError
        When the weights are not those of the network that the checkpoint describes.
    """
    network = LandslideNetwork(LandslideConfig.model_validate(checkpoint.architecture.config))
    load_weights(network, checkpoint, weights)
    return LandslideGraph(network.eval(), checkpoint.calibration, checkpoint.output_calibrations).eval()


def facts(checkpoint: CheckpointFacts) -> ModelFacts:
    """Return the manifest's facts.

    Raises
    ------
    ModelInvalidError
        When the checkpoint carries no metrics: no model is shipped without figures beside a baseline.
    """
    ask_for_metrics(checkpoint)
    return ModelFacts(
        name=checkpoint.name,
        hazard="landslide",
        version=checkpoint.version,
        description=DESCRIPTION,
        architecture=checkpoint.architecture,
        inputs=(_side("pre", "before"), _side("post", "after"), _heights()),
        outputs=_outputs(checkpoint.output_calibrations),
        chip_px=CHIP,
        multiple_of=MULTIPLE_OF,
        gsd_m=GSD_M,
        threshold=checkpoint.threshold,
        calibration=checkpoint.calibration,
        licence=LICENCE,
        attribution=attribution(checkpoint),
        training=checkpoint.training,
        metrics=checkpoint.metrics,
    )


def _side(name: str, when: str) -> TensorSpec:
    return TensorSpec(
        name=name,
        description=(
            f"Backscatter of up to three acquisitions {when} the event, in any order, calibrated (gamma0 or sigma0); "
            "NaN: a pixel, band or acquisition that is missing. What is beyond +-200 dB counts as missing."
        ),
        bands=BANDS,
        unit="dB",
        shape=(ACQUISITIONS, len(BANDS), CHIP, CHIP),
    )


def _heights() -> TensorSpec:
    return TensorSpec(
        name="dem",
        description="Terrain height; NaN where unknown, all NaN when there is none.",
        bands=("height",),
        unit="m",
        shape=(1, CHIP, CHIP),
        optional=True,
    )


def _outputs(calibrations: Mapping[str, Calibration]) -> tuple[TensorSpec, ...]:
    codes = (NONE, *LANDSLIDE_CLASSES)
    density_class = TensorSpec(
        name="density_class",
        description=(
            "Calibrated probability of each class of density, 0-1, sum 1; NaN when no pixel was seen on both sides."
        ),
        bands=tuple(f"P({CLASSES[code].name})" for code in codes),
        unit="1",
        shape=(len(codes),),
    )
    density = TensorSpec(
        name="density",
        description="Expected landslides per km2, never negative; NaN when no pixel was seen on both sides.",
        bands=("density",),
        unit="1/km2",
        shape=(1,),
        calibration=Calibration(kind="none"),
    )
    mask = TensorSpec(
        name="mask",
        description="Probability of a landslide at each pixel, 0-1; NaN where it was not seen on both sides.",
        bands=("P(landslide)",),
        unit="1",
        shape=(1, CHIP, CHIP),
        calibration=calibrations.get("mask", Calibration(kind="none")),
    )
    return density_class, density, mask


def chips(data: Path | None) -> Iterator[ParityChips]:
    """Yield the batches that parity is measured on; `data` as in `export.landslide_chips.landslide_chips`."""
    return landslide_chips(data)
