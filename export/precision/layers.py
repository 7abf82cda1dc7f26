"""Which part of a graph may run in lower precision, and by which names its layers are known.

The part lies between the first and the last weighted layer. What comes before (physical units, NaN, normalisation) and
after (calibration, probability, the NaN rule) stays in float32, whatever the precision: so NaN is found and given back
by the very same nodes, and no -9999 or 1e30 of a file ever meets a narrow number.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

WEIGHTED: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def prepared(content: bytes) -> onnx.ModelProto:
    """Return the graph with every node named after its first output and batch normalisation folded into convolutions.

    A weight that several convolutions share, each followed by the same normalisation, is folded once and stays shared.
    """
    model = onnx.load_from_string(content)
    for node in model.graph.node:
        node.name = node.output[0]
    _fold_normalisation(model.graph)
    _drop_unused(model.graph)
    return model


def finished(model: onnx.ModelProto, precision: str) -> bytes:
    """Return the bytes of a converted graph after checking it; who needs shapes inside infers them again.

    Raises
    ------
    onnx.checker.ValidationError, onnx.shape_inference.InferenceError
        When the graph is not valid: a defect of the conversion.
    """
    _drop_unused(model.graph)
    del model.graph.value_info[:]
    model.doc_string = f"precision inside: {precision}; inputs, outputs, scaling and probabilities: float32"
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def inner_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes that are a weighted layer or lie between two, in the graph's order."""
    after: dict[str, bool] = {}
    for node in graph.node:
        reached = node.op_type in WEIGHTED or any(after.get(name, False) for name in node.input)
        after.update(dict.fromkeys(node.output, reached))
    before: dict[str, bool] = defaultdict(bool)
    inner = []
    for node in reversed(graph.node):
        reaches = node.op_type in WEIGHTED or any(before[name] for name in node.output)
        for name in node.input:
            before[name] |= reaches
        if reaches and after[node.output[0]]:
            inner.append(node)
    return inner[::-1]


def layer_of(node: onnx.NodeProto, constants: Iterable[str]) -> str:
    """Return the name by which a node is listed: its weight's, as training knows it, else operator and output."""
    weights = [name for name in node.input[1:] if name in constants] if node.op_type in WEIGHTED else []
    return weights[0].removesuffix(FOLDED).removesuffix(".weight") if weights else f"{node.op_type} {node.output[0]}"


def weighted_layers(graph: onnx.GraphProto) -> dict[str, list[str]]:
    """Return the names of the nodes of each weighted layer; a layer that is used several times has several."""
    constants = {each.name for each in graph.initializer}
    layers: dict[str, list[str]] = defaultdict(list)
    for node in graph.node:
        if node.op_type in WEIGHTED:
            layers[layer_of(node, constants)].append(node.name)
    return dict(layers)


def arithmetic(model: onnx.ModelProto, inputs: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, int]:
    """Return the multiply-adds of each weighted layer, all its uses together, for inputs of these shapes."""
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    for value in sized.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, inputs[value.name].shape, strict=True):
            dim.dim_value = size
    graph = onnx.shape_inference.infer_shapes(sized, strict_mode=True, data_prop=True).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    shapes = {each.name: [dim.dim_value for dim in each.type.tensor_type.shape.dim] for each in values}
    shapes |= {each.name: list(each.dims) for each in graph.initializer}
    constants, total = {each.name for each in graph.initializer}, Counter[str]()
    for node in graph.node:
        if node.op_type in WEIGHTED:
            out, weight = shapes[node.output[0]], shapes[node.input[1]]
            channels = out[-1] if node.op_type == "MatMul" else out[1]
            # A product of two activations takes a matrix for each of the leading axes: one of them is counted.
            matrix = weight if node.input[1] in constants else weight[-2:]
            total[layer_of(node, constants)] += math.prod(out) // channels * math.prod(matrix)
    return dict(total)


FOLDED: Final = ".folded"


def _fold_normalisation(graph: onnx.GraphProto) -> None:
    constants = {each.name: each for each in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(each.name for each in graph.output)
    made: dict[tuple[str, ...], tuple[str, str]] = {}
    for node in [each for each in graph.node if each.op_type == "BatchNormalization"]:
        layer = makers.get(node.input[0])
        names = [*(layer.input[1:] if layer else ()), *node.input[1:]]
        if layer is None or layer.op_type != "Conv" or uses[node.input[0]] > 1 or not set(names) <= set(constants):
            continue
        if (key := tuple(names)) not in made:
            weight = f"{layer.input[1]}{FOLDED}" if not _taken(made, layer.input[1]) else f"{node.name}{FOLDED}"
            arrays = [numpy_helper.to_array(constants[name]).astype(np.float64) for name in names]
            for name, values in zip((weight, f"{weight}.bias"), _folded(arrays, _epsilon(node)), strict=True):
                graph.initializer.append(numpy_helper.from_array(values, name))
            made[key] = weight, f"{weight}.bias"
        kept = layer.input[0]
        del layer.input[:]
        layer.input.extend([kept, *made[key]])
        layer.output[0] = layer.name = node.output[0]
        graph.node.remove(node)


def _taken(made: dict[tuple[str, ...], tuple[str, str]], weight: str) -> bool:
    return any(name == f"{weight}{FOLDED}" for name, _ in made.values())


def _folded(arrays: list[npt.NDArray[np.float64]], epsilon: float) -> tuple[npt.NDArray[np.float32], ...]:
    """Return weight and bias of a convolution that does what convolution and normalisation did, float32."""
    weight, *own_bias, scale, shift, mean, variance = arrays
    gain = scale / np.sqrt(variance + epsilon)
    bias = (own_bias[0] if own_bias else 0.0) - mean
    return (weight * gain[:, None, None, None]).astype(np.float32), (bias * gain + shift).astype(np.float32)


def _epsilon(node: onnx.NodeProto) -> float:
    return next((each.f for each in node.attribute if each.name == "epsilon"), 1e-5)


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input} | {each.name for each in graph.output}
    kept = [each for each in graph.initializer if each.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
