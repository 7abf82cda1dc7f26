"""What export has to know about the hazard flood: its graph, its facts, its parity chips."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import torch

from export.chips import flood_chips
from export.graphs import FloodGraph
from export.parity import ParityChips
from tocsin.errors import ModelInvalidError
from tocsin.hazards.flood import CHIP
from tocsin.manifest import DYNAMIC, ModelFacts, TensorSpec
from training.checkpoints import CheckpointFacts
from training.networks import NetworkConfig, build

MULTIPLE_OF: Final = 32
GSD_M: Final = (7.0, 15.0)
LICENCE: Final = "Apache-2.0"
SENTINEL_NOTICE: Final = "Contains modified Copernicus Sentinel data."

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
        When the weights are not those of the network that the checkpoint describes.
    """
    todo = "train again, or export with the version of tocsin that trained it"
    architecture = checkpoint.architecture
    network = build(NetworkConfig.model_validate(architecture.config))
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise ModelInvalidError(f"weights that do not fit ({error})", f"those of {architecture.name}", todo) from error
    parameters = sum(parameter.numel() for parameter in network.parameters())
    if parameters != architecture.parameters:
        raise ModelInvalidError(
            f"a network of {parameters} parameters", f"{architecture.parameters}, as the checkpoint says", todo
        )
    return FloodGraph(network, checkpoint.normalisation, checkpoint.calibration).eval()


def facts(checkpoint: CheckpointFacts) -> ModelFacts:
    """Return the manifest's facts.

    Raises
    ------
    ModelInvalidError
        When the checkpoint carries no metrics: no model is shipped without figures beside a baseline.
    """
    if not checkpoint.metrics:
        raise ModelInvalidError(
            f"checkpoint {checkpoint.name} {checkpoint.version} without metrics",
            "at least one figure beside a baseline",
            "evaluate the checkpoint first: tocsin train does so at its end",
        )
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
    notices = [SENTINEL_NOTICE, *(source.attribution for source in checkpoint.training.data)]
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
        attribution=" ".join(dict.fromkeys(notices)),
        training=checkpoint.training,
        metrics=checkpoint.metrics,
    )


def chips(data: Path | None) -> Iterator[ParityChips]:
    """Yield the batches that parity is measured on; `data` as in `export.chips.flood_chips`."""
    return flood_chips(data)
