"""Step 1: a module becomes an ONNX graph that explains itself and is the same bytes every time.

Free axes (batch, height, width) stay free. What the exporter adds about the machine it ran on (stack traces with paths
of source files) is removed, so that one checkpoint always gives one graph.
"""

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import onnx
import torch
from torch import nn

from tocsin.manifest import DYNAMIC, ModelFacts, TensorSpec

OPSET: Final = 20
SAMPLE_BATCH: Final = 2
"""A sample of one would be frozen into the graph by some networks."""

FREE_AXES: Final = ("height", "width")


def to_onnx(module: nn.Module, facts: ModelFacts) -> bytes:
    """Return the ONNX file of `module`, with `facts` in its metadata.

    Parameters
    ----------
    module
        Takes the manifest's inputs in order, float32, batch first; returns its outputs in order, then the values that
        its attribute `internals` names, if it has one: they keep these names inside the graph, and are no outputs.
    facts
        Names and shapes of inputs and outputs, and everything that the file says about itself.
    """
    internals: tuple[str, ...] = getattr(module, "internals", ())
    program = _traced(module.eval(), facts, internals)
    proto: onnx.ModelProto = program.model_proto
    _strip(proto)
    _keep_inside(proto, internals)
    _name_axes(proto, facts)
    onnx.helper.set_model_props(proto, facts.to_metadata())
    onnx.checker.check_model(proto, full_check=True)
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def _traced(module: nn.Module, facts: ModelFacts, internals: tuple[str, ...]) -> torch.onnx.ONNXProgram:
    samples = tuple(_sample(spec, facts.multiple_of) for spec in facts.inputs)
    # With one free dimension object each, all inputs of a model share batch, height and width.
    batch = torch.export.Dim("batch", min=1)
    free = {name: facts.multiple_of * torch.export.Dim(f"{name}_units", min=1) for name in FREE_AXES}
    shapes = tuple({0: batch} | {axis: free[name] for axis, name in _free_axes(spec)} for spec in facts.inputs)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            samples,
            dynamo=True,
            external_data=False,
            opset_version=OPSET,
            input_names=[spec.name for spec in facts.inputs],
            output_names=[*(spec.name for spec in facts.outputs), *internals],
            dynamic_shapes=shapes,
            verbose=False,
        )
    assert program is not None
    return program


def _free_axes(spec: TensorSpec) -> Iterator[tuple[int, str]]:
    """Yield (axis with the batch counted, name) of each axis that the caller chooses: the last two are H and W."""
    for axis, size in enumerate(spec.shape, start=1):
        if size == DYNAMIC:
            yield axis, FREE_AXES[axis - len(spec.shape) - 1 + len(FREE_AXES)]


def _sample(spec: TensorSpec, multiple_of: int) -> torch.Tensor:
    # Height and width differ, so that the trace cannot take one for the other.
    free = {"height": 2 * multiple_of, "width": 3 * multiple_of}
    shape = [SAMPLE_BATCH, *spec.shape]
    for axis, name in _free_axes(spec):
        shape[axis] = free[name]
    return torch.zeros(shape, dtype=torch.float32)


def _strip(proto: onnx.ModelProto) -> None:
    """Remove what depends on the machine or says nothing to a reader of the file."""
    graph = proto.graph
    del proto.metadata_props[:]
    del graph.metadata_props[:]
    # Intermediate shapes are inferred again by whoever needs them.
    del graph.value_info[:]
    for item in (*graph.input, *graph.output, *graph.initializer, *_nodes(graph.node)):
        del item.metadata_props[:]
        item.doc_string = ""
    for function in proto.functions:
        del function.metadata_props[:]
        for node in _nodes(function.node):
            del node.metadata_props[:]
            node.doc_string = ""


def _keep_inside(proto: onnx.ModelProto, internals: tuple[str, ...]) -> None:
    """Turn outputs into named values inside, with their shapes, so that a graph can be cut there."""
    kept = [value for value in proto.graph.output if value.name in internals]
    assert len(kept) == len(internals), f"{internals} were traced as {[value.name for value in kept]}"
    for value in kept:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
        proto.graph.value_info.append(value)
        proto.graph.output.remove(value)


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield every node, those inside subgraphs too."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node)


def _name_axes(proto: onnx.ModelProto, facts: ModelFacts) -> None:
    """Give free axes plain names in place of the tracer's expressions."""
    for values, specs in ((proto.graph.input, facts.inputs), (proto.graph.output, facts.outputs)):
        for value, spec in zip(values, specs, strict=True):
            dims = value.type.tensor_type.shape.dim
            dims[0].dim_param = "batch"
            for axis, name in _free_axes(spec):
                dims[axis].dim_param = name


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's remarks on libraries that are not needed (torchvision) and on torch's own deprecations.

    And that inputs which share a free axis share its name: they are meant to.
    """
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", "# The axis name: .* will not be used", UserWarning)
            yield
    finally:
        logger.setLevel(level)
