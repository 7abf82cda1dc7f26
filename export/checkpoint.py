"""What every hazard's export asks of a checkpoint: weights that fit, metrics, and what has to be said with them."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import nn

from tocsin.errors import ModelInvalidError
from training.checkpoints import CheckpointFacts
from training.networks import parameter_count

LICENCE: Final = "Apache-2.0"
SENTINEL_NOTICE: Final = "Contains modified Copernicus Sentinel data."


def load_weights(network: nn.Module, checkpoint: CheckpointFacts, weights: Mapping[str, torch.Tensor]) -> None:
    """Load the checkpoint's weights into the network that it describes.

    Raises
    ------
    ModelInvalidError
        When the weights are not those of that network.
    """
    todo = "train again, or export with the version of tocsin that trained it"
    architecture = checkpoint.architecture
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise ModelInvalidError(f"weights that do not fit ({error})", f"those of {architecture.name}", todo) from error
    parameters = parameter_count(network)
    if parameters != architecture.parameters:
        raise ModelInvalidError(
            f"a network of {parameters} parameters", f"{architecture.parameters}, as the checkpoint says", todo
        )


def ask_for_metrics(checkpoint: CheckpointFacts) -> None:
    """Refuse a checkpoint without metrics: no model is shipped without figures beside a baseline.

    Raises
    ------
    ModelInvalidError
        When it carries none.
    """
    if not checkpoint.metrics:
        raise ModelInvalidError(
            f"checkpoint {checkpoint.name} {checkpoint.version} without metrics",
            "at least one figure beside a baseline",
            "evaluate the checkpoint first: tocsin train does so at its end",
        )


def attribution(checkpoint: CheckpointFacts) -> str:
    """Return what has to be said when the weights are shared: every notice once."""
    notices = [SENTINEL_NOTICE, *(source.attribution for source in checkpoint.training.data)]
    return " ".join(dict.fromkeys(notices))
