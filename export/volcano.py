"""What export has to know about the hazard volcano: its graph, its facts, its parity chips."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import torch

from export.checkpoint import LICENCE, ask_for_metrics, attribution, load_weights
from export.graphs import VolcanoGraph
from export.parity import OutputLimits, ParityChips, ParityLimits
from export.volcano_chips import volcano_chips
from tocsin.manifest import Calibration, ModelFacts, TensorSpec
from tocsin.simulate import SOURCES
from tocsin.simulate.interferogram_settings import PIXEL_M
from training.checkpoints import CheckpointFacts
from training.networks.volcano import VolcanoConfig, VolcanoNetwork

MULTIPLE_OF: Final = 32
LIMITS: Final = ParityLimits(
    outputs={
        "source": OutputLimits(decision="highest"),
        # Places lie some units apart; the probability made from them keeps the common limit.
        "embedding": OutputLimits(decision="none", difference=1e-3),
    }
)

DESCRIPTION: Final = (
    "Probability of ground deformation in one interferogram (wrapped phase of C band, pixels of 80 to 350 m), with its "
    "most probable kind of source and a mask. It learnt deformation from simulation. It may take concentric "
    "atmospheric delay over a cone for a source, and misses motion of less than about half a fringe."
)


def module(checkpoint: CheckpointFacts, weights: Mapping[str, torch.Tensor]) -> VolcanoGraph:
    """Return the module that is written as a graph, with the checkpoint's weights.

    Raises
    ------
    ModelInvalidError
        When the weights are not those of the network that the checkpoint describes.
    """
    network = VolcanoNetwork(VolcanoConfig.model_validate(checkpoint.architecture.config))
    load_weights(network, checkpoint, weights)
    return VolcanoGraph(network.eval(), checkpoint.calibration, checkpoint.output_calibrations).eval()


def facts(checkpoint: CheckpointFacts) -> ModelFacts:
    """Return the manifest's facts.

    Raises
    ------
    ModelInvalidError
        When the checkpoint carries no metrics: no model is shipped without figures beside a baseline.
    """
    ask_for_metrics(checkpoint)
    config = VolcanoConfig.model_validate(checkpoint.architecture.config)
    chip_px = config.encoder.chip_px
    phase = TensorSpec(
        name="phase",
        description=(
            "Wrapped interferometric phase, (-pi, pi], growing with range; NaN: missing. What lies beyond pi is used "
            "as an angle."
        ),
        bands=("phase",),
        unit="rad",
        shape=(1, chip_px, chip_px),
    )
    return ModelFacts(
        name=checkpoint.name,
        hazard="volcano",
        version=checkpoint.version,
        description=DESCRIPTION,
        architecture=checkpoint.architecture,
        inputs=(phase,),
        outputs=_outputs(config, checkpoint.output_calibrations),
        chip_px=chip_px,
        multiple_of=MULTIPLE_OF,
        gsd_m=PIXEL_M,
        threshold=checkpoint.threshold,
        calibration=checkpoint.calibration,
        licence=LICENCE,
        attribution=attribution(checkpoint),
        training=checkpoint.training,
        metrics=checkpoint.metrics,
    )


def _outputs(config: VolcanoConfig, calibrations: Mapping[str, Calibration]) -> tuple[TensorSpec, ...]:
    raw = Calibration(kind="none")
    deformation = TensorSpec(
        name="deformation",
        description="Calibrated probability of deformation in the chip, 0-1; NaN without a valid pixel.",
        bands=("P(deformation)",),
        unit="1",
        shape=(1,),
    )
    source = TensorSpec(
        name="source",
        description="Probability of each kind of source if there is one, 0-1, sum 1; NaN without a valid pixel.",
        bands=SOURCES,
        unit="1",
        shape=(len(SOURCES),),
        calibration=calibrations.get("source", raw),
    )
    mask = TensorSpec(
        name="mask",
        description="Probability of deformation at each pixel, 0-1; NaN where the phase is missing.",
        bands=("P(deforming)",),
        unit="1",
        shape=(1, config.encoder.chip_px, config.encoder.chip_px),
        calibration=calibrations.get("mask", raw),
    )
    axes = ("axis 1", "axis 2", "axis 3") if config.head == "prototypes" else ("logit of rest", "logit of deformation")
    embedding = TensorSpec(
        name="embedding",
        description="Place in the space where the nearer of two prototypes decides; NaN without a valid pixel.",
        bands=axes,
        unit="1",
        shape=(len(axes),),
    )
    return deformation, source, mask, embedding


def chips(data: Path | None) -> Iterator[ParityChips]:
    """Yield the batches that parity is measured on; `data` as in `export.volcano_chips.volcano_chips`."""
    return volcano_chips(data)
