"""Small graphs made by hand: what becomes half precision or eight bits, what stays, and that NaN stays where it was."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra train")
onnx = pytest.importorskip("onnx", reason="needs the extra train")
pytest.importorskip("onnxruntime", reason="needs the extra cpu or gpu")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - after the skips

from export.parity import running  # noqa: E402
from export.precision.half import LARGEST, overflowing, peaks, to_half  # noqa: E402
from export.precision.int8 import Quantiser  # noqa: E402
from export.precision.layers import arithmetic, finished, inner_nodes, prepared, weighted_layers  # noqa: E402
from tocsin.runtimes import RuntimeOptions  # noqa: E402
from tocsin.runtimes.onnx import OnnxRuntime  # noqa: E402

BEFORE = ["missing", "known", "scaled"]
AFTER = ["water_raw", "water"]


def network_graph(gains=(1.0, 1.0, 1.0), *, normalised=True, bare=False):
    """Return a graph: NaN masked, dB scaled, three layers (the second used twice), sigmoid, NaN given back.

    Parameters
    ----------
    gains
        Factor of what each layer gives; the next one takes it back.
    normalised
        Whether a batch normalisation follows each use of the second layer.
    bare
        Whether the last layer is the graph's output itself.
    """
    random = np.random.default_rng(2)
    constants = {"zero": np.zeros((), np.float32), "scale": np.full((), 0.1, np.float32)}
    constants |= {"nothing": np.full((), np.nan, np.float32)}
    back = 1.0
    for name, (outs, ins), gain in zip("abc", ((6, 2), (6, 6), (1, 6)), gains, strict=True):
        constants[f"{name}.weight"] = (random.normal(0, 0.2, (outs, ins, 3, 3)) * gain / back).astype(np.float32)
        constants[f"{name}.bias"] = (random.normal(0, 0.2, outs) * gain).astype(np.float32)
        back = gain
    for part, low in (("gain", 0.5), ("shift", -0.5), ("mean", -0.5), ("variance", 0.5)):
        constants[part] = random.uniform(low, 1.5, 6).astype(np.float32)

    def layer(name, source, made):
        return helper.make_node("Conv", [source, f"{name}.weight", f"{name}.bias"], [made], pads=[1, 1, 1, 1])

    nodes = [
        helper.make_node("IsNaN", ["s1"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "s1"], ["known"]),
        helper.make_node("Mul", ["known", "scale"], ["scaled"]),
        layer("a", "scaled", "a"),
        helper.make_node("Relu", ["a"], ["a_relu"]),
    ]
    last = "a_relu"
    for turn in ("1", "2"):
        nodes.append(layer("b", last, f"b{turn}"))
        last = f"b{turn}"
        if normalised:
            read = [last, "gain", "shift", "mean", "variance"]
            nodes.append(helper.make_node("BatchNormalization", read, [f"n{turn}"]))
            last = f"n{turn}"
    nodes.append(helper.make_node("Concat", [last, "a_relu"], ["joined"], axis=1))
    nodes.append(helper.make_node("Slice", ["joined", "start", "end", "axis"], ["part"]))
    indices = {"start": [0], "end": [6], "axis": [1], "first": [0]}
    nodes.append(layer("c", "part", "water" if bare else "water_raw"))
    if not bare:
        nodes += [
            helper.make_node("Sigmoid", ["water_raw"], ["probability"]),
            helper.make_node("Gather", ["missing", "first"], ["unseen"], axis=1),
            helper.make_node("Where", ["unseen", "nothing", "probability"], ["water"]),
        ]
    size = ["batch", 2, "height", "width"]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("s1", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info("water", TensorProto.FLOAT, ["batch", 1, "height", "width"])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()]
        + [numpy_helper.from_array(np.array(values, np.int64), name) for name, values in indices.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(made, {"name": "small"})
    return made.SerializeToString()


def chips(batch=2, seed=0):
    """Return chips [batch, 2, 32, 48] in dB with holes, the last one nothing but NaN in its first band."""
    random = np.random.default_rng(seed)
    values = random.uniform(-30, 0, (batch, 2, 32, 48)).astype(np.float32)
    values[random.random(values.shape) < 0.1] = np.nan
    values[-1, 0] = np.nan
    return {"s1": values}


def answer(graph, inputs):
    """Return what a graph answers."""
    with running(graph) as runtime:
        return runtime.run(inputs)["water"]


def half_of(graph):
    """Return the FP16 graph and the layers that stayed in float32."""
    model = prepared(graph)
    kept = overflowing(model, peaks(model, [chips()]))
    return finished(to_half(model, kept), "fp16"), kept


def int8_of(graph, kept=()):
    """Return the INT8 graph, calibrated on other chips than it is judged on."""
    model = prepared(graph)
    with Quantiser(model, [chips(seed=seed) for seed in (7, 8)]) as quantiser:
        return quantiser.quantised(kept)


def types_of(graph):
    """Return the element type of every value by name."""
    model = onnx.load_from_string(graph)
    found = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*found.value_info, *found.input, *found.output)
    return {each.name: each.type.tensor_type.elem_type for each in values} | {
        each.name: each.data_type for each in model.graph.initializer
    }


def test_the_part_between_the_first_and_the_last_layer_is_inner() -> None:
    """Masking, scaling, probability and the NaN rule are outside, whatever lies between two layers is inside."""
    model = prepared(network_graph())
    inner = [node.name for node in inner_nodes(model.graph)]
    assert inner == ["a", "a_relu", "n1", "n2", "joined", "part", "water_raw"]
    assert weighted_layers(model.graph) == {"a": ["a"], "b": ["n1", "n2"], "c": ["water_raw"]}


def test_arithmetic_counts_every_use() -> None:
    """Multiply-adds are positions times weights, of a layer that is used twice both uses."""
    counted = arithmetic(prepared(network_graph()), chips())
    pixels = 2 * 32 * 48
    assert counted == {"a": pixels * 6 * 2 * 9, "b": 2 * pixels * 6 * 6 * 9, "c": pixels * 6 * 9}


def test_normalisation_is_folded_and_shared_weights_stay_shared() -> None:
    """The folded graph answers as before, without a normalisation, and with one weight for both uses."""
    graph = network_graph()
    folded = finished(prepared(graph), "fp32")
    model = onnx.load_from_string(folded).graph
    assert not any(node.op_type == "BatchNormalization" for node in model.node)
    assert len([each for each in model.initializer if len(each.dims) == 4]) == 3
    np.testing.assert_allclose(answer(folded, chips()), answer(graph, chips()), atol=1e-5)


def test_two_normalisations_after_one_weight_are_two_layers() -> None:
    """A weight that is normalised in two ways is folded in two ways."""
    made = onnx.load_from_string(network_graph())
    made.graph.initializer.append(numpy_helper.from_array(np.full(6, 2.0, np.float32), "gain_2"))
    (second,) = (node for node in made.graph.node if list(node.output) == ["n2"])
    second.input[1] = "gain_2"
    graph = made.SerializeToString()
    folded = finished(prepared(graph), "fp32")
    np.testing.assert_allclose(answer(folded, chips()), answer(graph, chips()), atol=1e-5)


@pytest.mark.parametrize("bare", [False, True])
def test_half_is_in_the_graph_and_float32_at_its_borders(bare) -> None:
    """Every layer reads and writes half precision; inputs, outputs and what stands before and after are float32."""
    converted, kept = half_of(network_graph(bare=bare))
    types, model = types_of(converted), onnx.load_from_string(converted).graph
    assert not kept
    for node in model.node:
        if node.op_type == "Conv":
            assert {types[name] for name in (*node.input, *node.output)} == {TensorProto.FLOAT16}
    assert types["s1"] == types["water"] == types["scaled"] == TensorProto.FLOAT
    assert len(converted) < 0.8 * len(network_graph(bare=bare))


def test_half_answers_as_float32_with_nan_in_the_same_places() -> None:
    """The difference is that of rounding, and no hole moves, fills or spreads."""
    graph = network_graph()
    wanted, given = answer(graph, chips()), answer(half_of(graph)[0], chips())
    np.testing.assert_array_equal(np.isnan(given), np.isnan(wanted))
    np.testing.assert_allclose(given, wanted, atol=5e-3)
    assert not np.array_equal(given, wanted, equal_nan=True)


def test_what_no_half_holds_is_scaled_before_it_becomes_one(tiny_graph) -> None:
    """Infinite values, -9999 and 1e30 give what they give in float32, since they are masked and clamped there."""
    values = np.random.default_rng(4).uniform(-30, 0, (1, 2, 32, 32)).astype(np.float32)
    values[0, :, ::5, ::5] = np.resize(np.array([np.inf, -np.inf, -9999, 1e30, 70000], np.float32), (2, 7, 7))
    model = prepared(tiny_graph)
    converted = finished(to_half(model, overflowing(model, peaks(model, [{"s1": values}]))), "fp16")
    wanted, given = answer(tiny_graph, {"s1": values}), answer(converted, {"s1": values})
    np.testing.assert_array_equal(np.isnan(given), np.isnan(wanted))
    np.testing.assert_allclose(given, wanted, atol=5e-3)


def test_a_layer_that_overflows_stays_in_float32() -> None:
    """Values beyond a quarter of the largest half keep their layers in float32, listed by name; the others change."""
    graph = network_graph((1e6, 1.0, 1.0))
    model = prepared(graph)
    largest = peaks(model, [chips()])
    assert largest["a"] > 1e6 > LARGEST > largest["n2"]
    converted, kept = half_of(graph)
    assert {"a", "b"} <= set(kept.values())
    assert "c" not in kept.values()
    types = types_of(converted)
    assert types["a"] == TensorProto.FLOAT
    assert types["c.weight.fp16"] == TensorProto.FLOAT16
    np.testing.assert_allclose(answer(converted, chips()), answer(graph, chips()), atol=5e-3)


def test_values_that_are_not_finite_are_an_overflow() -> None:
    """An infinity inside counts as larger than anything."""
    model = prepared(network_graph((1e38, 1e-3, 1.0)))
    assert peaks(model, [chips()])["a"] == np.inf


def test_int8_quantises_the_layers_and_nothing_around_them() -> None:
    """Weights have seven bits of eight; scaling, probability and the NaN rule read and write what they did before."""
    converted = int8_of(network_graph())
    model = onnx.load_from_string(converted).graph
    arrays = {each.name: numpy_helper.to_array(each) for each in model.initializer}
    weights = [values for values in arrays.values() if values.dtype == np.int8 and values.ndim == 4]
    assert len(weights) == 3
    assert all(64 >= np.abs(values.astype(int)).max() > 32 for values in weights)
    makers = {name: node.op_type for node in model.node for name in node.output}
    by_output = {node.output[0]: node for node in model.node}
    assert makers[by_output["scaled"].input[0]] == "Where"
    assert by_output["probability"].op_type == "Sigmoid"
    assert by_output["water"].op_type == "Where"


def test_int8_answers_nearly_as_float32_with_nan_in_the_same_places() -> None:
    """The difference is that of eight bits, and no hole moves, fills or spreads."""
    graph = network_graph()
    wanted, given = answer(graph, chips()), answer(int8_of(graph), chips())
    np.testing.assert_array_equal(np.isnan(given), np.isnan(wanted))
    assert 0 < np.nanmean(np.abs(given - wanted)) < 0.02


def test_int8_keeps_the_layers_that_it_is_told_to_keep() -> None:
    """A kept layer's weight is float32; the others are quantised."""
    arrays = {
        each.name: each for each in onnx.load_from_string(int8_of(network_graph(), {"water_raw"})).graph.initializer
    }
    assert arrays["c.weight"].data_type == TensorProto.FLOAT
    assert "a.weight" not in arrays


@pytest.mark.parametrize("convert", [lambda graph: half_of(graph)[0], int8_of], ids=["fp16", "int8"])
def test_the_same_graph_gives_the_same_bytes(convert) -> None:
    """A conversion is repeatable, and keeps what the file says about itself."""
    graph = network_graph()
    first = convert(graph)
    assert convert(graph) == first
    assert {each.key: each.value for each in onnx.load_from_string(first).metadata_props} == {"name": "small"}


@pytest.mark.parametrize("convert", [lambda graph: half_of(graph)[0], int8_of], ids=["fp16", "int8"])
def test_batch_and_threads_change_nothing(convert, tmp_path) -> None:
    """On a CPU an answer is the same bit for bit, alone or in a batch, on one thread or two."""
    (tmp_path / "model.onnx").write_bytes(convert(network_graph()))
    batch = chips(batch=4)["s1"]
    with OnnxRuntime(tmp_path / "model.onnx", RuntimeOptions(threads=1)) as one:
        wanted = one.run({"s1": batch})["water"]
    with OnnxRuntime(tmp_path / "model.onnx", RuntimeOptions(threads=2)) as two:
        np.testing.assert_array_equal(two.run({"s1": batch})["water"], wanted)
        alone = [two.run({"s1": batch[at : at + 1]})["water"] for at in range(4)]
    np.testing.assert_array_equal(np.concatenate(alone), wanted)
