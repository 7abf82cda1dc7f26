"""All steps in one go: checkpoint -> graph -> parity -> repository; nothing is written unless every gate passed."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import torch
from torch import nn

from export import flood, volcano
from export.graph import OPSET, to_onnx
from export.parity import ParityChips, ParityLimits, TorchReference, check, measure
from export.repository import GraphFile, refuse_existing, write
from tocsin.errors import UsageError
from tocsin.manifest import Hazard, Manifest, ModelFacts, Parity
from tocsin.runtimes import RuntimeOptions
from training import checkpoints
from training.checkpoints import CheckpointFacts


class HazardExport(Protocol):
    """The names that each hazard's export module has, as `export.flood`."""

    @property
    def module(self) -> Callable[[CheckpointFacts, Mapping[str, torch.Tensor]], nn.Module]:
        """Checkpoint -> the module that is written as a graph."""

    @property
    def facts(self) -> Callable[[CheckpointFacts], ModelFacts]:
        """Checkpoint -> the manifest's facts."""

    @property
    def LIMITS(self) -> ParityLimits:  # noqa: N802 - a constant of the module
        """What the graph may differ by from the network."""

    @property
    def chips(self) -> Callable[[Path | None], Iterator[ParityChips]]:
        """Data folder -> batches that parity is measured on."""


HAZARDS: Final[dict[Hazard, HazardExport]] = {"flood": flood, "volcano": volcano}


@dataclass(frozen=True)
class Prepared:
    """A checkpoint as export needs it: the module, its facts, and where its parity chips come from, with the limits."""

    module: nn.Module
    facts: ModelFacts
    limits: ParityLimits
    chips: Callable[[Path | None], Iterator[ParityChips]]


def prepare(checkpoint: Path) -> Prepared:
    """Load a checkpoint.

    Raises
    ------
    ModelInvalidError
        When it is broken or incomplete.
    UsageError
        When its hazard has no export yet.
    """
    read, weights = checkpoints.load(checkpoint)
    hazard = HAZARDS.get(read.hazard)
    if hazard is None:
        raise UsageError(
            f"a checkpoint of hazard {read.hazard!r}", f"one of {', '.join(HAZARDS)}", "train one of these hazards"
        )
    return Prepared(hazard.module(read, weights), hazard.facts(read), hazard.LIMITS, hazard.chips)


def parity_of(graph: bytes, prepared: Prepared, data: Path | None) -> Parity:
    """Return the figures of `graph` in ONNX Runtime against the module in torch, checked against the limits.

    The graph runs as scoring runs it: the same runtime, the same options.

    Raises
    ------
    ModelInvalidError
        When it is over a limit.
    """
    from tocsin.runtimes.onnx import OnnxRuntime

    reference = TorchReference(prepared.module, prepared.facts)
    with tempfile.TemporaryDirectory(prefix="tocsin-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(graph)
        with OnnxRuntime(path, RuntimeOptions()) as runtime:
            parity = measure(reference, runtime, prepared.chips(data), prepared.facts, prepared.limits)
    check(parity, f"graph of {prepared.facts.name}")
    return parity


def export_model(checkpoint: Path, repository: Path, data: Path | None, *, overwrite: bool = False) -> Manifest:
    """Export a checkpoint into a repository.

    Parameters
    ----------
    checkpoint
        File written by `training.checkpoints.save`.
    repository
        Folder of models; made when missing.
    data
        Folder of the data sets for real parity chips, or None.
    overwrite
        Whether a model of that name is replaced.

    Raises
    ------
    ModelInvalidError
        When the checkpoint is broken, or the graph is over a parity limit.
    ProductExistsError
        When the model exists and `overwrite` is False; found before any work.
    """
    prepared = prepare(checkpoint)
    refuse_existing(repository, prepared.facts.name, overwrite=overwrite)
    graph = to_onnx(prepared.module, prepared.facts)
    parity = parity_of(graph, prepared, data)
    return write(repository, prepared.facts, [GraphFile("fp32", graph, OPSET, parity)], overwrite=overwrite)
