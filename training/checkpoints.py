"""Checkpoints: what training hands to export, one safetensors file without pickle.

The weights are the file's tensors; everything else that export needs (network, normalisation, calibration, metrics) is
one JSON text under the key `tocsin` of the file's string metadata. Reading a checkpoint runs no code from it.
"""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tocsin.errors import ModelInvalidError
from tocsin.manifest import (
    Architecture,
    Calibration,
    Hazard,
    MetricRow,
    Name,
    Normalisation,
    Record,
    Training,
    Version,
)

METADATA_KEY = "tocsin"

Facts = TypeVar("Facts", bound=Record)


class CheckpointFacts(Record):
    """Everything about a trained network except its weights."""

    hazard: Hazard = Field(description="What the model judges")
    name: Name = Field(description="Name that the model will have in the repository")
    version: Version = Field(description="Semantic version of the model")
    architecture: Architecture = Field(description="Network, with what training.networks.build needs to make it again")
    normalisation: Normalisation | None = Field(
        default=None, description="Scaling of the backscatter bands, dB; null where the input needs none, as phase"
    )
    calibration: Calibration = Field(description="How the logits that are decided on become probabilities")
    output_calibrations: dict[Name, Calibration] = Field(
        default={}, description="The same for further outputs, by name; raw where not stated"
    )
    threshold: float = Field(gt=0, lt=1, description="Probability from which a pixel counts, no unit")
    training: Training = Field(description="Data sets, seed and the whole recipe")
    metrics: tuple[MetricRow, ...] = Field(default=(), description="Measured figures; export asks for at least one")
    tocsin: Version = Field(description="Version of tocsin that trained it")


def save(path: str | Path, state_dict: Mapping[str, torch.Tensor], facts: Record) -> None:
    """Write weights and facts to `path`, whole or not at all.

    Parameters
    ----------
    path
        The file to write; an existing one is replaced.
    state_dict
        The network's tensors by name; each is written contiguous, from the CPU.
    facts
        Everything else.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".tocsin-{secrets.token_hex(4)}.part")
    tensors = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in state_dict.items()}
    try:
        save_file(tensors, aside, metadata={METADATA_KEY: facts.model_dump_json()})
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def load(path: str | Path) -> tuple[CheckpointFacts, dict[str, torch.Tensor]]:
    """Return the facts and the weights (on the CPU) of the checkpoint at `path`.

    Raises
    ------
    ModelInvalidError
        As `read` raises it.
    """
    return read(path, CheckpointFacts)


def read(path: str | Path, kind: type[Facts]) -> tuple[Facts, dict[str, torch.Tensor]]:
    """Return facts of a kind and the weights (on the CPU) of a file.

    Raises
    ------
    ModelInvalidError
        When the file is missing, is no safetensors file, or carries no valid facts.
    """
    todo = "give a checkpoint written by tocsin train"
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (OSError, SafetensorError) as error:
        raise ModelInvalidError(f"checkpoint {path} ({error})", "a readable safetensors file", todo) from error
    if text is None:
        raise ModelInvalidError(f"checkpoint {path} without facts", f"the metadata key {METADATA_KEY!r}", todo)
    try:
        facts = kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the JSON text"
        raise ModelInvalidError(
            f"checkpoint {path}, where {where}: {first['msg']}", "facts as this version writes them", todo
        ) from error
    return facts, tensors
