"""What export has to know about the hazard flood: its graph, its facts, its parity chips."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import torch

from export.checkpoint import LICENCE, ask_for_metrics, attribution, load_weights
from export.chips import flood_chips
from export.graphs import FloodGraph
from export.parity import ParityChips, ParityLimits
from tocsin.errors import ModelInvalidError
from tocsin.hazards.flood import CHIP
from tocsin.manifest import DYNAMIC, ModelFacts, TensorSpec
from training.checkpoints import CheckpointFacts
from training.networks import NetworkConfig, build

MULTIPLE_OF: Final = 32
GSD_M: Final = (7.0, 15.0)
LIMITS: Final = ParityLimits()

DESCRIPTION: Final = (
    "Probability of open water from one Sentinel-1 acquisition (VV and VH backscatter, dB, about 10 m). It does not "
    "see water under closed forest or between buildings, and may take wet sand, runways or shadow for calm water: "
    "give a DEM and an exclusion layer."
)


def module(checkpoint: CheckpointFacts, weights: Mapping[str, torch.Tensor]) -> FloodGraph:
    """Return the module that is written as a graph, with the checkpoint's weights.

    Raises
    ------
    ModelInvalidError
        When the weights are not those of the network that the checkpoint describes, or their scaling is missing.
    """
    if checkpoint.normalisation is None:
        raise ModelInvalidError(
            f"checkpoint {checkpoint.name} {checkpoint.version} without normalisation",
            "the scaling of VV and VH",
            "train again: tocsin train writes it",
        )
    network = build(NetworkConfig.model_validate(checkpoint.architecture.config))
    load_weights(network, checkpoint, weights)
    return FloodGraph(network, checkpoint.normalisation, checkpoint.calibration).eval()


def facts(checkpoint: CheckpointFacts) -> ModelFacts:
    """Return the manifest's facts.

    Raises
    ------
    ModelInvalidError
        When the checkpoint carries no metrics: no model is shipped without figures beside a baseline.
    """
    ask_for_metrics(checkpoint)
    s1 = TensorSpec(
        name="s1",
        description=(
            "Backscatter of one acquisition, calibrated (sigma0 or gamma0); NaN: missing. What is beyond +-200 dB "
            "counts as missing; the rest is clamped to the stated range."
        ),
        bands=("VV", "VH"),
        unit="dB",
        shape=(2, DYNAMIC, DYNAMIC),
        normalisation=checkpoint.normalisation,
    )
    water = TensorSpec(
        name="water",
        description="Calibrated probability of open water, 0-1; NaN where neither band was measured.",
        bands=("P(water)",),
        unit="1",
        shape=(1, DYNAMIC, DYNAMIC),
    )
    return ModelFacts(
        name=checkpoint.name,
        hazard="flood",
        version=checkpoint.version,
        description=DESCRIPTION,
        architecture=checkpoint.architecture,
        inputs=(s1,),
        outputs=(water,),
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


def chips(data: Path | None) -> Iterator[ParityChips]:
    """Yield the batches that parity is measured on; `data` as in `export.chips.flood_chips`."""
    return flood_chips(data)
