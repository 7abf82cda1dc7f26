"""Write a fitted model as one ONNX graph: motion in, score and map out, preparation and distances inside."""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.anomaly.encoder import PHASE
from tocsin.anomaly.fitting import LEAST_CELL, REACH, SMOOTH_CELLS, Fitted
from tocsin.anomaly.gaussian import LIKELIHOOD
from tocsin.anomaly.geometry import CELL_PX, CELLS, CHIP, gaussian_weights
from tocsin.anomaly.manifest import INPUT, MAP, SCORE
from tocsin.anomaly.preparation import FILL_LEAST, FILL_SIGMA_PX, LEAST_SHARE, MEASURABLE_M, TINY

LOWEST: Final = -3.0e38
PREFIX: Final = "encoder_"


class Nodes:
    """Nodes and constants of a graph in the making; every method returns the name of a value."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:  # noqa: ANN401 - as onnx's
        """Append a node with one output."""
        output = name or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, values: NDArray[Any] | float | Sequence[int]) -> str:
        """Add a constant: integers stay int64, booleans stay, numbers become float32."""
        array = np.asarray(values)
        kind = {"i": np.int64, "b": np.bool_}.get(array.dtype.kind, np.float32)
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array, dtype=kind), name))
        return name

    def both(self, left: str, values: str, right: str) -> str:
        """``left @ values @ right`` over the last two axes."""
        return self.add("MatMul", self.add("MatMul", left, values), right)

    def ratio(self, above: str, below: str) -> str:
        """Quotient whose divisor is never 0."""
        return self.add("Div", above, self.add("Max", below, self.constant(TINY)))

    def at_least(self, values: str, bound: float) -> str:
        """Return whether values reach a bound."""
        return self.add("GreaterOrEqual", values, self.constant(bound))

    def number(self, flags: str) -> str:
        """1.0 where true."""
        return self.add("Cast", flags, to=TensorProto.FLOAT)


def fitted_graph(encoder: onnx.ModelProto, fitted: Fitted, properties: dict[str, str]) -> onnx.ModelProto:
    """Return the graph of a fitted model.

    Parameters
    ----------
    encoder
        As `export.anomaly.encoder.cut_encoder` cuts it.
    fitted
        As `tocsin.anomaly.fitting.fit` fits it, with that encoder.
    properties
        What the file says about itself, for `metadata_props`.
    """
    inner = onnx.compose.add_prefix(encoder, PREFIX)
    nodes = Nodes()
    valid, measured = _prepare(nodes, fitted)
    nodes.nodes += list(inner.graph.node)
    sides = {value.name: value.type.tensor_type.shape.dim[-1].dim_value for value in encoder.graph.output}
    cells = _distances(nodes, fitted, sides)
    _outputs(nodes, fitted, cells, valid, measured)
    rows, cols = fitted.preparation.geometry.shape
    graph = helper.make_graph(
        nodes.nodes,
        "anomaly",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", 1, rows, cols])],
        [
            helper.make_tensor_value_info(SCORE, TensorProto.FLOAT, ["batch", 1]),
            helper.make_tensor_value_info(MAP, TensorProto.FLOAT, ["batch", 1, rows, cols]),
        ],
        [*nodes.constants, *inner.graph.initializer],
    )
    model = helper.make_model(graph, opset_imports=list(inner.opset_import), functions=list(inner.functions))
    model.ir_version = inner.ir_version
    helper.set_model_props(model, properties)
    onnx.checker.check_model(model)
    return model


def _prepare(nodes: Nodes, fitted: Fitted) -> tuple[str, str]:
    """Add `prepare`; return where the grid is valid (bool), and where the chip is measured (0 or 1)."""
    fixed = fitted.preparation
    rows, cols = nodes.constant(fixed.geometry.rows), nodes.constant(fixed.geometry.cols.T)
    small = nodes.add("LessOrEqual", nodes.add("Abs", INPUT), nodes.constant(MEASURABLE_M))
    valid = nodes.add("And", small, nodes.constant(fixed.observable[None, None]))
    zero = nodes.constant(0.0)
    total = nodes.both(rows, nodes.add("Where", valid, INPUT, zero), cols)
    share = nodes.both(rows, nodes.number(valid), cols)
    measured = nodes.at_least(share, LEAST_SHARE)
    known = nodes.add("Where", measured, nodes.ratio(total, share), zero)
    weight = nodes.number(measured)
    kernel = nodes.constant(gaussian_weights(CHIP, FILL_SIGMA_PX))
    near = nodes.both(kernel, weight, kernel)
    filled = nodes.add("Where", measured, known, nodes.ratio(nodes.both(kernel, known, kernel), near))
    axes = nodes.constant([2, 3])
    mean = nodes.ratio(nodes.add("ReduceSum", known, axes), nodes.add("ReduceSum", weight, axes))
    reached = nodes.add("And", nodes.at_least(near, FILL_LEAST), nodes.constant(fixed.observable_chip[None, None]))
    there = nodes.add("Or", measured, reached)
    phase = nodes.add("Mul", nodes.add("Sub", filled, mean), nodes.constant(fixed.rad_per_m))
    nodes.add("Where", there, phase, nodes.constant(math.nan), name=f"{PREFIX}{PHASE}")
    return valid, weight


def _distances(nodes: Nodes, fitted: Fitted, sides: dict[str, int]) -> str:
    """Add embeddings and distances; return them in cells, [B, 1, cell row, cell col], 0 where none is fitted."""
    parts = []
    for name, picked in zip(fitted.channels.names, fitted.channels.picked, strict=True):
        if picked:
            chosen = nodes.add("Gather", f"{PREFIX}{name}", nodes.constant(picked), axis=1)
            parts.append(_in_cells(nodes, chosen, sides[name]))
    joined = nodes.add("Concat", *parts, axis=1)
    flat = nodes.add("Reshape", joined, nodes.constant([0, len(fitted.channels.weights), CELLS * CELLS]))
    chosen = nodes.add("Gather", flat, nodes.constant(fitted.cells), axis=2)
    # [B, d, P] to [P, B, d]: one product per cell.
    turned = nodes.add("Transpose", chosen, perm=[2, 0, 1])
    apart = nodes.add("Sub", turned, nodes.constant(fitted.mean[:, None]))
    white = nodes.add("MatMul", apart, nodes.constant(fitted.whitening))
    squared = nodes.add("ReduceSum", nodes.add("Mul", white, white), nodes.constant([2]), keepdims=0)
    found = nodes.add("Sqrt", squared)
    if fitted.settings.method in LIKELIHOOD:
        found = nodes.add("Mul", squared, nodes.constant(0.5))
        found = nodes.add("Add", found, nodes.constant(fitted.offset[:, None]))
    # One row of zeros more, that cells without a Gaussian are looked up in.
    padded = nodes.add("Pad", found, nodes.constant([0, 0, 1, 0]), nodes.constant(0.0))
    places = np.full(CELLS * CELLS, len(fitted.cells))
    places[fitted.cells] = np.arange(len(fitted.cells))
    spread = nodes.add("Transpose", nodes.add("Gather", padded, nodes.constant(places), axis=0), perm=[1, 0])
    return nodes.add("Reshape", spread, nodes.constant([-1, 1, CELLS, CELLS]))


def _in_cells(nodes: Nodes, values: str, side: int) -> str:
    """Average a finer map of some side into cells, or repeat a coarser one (nearest)."""
    if side > CELLS:
        step = side // CELLS
        return nodes.add("AveragePool", values, kernel_shape=[step, step], strides=[step, step])
    if side == CELLS:
        return values
    repeats = np.repeat(np.arange(side), CELLS // side)
    tall = nodes.add("Gather", values, nodes.constant(repeats), axis=2)
    return nodes.add("Gather", tall, nodes.constant(repeats), axis=3)


def _outputs(nodes: Nodes, fitted: Fitted, cells: str, valid: str, weight: str) -> None:
    """Add smoothing, the highest cell and the map on the series' grid."""
    known = np.zeros(CELLS * CELLS, dtype=bool)
    known[fitted.cells] = True
    share = nodes.add("AveragePool", weight, kernel_shape=[CELL_PX, CELL_PX], strides=[CELL_PX, CELL_PX])
    fit_here = nodes.constant(known.reshape(1, 1, CELLS, CELLS))
    judged = nodes.add("And", nodes.at_least(share, LEAST_CELL), fit_here)
    counted = nodes.number(judged)
    kernel = nodes.constant(gaussian_weights(CELLS, SMOOTH_CELLS))
    above = nodes.both(kernel, nodes.add("Mul", cells, counted), kernel)
    smooth = nodes.ratio(above, nodes.both(kernel, counted, kernel))
    nothing = nodes.constant(math.nan)
    lowest = nodes.constant(LOWEST)
    highest = nodes.add("ReduceMax", nodes.add("Where", judged, smooth, lowest), nodes.constant([2, 3]), keepdims=0)
    nodes.add("Where", nodes.add("Greater", highest, lowest), highest, nothing, name=SCORE)
    geometry = fitted.preparation.geometry
    up_rows, up_cols = nodes.constant(geometry.up_rows), nodes.constant(geometry.up_cols.T)
    reach = nodes.both(up_rows, counted, up_cols)
    drawn = nodes.ratio(nodes.both(up_rows, nodes.add("Mul", smooth, counted), up_cols), reach)
    shown = nodes.add("And", valid, nodes.at_least(reach, REACH))
    nodes.add("Where", shown, drawn, nothing, name=MAP)
