"""All steps in one go: checkpoint, graph, parity, precision, repository; nothing is written unless all passed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import torch
from torch import nn

from export import flood, landslide, volcano
from export.graph import OPSET, to_onnx
from export.parity import ParityChips, ParityLimits, TorchReference, check, measure, running
from export.precision.lowering import LOWER, Lowering, check_size
from export.repository import GraphFile, refuse_existing, write
from tocsin.errors import ProductExistsError
from tocsin.manifest import Hazard, Manifest, ModelFacts, Parity, Precision
from tocsin.repository import verify_model
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


HAZARDS: Final[dict[Hazard, HazardExport]] = {"flood": flood, "landslide": landslide, "volcano": volcano}


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
    """
    read, weights = checkpoints.load(checkpoint)
    hazard = HAZARDS[read.hazard]
    return Prepared(hazard.module(read, weights), hazard.facts(read), hazard.LIMITS, hazard.chips)


def parity_of(graph: bytes, prepared: Prepared, data: Path | None) -> Parity:
    """Return the figures of `graph` in ONNX Runtime against the module in torch, checked against the limits.

    The graph runs as scoring runs it: the same runtime, the same options.

    Raises
    ------
    ModelInvalidError
        When it is over a limit.
    """
    reference = TorchReference(prepared.module, prepared.facts)
    with running(graph) as runtime:
        parity = measure(reference, runtime, prepared.chips(data), prepared.facts, prepared.limits)
    check(parity, f"graph of {prepared.facts.name}")
    return parity


def export_model(
    checkpoint: Path,
    repository: Path,
    data: Path | None,
    *,
    precisions: Sequence[Precision] = LOWER,
    overwrite: bool = False,
) -> Manifest:
    """Export a checkpoint into a repository.

    Parameters
    ----------
    checkpoint
        File written by `training.checkpoints.save`.
    repository
        Folder of models; made when missing.
    data
        Folder of the data sets for real chips, or None.
    precisions
        Which to make beside fp32.
    overwrite
        Whether a model of that name is replaced.

    Raises
    ------
    ModelInvalidError
        When the checkpoint is broken, or a graph is over a limit.
    ProductExistsError
        When the model exists and `overwrite` is False; found before any work.
    """
    prepared = prepare(checkpoint)
    refuse_existing(repository, prepared.facts.name, overwrite=overwrite)
    graph = to_onnx(prepared.module, prepared.facts)
    first = GraphFile("fp32", graph, OPSET, parity_of(graph, prepared, data))
    graphs = _with_lower(first, prepared.facts, data, precisions)
    return write(repository, prepared.facts, graphs, overwrite=overwrite)


def export_precisions(
    name: str, repository: Path, data: Path | None, precisions: Sequence[Precision] = LOWER, *, overwrite: bool = False
) -> Manifest:
    """Make precisions of a model from its float32 graph, and write them beside it; other precisions are kept.

    Parameters
    ----------
    name, repository
        The model.
    data
        Folder of the data sets for real chips, or None.
    precisions
        Which to make.
    overwrite
        Whether those that exist are replaced.

    Raises
    ------
    ModelUnknownError
        When there is no such model.
    ModelInvalidError
        When its files are not those of its manifest, or a graph is over a limit.
    ProductExistsError
        When a precision exists and `overwrite` is False; found before any work.
    """
    manifest = verify_model(name, repository)
    there = sorted(set(precisions) & set(manifest.precisions))
    if there and not overwrite:
        raise ProductExistsError(
            f"{' and '.join(there)} of {name!r}, which exist in {repository}",
            "precisions that are not there yet",
            "pass --overwrite to replace them",
        )
    kept = [
        GraphFile(
            content=(repository / name / row.path).read_bytes(),
            **{field: getattr(row, field) for field in GraphFile.__dataclass_fields__ if field != "content"},
        )
        for row in manifest.artifacts
        if row.precision not in precisions
    ]
    graphs = _with_lower(kept[0], manifest, data, precisions, kept[1:])
    return write(repository, manifest, graphs, overwrite=True)


def _with_lower(
    first: GraphFile,
    facts: ModelFacts,
    data: Path | None,
    precisions: Sequence[Precision],
    others: Sequence[GraphFile] = (),
) -> list[GraphFile]:
    """Return the float32 graph, and after it the others and those made from it, fp16 before int8."""
    hazard = HAZARDS[facts.hazard]
    graphs = [*others]
    if precisions:
        lowering = Lowering(first.content, facts, hazard.LIMITS, list(hazard.chips(None)), data)
        graphs += [lowering.lowered(each) for each in precisions]
    graphs = [first, *sorted(graphs, key=lambda graph: LOWER.index(graph.precision))]
    check_size(graphs)
    return graphs
