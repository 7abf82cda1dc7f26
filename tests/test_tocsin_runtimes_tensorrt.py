"""Engines on fakes of CUDA and TensorRT, on the real TensorRT for RTX without a card, and on a card (gpu)."""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest

from tocsin.engines import state_folder
from tocsin.errors import ModelInvalidError, RuntimeUnavailableError, UsageError
from tocsin.repository import load_model
from tocsin.runtimes import RuntimeOptions, open_runtime, tensorrt
from tocsin.runtimes.cuda import CudaRuntime
from tocsin.runtimes.onnx import OnnxRuntime
from tocsin.runtimes.tensorrt import Surface, TensorRTRuntime, collecting_logger, deserialise, load_tensorrt


@pytest.fixture(scope="module")
def model(convolving_models):
    """Return the model that the engines are of."""
    return load_model("flood", convolving_models, "fp16")


@pytest.fixture
def opened(fake_engine, fake_tensorrt, fake_cuda, model):
    """Return a function that opens an engine on the fakes."""

    def open_engine(**changes):
        return TensorRTRuntime(fake_engine(**changes), model.path, Surface(fake_tensorrt, fake_cuda))

    return open_engine


def chips(batch, height=64, width=64, seed=0):
    """Return chips [batch, 2, height, width] in dB, each with another hole."""
    values = np.random.default_rng(seed).uniform(-30, 0, (batch, 2, height, width)).astype(np.float32)
    for number, chip in enumerate(values):
        chip[:, number : number + 5] = np.nan
    return values


def test_answers_are_those_of_the_graph(opened, model) -> None:
    """Through pinned memory, streams and parts come the graph's own answers, for every size and batch."""
    with opened() as engine, OnnxRuntime(model.path, RuntimeOptions()) as reference:
        assert (engine.name, engine.device, engine.precision) == ("tensorrt", "cuda", "fp16")
        for batch, height, width in ((1, 64, 64), (1, 32, 64), (8, 64, 64), (11, 32, 32), (2, 64, 32)):
            given = {"s1": chips(batch, height, width, batch)}
            before = given["s1"].copy()
            water = engine.run(given)["water"]
            np.testing.assert_array_equal(water, reference.run(given)["water"])
            np.testing.assert_array_equal(given["s1"], before)
            assert water.dtype == np.float32


def test_two_batches_are_in_flight(opened, fake_cuda) -> None:
    """A batch beyond the usual is run in parts: the second is queued before the first is waited for."""
    with opened() as engine:
        order = []
        for lane in engine._lanes:
            for name in ("send", "receive"):
                step = getattr(lane, name)

                def noted(*arguments, step=step, name=name):
                    order.append(name)
                    return step(*arguments)

                setattr(lane, name, noted)
        engine.run({"s1": chips(6)})
    assert order == ["send", "send", "receive", "send", "receive", "receive"]


def test_results_outlive_the_next_run(opened) -> None:
    """A result is the caller's: the next run does not write into it."""
    with opened() as engine:
        first = engine.run({"s1": chips(1, seed=1)})["water"]
        kept = first.copy()
        engine.run({"s1": chips(1, seed=2)})
        np.testing.assert_array_equal(first, kept)


def test_closing_gives_everything_back(opened, fake_cuda) -> None:
    """No memory of the card is left, closing again does nothing, and a closed engine refuses."""
    engine = opened()
    assert fake_cuda.memory
    engine.close()
    engine.close()
    assert fake_cuda.memory == {}
    with pytest.raises(RuntimeUnavailableError, match="closed"):
        engine.run({"s1": chips(1)})


def test_an_engine_that_computes_wrongly_is_refused(opened, fake_tensorrt, fake_cuda) -> None:
    """Answers beyond the tolerance fail the exam, nothing is answered, and the card's memory is free again."""
    fake_tensorrt.gain = 1.01
    with pytest.raises(ModelInvalidError, match="failed its exam") as caught:
        opened()
    assert "water off by" in str(caught.value)
    assert "--runtime onnx" in caught.value.todo
    assert fake_cuda.memory == {}


def test_wrong_inputs_are_refused(opened) -> None:
    """Names, ranks and sizes outside the engine's are refused before anything is copied."""
    with opened() as engine:
        with pytest.raises(UsageError, match="s1"):
            engine.run({"radar": chips(1)})
        for shape in ((1, 2, 96, 64), (1, 2, 64, 16), (1, 3, 64, 64), (2, 64, 64)):
            with pytest.raises(UsageError, match=r"\(1, 2, 32, 32\) to \(8, 2, 64, 64\)"):
                engine.run({"s1": np.zeros(shape, np.float32)})
        with pytest.raises(UsageError, match="batch size"):
            engine.run({"s1": np.zeros((0, 2, 64, 64), np.float32)})


def test_a_full_card_is_said(opened, fake_tensorrt, fake_cuda) -> None:
    """No room for the engine, or for its batches, is runtime_unavailable, and nothing is left behind."""
    fake_tensorrt.full = True
    with pytest.raises(RuntimeUnavailableError, match="without room"):
        opened()
    fake_tensorrt.full = False
    fake_cuda.room = 8 * 2 * 64 * 64 * 4 - 1
    with pytest.raises(RuntimeUnavailableError, match="cudaMalloc"):
        opened(version_compatible=True)
    assert fake_cuda.memory == {}


def test_a_failed_batch_is_said(opened, fake_tensorrt) -> None:
    """When TensorRT does not run a batch, the caller hears of it, and the engine can be closed."""
    with opened() as engine:
        fake_tensorrt.broken = True
        with pytest.raises(RuntimeUnavailableError, match="did not run"):
            engine.run({"s1": chips(5)})


def test_borders_are_float32(opened, fake_tensorrt) -> None:
    """An engine that takes or gives anything but float32 was not built from a graph of ours."""
    fake_tensorrt.border = "HALF"
    with pytest.raises(ModelInvalidError, match="not float32"):
        opened()


def test_a_plan_that_is_refused_says_why(opened, fake_tensorrt) -> None:
    """What TensorRT logged as an error is in the message, what it remarked is not."""
    with pytest.raises(RuntimeUnavailableError, match="Version tag does not match") as caught:
        opened(plan=b"of another version")
    assert "not of interest" not in str(caught.value)


def test_code_of_a_plan_is_trusted_only_when_it_has_some(opened, fake_tensorrt) -> None:
    """A version-compatible plan brings code, which has to be allowed; for all others it stays forbidden."""
    opened().close()
    opened(version_compatible=True).close()
    assert fake_tensorrt.host_code == [False, True]


def test_a_stripped_plan_takes_its_weights_from_the_graph(opened, fake_tensorrt, model) -> None:
    """A plan without weights is refitted from the graph; one that misses a weight is refused."""
    opened().close()
    assert fake_tensorrt.refitted == []
    opened(stripped=True).close()
    assert fake_tensorrt.refitted == [str(model.path)]
    fake_tensorrt.missing = ["first"]
    with pytest.raises(ModelInvalidError, match="without \\['first'\\]"):
        opened(stripped=True, version_compatible=True)


def test_what_was_compiled_is_kept(opened, fake_tensorrt, monkeypatch, tmp_path) -> None:
    """TensorRT for RTX reads the kernels of the run before; those of another driver are replaced."""
    monkeypatch.setenv("TOCSIN_STATE", str(tmp_path / "state"))
    with opened(flavour="rtx") as engine:
        assert engine.name == "tensorrt-rtx"
        assert all(lane._context.config.used is lane._context.config.cache for lane in engine._lanes)
    assert fake_tensorrt.caches_read == []
    [cache] = (state_folder() / "rtx").iterdir()
    assert cache.name.endswith("-8.9.cache")
    assert cache.read_bytes() == b"kernels"
    cache.write_bytes(b"of another driver")
    opened(flavour="rtx").close()
    assert fake_tensorrt.caches_read == [b"of another driver"]
    assert cache.read_bytes() == b"kernels"


def test_a_cache_that_cannot_be_written_is_said(opened, monkeypatch, tmp_path, caplog) -> None:
    """The engine answers all the same; the log says what the next start will cost."""
    (tmp_path / "state").write_text("no folder")
    monkeypatch.setenv("TOCSIN_STATE", str(tmp_path / "state"))
    with caplog.at_level("WARNING", "tocsin.runtimes.tensorrt"):
        opened(flavour="rtx").close()
    assert "the next start compiles again" in caplog.text


def test_datacenter_needs_no_cache(opened, monkeypatch, tmp_path) -> None:
    """TensorRT of the data centre compiled everything when it built."""
    monkeypatch.setenv("TOCSIN_STATE", str(tmp_path / "state"))
    opened().close()
    assert not (tmp_path / "state").exists()


def test_finds_and_opens(fake_engine, fake_tensorrt, fake_cuda, model, monkeypatch, tmp_path) -> None:
    """`--runtime tensorrt` finds the engine in TOCSIN_ENGINES by graph, version and card, and opens it."""
    monkeypatch.setenv("TOCSIN_ENGINES", str(tmp_path / "engines"))
    monkeypatch.setattr(tensorrt, "load_tensorrt", lambda _: fake_tensorrt)
    monkeypatch.setattr(tensorrt, "CudaRuntime", lambda: fake_cuda)
    options = RuntimeOptions(runtime="tensorrt", precision="fp16")
    with pytest.raises(RuntimeUnavailableError, match="no engine of flood"):
        open_runtime(model, options)
    fake_engine()
    with open_runtime(model, options) as runtime:
        assert runtime.run({"s1": chips(1)})["water"].shape == (1, 1, 64, 64)
    fake_tensorrt.__version__ = "11.5.0"
    with pytest.raises(RuntimeUnavailableError, match="stale engines of flood"):
        open_runtime(model, options)


def test_without_the_package(monkeypatch) -> None:
    """A TensorRT that is not installed, or whose libraries are missing, names the extra."""

    def refuse(name):
        raise ImportError(f"libnvinfer.so.11, needed by {name}")

    monkeypatch.setattr(tensorrt.importlib, "import_module", refuse)
    with pytest.raises(RuntimeUnavailableError, match=r"tensorrt: libnvinfer.*tensorrt_bindings") as caught:
        load_tensorrt("datacenter")
    assert "tocsin[tensorrt]" in caught.value.todo
    with pytest.raises(RuntimeUnavailableError, match="tensorrt_rtx") as caught:
        load_tensorrt("rtx")
    assert "tocsin[tensorrt-rtx]" in caught.value.todo


def test_the_other_names_of_the_module(monkeypatch) -> None:
    """Where only the bindings are installed, they are used."""
    there = SimpleNamespace(__version__="11.4.0.106")

    def only_bindings(name):
        if name != "tensorrt_bindings":
            raise ImportError(name)
        return there

    monkeypatch.setattr(importlib, "import_module", only_bindings)
    assert load_tensorrt("datacenter") is there


@pytest.fixture(scope="module")
def rtx():
    """Return TensorRT for RTX."""
    return pytest.importorskip("tensorrt_rtx", reason="needs the extra tensorrt-rtx")


def test_loading_without_a_card_is_runtime_unavailable(rtx, rtx_plan) -> None:
    """The real TensorRT for RTX refuses a plan that it built itself when there is no driver, and says so."""
    if _has_card():
        pytest.skip("this machine has a card")
    with pytest.raises(RuntimeUnavailableError, match=r"cudaError (35|100)"):
        deserialise(rtx, rtx_plan)


def test_opening_without_a_card_is_runtime_unavailable(rtx, model) -> None:
    """`--runtime tensorrt-rtx` on a machine without a card says that there is none, before it looks for engines."""
    if _has_card():
        pytest.skip("this machine has a card")
    with pytest.raises(RuntimeUnavailableError, match="cuda"):
        open_runtime(model, RuntimeOptions(runtime="tensorrt-rtx", precision="fp16"))


def test_logger_keeps_errors(rtx) -> None:
    """Errors of the real library end in the list, and nothing is printed."""
    logger = collecting_logger(rtx)
    logger.log(rtx.ILogger.Severity.ERROR, " broken ")
    logger.log(rtx.ILogger.Severity.INFO, "remark")
    assert logger.messages == ["broken"]


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
@pytest.mark.parametrize("stripped", [False, True])
def test_on_a_card(name, stripped, convolving_models, monkeypatch, tmp_path) -> None:
    """On a card an engine is built, passes the gate and its exam, and gives the graph's answers, stripped or not."""
    from export.engine import EngineOptions, build_engine

    flavour = tensorrt.FLAVOURS[name]
    try:
        load_tensorrt(flavour)
    except RuntimeUnavailableError as error:
        pytest.skip(str(error))
    monkeypatch.setenv("TOCSIN_ENGINES", str(tmp_path / "engines"))
    monkeypatch.setenv("TOCSIN_STATE", str(tmp_path / "state"))
    model = load_model("flood", convolving_models, "fp16")
    capability = CudaRuntime().card().capability
    wanted = {"compute_capability": (capability,)} if flavour == "rtx" else {}
    options = EngineOptions(flavour=flavour, strip_weights=stripped, **wanted)
    engine = build_engine(model, tmp_path / "engines", options, None, overwrite=False)
    assert engine.record.parity is not None
    given = {"s1": chips(11)}
    with (
        open_runtime(model, RuntimeOptions(runtime=name, precision="fp16")) as runtime,
        OnnxRuntime(model.folder / "1/model.onnx", RuntimeOptions()) as reference,
    ):
        np.testing.assert_allclose(runtime.run(given)["water"], reference.run(given)["water"], atol=2e-3)
    assert (tmp_path / "state" / "rtx").exists() is (flavour == "rtx")


def _has_card():
    try:
        CudaRuntime()
    except RuntimeUnavailableError:
        return False
    return True
