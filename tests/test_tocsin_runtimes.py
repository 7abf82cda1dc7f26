"""One contract for every runtime, the fake included; then what each adds."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from pydantic import ValidationError

from tocsin.engines import ExamCase
from tocsin.errors import ModelInvalidError, RuntimeUnavailableError, UsageError
from tocsin.runtimes import RuntimeOptions, available_cores, open_runtime
from tocsin.runtimes.fake import FakeRuntime
from tocsin.runtimes.onnx import OnnxRuntime, session_options
from tocsin.runtimes.tensorrt import Surface, TensorRTRuntime


@dataclass
class StandInModel:
    """What a runtime needs of a model: where the graph lies."""

    path: Path


def write_graph(path):
    """Graph that gives band 0 of s1 as water, so that NaN propagates."""
    index = helper.make_tensor("first", TensorProto.INT64, [1], [0])
    node = helper.make_node("Gather", ["s1", "first"], ["water"], axis=1)
    size = ["batch", 2, "height", "width"]
    graph = helper.make_graph(
        [node],
        "identity",
        [helper.make_tensor_value_info("s1", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info("water", TensorProto.FLOAT, ["batch", 1, "height", "width"])],
        [index],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return StandInModel(path)


SERVED = [pytest.param(name, marks=pytest.mark.triton) for name in ("grpc", "http", "memory")]


@pytest.fixture(params=["fake", "onnx", "tensorrt", *SERVED])
def runtime(request, tmp_path):
    """Every runtime, with the identity graph: TensorRT on a fake card, Triton on a real server."""
    if request.param == "fake":
        opened = FakeRuntime.identity()
    elif request.param == "onnx":
        opened = open_runtime(write_graph(tmp_path / "model.onnx"), RuntimeOptions())
    elif request.param == "tensorrt":
        opened = engine_of(write_graph(tmp_path / "model.onnx"), request)
    else:
        opened = request.getfixturevalue("triton_server").open(transport=request.param)
    with opened:
        yield opened


def engine_of(model, request):
    """Open that graph as an engine for chips of up to 512 px."""
    trt, cuda = request.getfixturevalue("fake_tensorrt"), request.getfixturevalue("fake_cuda")
    exam = ExamCase({"s1": chips()}, {"water": chips()[:, :1]})
    profile = {"name": "s1", "smallest": (1, 2, 32, 32), "usual": (2, 2, 64, 64), "largest": (8, 2, 512, 512)}
    write = request.getfixturevalue("fake_engine")
    engine = write(plan=model.path.read_bytes(), case=exam, precision="fp32", profile=(profile,))
    return TensorRTRuntime(engine, model.path, Surface(trt, cuda))


def chips(batch=1, size=64, seed=0):
    """Chips [batch, 2, size, size] in dB with holes."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(-30, 0, (batch, 2, size, size)).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    return values


def test_says_what_runs(runtime):
    """A runtime names itself, its device and its precision."""
    devices = {"fake": "cpu", "onnx": "cpu", "tensorrt": "cuda", "grpc": "cpu", "http": "cpu"}
    assert runtime.device == devices[runtime.name]
    assert runtime.precision == "fp32"


@pytest.mark.parametrize(("batch", "size"), [(1, 32), (1, 512), (3, 64)])
def test_output_is_float32_of_the_batch(runtime, batch, size):
    """The output is float32 [batch, 1, height, width], the input's values, NaN where they are."""
    given = chips(batch, size)
    out = runtime.run({"s1": given})
    assert set(out) == {"water"}
    assert out["water"].dtype == np.float32
    np.testing.assert_array_equal(out["water"], given[:, :1])


def test_input_is_not_changed(runtime):
    """Running leaves the caller's array alone."""
    given = chips()
    before = given.copy()
    runtime.run({"s1": given})
    np.testing.assert_array_equal(given, before)


def test_same_input_same_output(runtime):
    """Two runs, alone or in a batch, give the same bits."""
    given = chips(4)
    together = runtime.run({"s1": given})["water"]
    np.testing.assert_array_equal(runtime.run({"s1": given})["water"], together)
    alone = [runtime.run({"s1": given[k : k + 1]})["water"] for k in range(4)]
    np.testing.assert_array_equal(np.concatenate(alone), together)


def test_results_outlive_the_next_run(runtime):
    """A result is the caller's: the next run does not write into it."""
    first = runtime.run({"s1": chips(seed=1)})["water"]
    kept = first.copy()
    runtime.run({"s1": chips(seed=2)})
    np.testing.assert_array_equal(first, kept)


def test_closed_runtime_refuses(runtime):
    """After close, run says that the runtime is closed; closing again does nothing."""
    runtime.close()
    runtime.close()
    with pytest.raises(RuntimeUnavailableError, match="closed"):
        runtime.run({"s1": chips()})


def test_fake_runs_any_function():
    """The fake runs what it is given, counts its calls and can imitate a slow graph."""
    fake = FakeRuntime(lambda inputs: {"water": np.float32(2) * inputs["s1"][:, :1]}, delay_s=0.001)
    given = chips()
    np.testing.assert_array_equal(fake.run({"s1": given})["water"], 2 * given[:, :1])
    assert fake.calls == 1


def test_onnx_refuses_other_names(tmp_path):
    """A wrong input name is refused with the right one."""
    with OnnxRuntime(write_graph(tmp_path / "m.onnx").path, RuntimeOptions()) as opened:
        with pytest.raises(UsageError, match="s1"):
            opened.run({"radar": chips()})
        with pytest.raises(UsageError, match=r"shape \(1, 3, 32, 32\)"):
            opened.run({"s1": np.zeros((1, 3, 32, 32), np.float32)})
        with pytest.raises(UsageError, match="shape"):
            opened.run({"s1": np.zeros((2, 32, 32), np.float32)})


def test_onnx_refuses_a_broken_graph(tmp_path):
    """A file that is no graph is an invalid model."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(ModelInvalidError, match=r"model\.onnx"):
        OnnxRuntime(path, RuntimeOptions())


def test_missing_device_is_refused(tmp_path):
    """CUDA that is not there is an error, never the CPU."""
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(RuntimeUnavailableError, match="cuda"):
        open_runtime(write_graph(tmp_path / "m.onnx"), RuntimeOptions(device="cuda"))


def test_silent_fallback_is_refused(tmp_path, monkeypatch):
    """A session that starts on CPU although CUDA was asked for is refused."""
    import onnxruntime

    model = write_graph(tmp_path / "m.onnx")
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda path, options, **_: real(path, options, providers=["CPUExecutionProvider"]),
    )
    with pytest.raises(RuntimeUnavailableError, match="fell back"):
        open_runtime(model, RuntimeOptions(device="cuda"))


@pytest.mark.parametrize("name", ["torch", "grpc://host", "grpc://:8001", "onnx ", ""])
def test_unknown_runtimes_are_no_option(name):
    """What the contract does not list is no runtime."""
    with pytest.raises(ValidationError):
        RuntimeOptions(runtime=name)


def test_threads():
    """Without a number a session takes the cores of this process, and it does not spin beside the other stages."""
    assert session_options(RuntimeOptions()).intra_op_num_threads == available_cores()
    chosen = session_options(RuntimeOptions(threads=3))
    assert chosen.intra_op_num_threads == 3
    assert chosen.get_session_config_entry("session.intra_op.allow_spinning") == "0"
