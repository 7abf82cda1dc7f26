"""Checkpoints of encoders: what pretraining hands to probes and to fine-tuning, one safetensors file."""

from pathlib import Path

from pydantic import Field
from torch import nn

from tocsin.errors import ModelInvalidError
from tocsin.manifest import Record, Training, Version
from training.checkpoints import read, save
from training.networks.bands import BandEncoder
from training.networks.encoders import EncoderConfig
from training.stages import Weights, weights_of


class EncoderFacts(Record):
    """Everything about a pretrained encoder except its weights."""

    encoder: EncoderConfig = Field(description="Network, with what builds it again")
    modality: str = Field(description="Modality that it takes")
    bands: tuple[str, ...] = Field(min_length=1, description="Bands that it takes, in this order")
    method: str = Field(description="Method that taught it")
    steps: int = Field(ge=0, description="Steps of the optimiser")
    spread: float | None = Field(
        ge=0, description="Spread of embeddings at the last look: 1 any direction, 0 one alone"
    )
    training: Training = Field(description="Data sets, seed and the whole recipe")
    tocsin: Version = Field(description="Version of tocsin that trained it")


def save_encoder(path: Path, encoder: BandEncoder, facts: EncoderFacts) -> None:
    """Write an encoder, whole or not at all."""
    save(path, weights_of(encoder.encoder), facts)


def load_encoder(path: str | Path) -> tuple[BandEncoder, EncoderFacts]:
    """Return a pretrained encoder in evaluation mode, and what it says of itself.

    Raises
    ------
    ModelInvalidError
        When the file is no checkpoint of an encoder, or its weights do not fit its own configuration.
    """
    facts, weights = read(path, EncoderFacts)
    encoder = BandEncoder(facts.bands, facts.encoder)
    fill(encoder.encoder, weights, path)
    return encoder.eval(), facts


def fill(network: nn.Module, weights: Weights, path: str | Path) -> None:
    """Load weights into a network that they must fit exactly.

    Raises
    ------
    ModelInvalidError
        When a tensor is missing, too many or of another shape; the first one is named.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wrong = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
    if wrong:
        first = wrong[0]
        raise ModelInvalidError(
            f"checkpoint {path} of another shape: {first} is {given.get(first, 'missing')}, {len(wrong)} differ",
            f"{first} as {wanted.get(first, 'nothing')}",
            "give the recipe the encoder that the checkpoint was trained with",
        )
    network.load_state_dict(weights)
