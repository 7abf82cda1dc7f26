"""FP16: half precision between the first and the last weighted layer, float32 around it and where a layer overflows.

The types are in the graph itself (Cast nodes and HALF weights), as strongly typed TensorRT networks need them.
ONNX Runtime runs the same file on a CPU too: it computes in float32 there what it has no half kernel for.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.parity import running
from export.precision.layers import inner_nodes, layer_of

FloatArray = npt.NDArray[np.float32]

LARGEST: Final = float(np.finfo(np.float16).max) / 4
"""Largest magnitude that a layer may meet and still run in half precision: chips never seen may hold larger ones."""

HALF_OPERATORS: Final = frozenset(
    {
        *("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "Neg", "Sqrt", "Max", "Min"),
        *("Relu", "LeakyRelu", "Gelu", "Erf", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Softmax", "Clip"),
        *("AveragePool", "MaxPool", "GlobalAveragePool", "ReduceMean", "ReduceMax", "ReduceSum"),
        *(
            "BatchNormalization",
            "LayerNormalization",
            "InstanceNormalization",
            "Abs",
            "Concat",
            "Resize",
            "Reshape",
            "Transpose",
            "Flatten",
        ),
        *("Squeeze", "Unsqueeze", "Slice", "Split", "Expand", "Gather", "Pad", "Where", "Identity"),
    }
)
"""Operators that take half precision for each of their float inputs, `FLOAT_INPUTS` aside; others stay in float32."""

FLOAT_INPUTS: Final[dict[str, int]] = {"Resize": 1}
"""Operators of which only so many inputs may be half: scales and regions of a Resize are float32 by definition."""


def to_half(model: onnx.ModelProto, kept: Collection[str]) -> onnx.ModelProto:
    """Return a copy of the graph in half precision inside.

    Parameters
    ----------
    model
        As `layers.prepared` returns it.
    kept
        Names of inner nodes that stay in float32, as `overflowing` finds them.
    """
    converted = onnx.ModelProto()
    converted.CopyFrom(model)
    graph = converted.graph
    narrow = {node.name for node in inner_nodes(graph) if node.op_type in HALF_OPERATORS and node.name not in kept}
    nodes = list(_Casting(converted, narrow).nodes())
    del graph.node[:]
    graph.node.extend(nodes)
    return converted


def peaks(model: onnx.ModelProto, batches: Iterable[Mapping[str, FloatArray]]) -> dict[str, float]:
    """Return the largest magnitude of every float value that inner nodes read or write, over all batches.

    What is never finite at all counts as infinite.
    """
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    graph = probed.graph
    floats = _floats(model) - {each.name for each in graph.initializer}
    names = sorted({name for node in inner_nodes(graph) for name in (*node.input, *node.output)} & floats)
    for name in names:
        graph.node.append(helper.make_node("Abs", [name], [f"{name}:size"]))
        graph.node.append(helper.make_node("ReduceMax", [f"{name}:size"], [f"{name}:peak"], keepdims=0))
        graph.output.append(helper.make_tensor_value_info(f"{name}:peak", TensorProto.FLOAT, []))
    found = dict.fromkeys(names, 0.0)
    with running(probed.SerializeToString()) as runtime:
        for batch in batches:
            outputs = runtime.run(batch)
            for name in names:
                peak = float(outputs[f"{name}:peak"])
                found[name] = max(found[name], peak if np.isfinite(peak) else np.inf)
    return found


def overflowing(model: onnx.ModelProto, largest: Mapping[str, float]) -> dict[str, str]:
    """Return the inner nodes that meet a value or hold a weight over `LARGEST`: their layers' names by node name."""
    constants = {each.name: each for each in model.graph.initializer}
    floats = _floats(model)

    def over(name: str) -> bool:
        if name in constants and name in floats:
            values = np.abs(numpy_helper.to_array(constants[name]))
            return bool((values[np.isfinite(values)] > LARGEST).any())
        return largest.get(name, 0.0) > LARGEST

    return {
        node.name: layer_of(node, constants)
        for node in inner_nodes(model.graph)
        if any(over(name) for name in (*node.input, *node.output))
    }


class _Casting:
    """Rewrites the nodes of a graph in order, with casts where float32 and half precision meet.

    Parameters
    ----------
    model
        Its constants gain half twins; its nodes are read, and given back by `nodes`.
    narrow
        Names of the nodes that run in half precision.
    """

    def __init__(self, model: onnx.ModelProto, narrow: Collection[str]) -> None:
        self._graph, self._narrow = model.graph, narrow
        self._floats = _floats(model)
        self._constants = {each.name: each for each in self._graph.initializer}
        self._outputs = {each.name for each in self._graph.output}
        # The name of each value in each type, once it exists.
        self._half: dict[str, str] = {}
        self._single = {name: name for name in self._floats}

    def nodes(self) -> Iterator[onnx.NodeProto]:
        """Yield the nodes with their casts."""
        for node in self._graph.node:
            narrow = node.name in self._narrow
            for place, name in enumerate(node.input):
                if name in self._floats:
                    half = narrow and place < FLOAT_INPUTS.get(node.op_type, len(node.input))
                    yield from self._cast(name, half=half)
                    node.input[place] = (self._half if half else self._single)[name]
            written = [name for name in node.output if name in self._floats] if narrow else []
            for place, name in enumerate(node.output):
                if name in written:
                    self._half[name] = node.output[place] = f"{name}.fp16"
                    del self._single[name]
            yield node
            for name in written:
                if name in self._outputs:
                    yield from self._cast(name, half=False)

    def _cast(self, name: str, *, half: bool) -> Iterator[onnx.NodeProto]:
        there, other = (self._half, self._single) if half else (self._single, self._half)
        if name in there:
            return
        there[name] = f"{name}.fp16" if half else name
        if name in self._constants:
            values = numpy_helper.to_array(self._constants[name]).astype(np.float16)
            self._graph.initializer.append(numpy_helper.from_array(values, there[name]))
            return
        kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        yield helper.make_node("Cast", [other[name]], [there[name]], name=f"Cast {there[name]}", to=kind)


def _floats(model: onnx.ModelProto) -> set[str]:
    """Return the names of all float32 values of a graph, constants included."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    named = {each.name for each in values if each.type.tensor_type.elem_type == TensorProto.FLOAT}
    return named | {each.name for each in graph.initializer if each.data_type == TensorProto.FLOAT}
