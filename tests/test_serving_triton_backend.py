"""The backend that the server's interpreter runs, with stand-ins for the classes that only the server has."""

import hashlib
import json
import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="needs the extra cpu")


class ModelError(Exception):
    """What the server calls TritonModelException."""


class TritonError:
    """An error of one response."""

    INVALID_ARG = 3
    INTERNAL = 1

    def __init__(self, message, code):
        self.message, self.code = message, code


@dataclass
class Tensor:
    """A name and an array."""

    label: str
    values: np.ndarray

    def name(self):
        """Return the name."""
        return self.label

    def as_numpy(self):
        """Return the array."""
        return self.values


@dataclass
class Response:
    """Outputs or an error."""

    output_tensors: list
    error: TritonError | None = None

    @property
    def values(self):
        """The arrays by name."""
        return {tensor.label: tensor.values for tensor in self.output_tensors}


@dataclass
class Request:
    """Inputs, and the names of the outputs that are wanted."""

    tensors: dict
    wanted: list = field(default_factory=list)

    def inputs(self):
        """Return the tensors."""
        return [Tensor(name, values) for name, values in self.tensors.items()]

    def requested_output_names(self):
        """Return the names."""
        return self.wanted


class Configuration:
    """What the server hands over for completion."""

    def __init__(self, **stated):
        self.stated = {"input": [], "output": [], "max_batch_size": 0, **stated}

    def as_dict(self):
        """Return what is stated."""
        return self.stated

    def add_input(self, tensor):
        """Note an input."""
        self.stated["input"].append(tensor)

    def add_output(self, tensor):
        """Note an output."""
        self.stated["output"].append(tensor)

    def set_max_batch_size(self, size):
        """Note the batch."""
        self.stated["max_batch_size"] = size

    def set_dynamic_batching(self):
        """Note the batching."""
        self.stated["dynamic_batching"] = {}


@pytest.fixture
def backend(monkeypatch):
    """Return the backend's module."""
    server = ModuleType("triton_python_backend_utils")
    for name, stand_in in (
        ("InferenceResponse", Response),
        ("Tensor", Tensor),
        ("TritonError", TritonError),
        ("TritonModelException", ModelError),
    ):
        setattr(server, name, stand_in)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", server)
    monkeypatch.delitem(sys.modules, "serving.backends.onnxruntime.model", raising=False)
    from serving.backends.onnxruntime import model

    yield model
    sys.modules.pop("serving.backends.onnxruntime.model", None)


def arguments(repository, **changes):
    """Return what the server says when it starts an instance."""
    path = repository / "flood" / "1" / "model.onnx"
    config = {
        "default_model_filename": "model.onnx",
        "parameters": {"graph_sha256": {"string_value": hashlib.sha256(path.read_bytes()).hexdigest()}},
        "instance_group": [{"count": 1}],
        **changes,
    }
    return {
        "model_config": json.dumps(config),
        "model_repository": str(repository / "flood"),
        "model_version": "1",
        "model_instance_kind": "CPU",
    }


@pytest.fixture
def instance(backend, logistic_models):
    """Return an instance of the logistic model."""
    made = backend.TritonPythonModel()
    made.initialize(arguments(logistic_models))
    yield made
    made.finalize()


def chips(batch=1, seed=0):
    """Return chips [batch, 2, 32, 32] in dB with holes."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(-30, 0, (batch, 2, 32, 32)).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    return values


def test_answers_every_request(instance):
    """Requests of one call are answered one by one, in order, with the graph's values."""
    given = [chips(1, seed=1), chips(3, seed=2)]
    answers = instance.execute([Request({"s1": each}) for each in given])
    for each, answer in zip(given, answers, strict=True):
        assert answer.error is None
        np.testing.assert_allclose(answer.values["water"], 1 / (1 + np.exp(each[:, 1:] + 21)), atol=1e-6)


def test_a_result_never_depends_on_its_neighbours(instance, monkeypatch):
    """Every sample reaches the graph alone, whatever waits beside it: the answer has the same bits."""
    sizes = []
    run = instance._runtime.run
    monkeypatch.setattr(
        instance._runtime, "run", lambda inputs: sizes.append(len(inputs["s1"])) or run(inputs), raising=True
    )
    mine, neighbour = chips(1, seed=1), np.full((1, 2, 32, 32), np.nan, np.float32)
    alone = instance.execute([Request({"s1": mine})])[0].values["water"]
    batched = instance.execute([Request({"s1": np.concatenate([neighbour, mine, chips(2)])})])[0].values["water"]
    queued = instance.execute([Request({"s1": neighbour}), Request({"s1": mine})])[1].values["water"]
    np.testing.assert_array_equal(batched[1:2], alone)
    np.testing.assert_array_equal(queued, alone)
    assert set(sizes) == {1}


def test_only_what_is_wanted_is_sent(instance):
    """A request may name its outputs."""
    assert instance.execute([Request({"s1": chips()}, ["water"])])[0].values.keys() == {"water"}


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"s1": np.zeros((1, 3, 32, 32), np.float32)}, r"s1 of shape \(1, 3, 32, 32\)"),
        ({"s1": np.zeros((1, 2, 4096, 32), np.float32)}, "at most 2048"),
        ({"radar": np.zeros((1, 2, 32, 32), np.float32)}, "radar"),
    ],
)
def test_a_wrong_request_is_the_clients_fault(instance, tensors, said):
    """A refused request says why, and the one beside it is answered."""
    import re

    refused, answered = instance.execute([Request(tensors), Request({"s1": chips()})])
    assert refused.error.code == TritonError.INVALID_ARG
    assert re.search(said, refused.error.message)
    assert answered.error is None


def test_rows_and_columns_follow_the_graphs_own_facts(instance):
    """What the graph says of its sizes is checked before it is run."""
    instance._multiple_of = 32
    refused = instance.execute([Request({"s1": np.zeros((1, 2, 33, 32), np.float32)})])[0]
    assert "multiples of 32" in refused.error.message
    assert refused.error.code == TritonError.INVALID_ARG


def test_no_traceback_leaves_the_process(instance, monkeypatch):
    """Whatever goes wrong inside is one line, and the process lives on."""

    def fail(_):
        msg = "first line\nsecond line"
        raise KeyError(msg)

    monkeypatch.setattr(instance, "_run", fail)
    error = instance.execute([Request({"s1": chips()})])[0].error
    assert error.code == TritonError.INTERNAL
    assert error.message.startswith("KeyError")
    assert "\n" not in error.message


def test_other_weights_than_stated_are_refused(backend, logistic_models):
    """A graph that is not the one of the configuration is not loaded."""
    said = arguments(logistic_models, parameters={"graph_sha256": {"string_value": "0" * 64}})
    with pytest.raises(ModelError, match=r"0000.*config\.pbtxt"):
        backend.TritonPythonModel().initialize(said)


def test_a_missing_or_broken_graph_is_refused(backend, logistic_models, tmp_path):
    """A model without a graph, or with a file that is none, says so."""
    with pytest.raises(ModelError, match=r"missing\.onnx"):
        backend.TritonPythonModel().initialize(arguments(logistic_models, default_model_filename="missing.onnx"))
    broken = tmp_path / "flood" / "1" / "model.onnx"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no graph")
    with pytest.raises(ModelError, match="ONNX graph"):
        backend.TritonPythonModel().initialize(arguments(tmp_path))


def test_completes_a_configuration(backend, logistic_models, monkeypatch):
    """Tensors and batching come from the graph where the configuration is silent, and stay where it speaks."""
    path = logistic_models / "flood" / "1" / "model.onnx"
    monkeypatch.setattr(backend, "_graph_of_this_process", lambda: path)
    completed = backend.TritonPythonModel.auto_complete_config(Configuration()).stated
    assert completed["input"] == [{"name": "s1", "data_type": "TYPE_FP32", "dims": [2, -1, -1]}]
    assert completed["output"] == [{"name": "water", "data_type": "TYPE_FP32", "dims": [1, -1, -1]}]
    assert completed["max_batch_size"] == 4
    assert "dynamic_batching" in completed

    whole = Configuration(input=["mine"], output=["mine"], max_batch_size=8)
    assert backend.TritonPythonModel.auto_complete_config(whole).stated == {
        "input": ["mine"],
        "output": ["mine"],
        "max_batch_size": 8,
    }


@pytest.mark.parametrize(
    ("counts", "asked", "expected"), [((1,), None, 8), ((2, 2), None, 2), ((16,), None, 1), ((1,), "3", 3)]
)
def test_instances_share_the_cores(backend, monkeypatch, counts, asked, expected):
    """Together the instances of a model use the cores once, unless a number was asked for."""
    monkeypatch.setattr(backend, "available_cores", lambda: 8)
    if asked:
        monkeypatch.setenv("TOCSIN_THREADS", asked)
    assert backend._threads([{"count": count} for count in counts]) == expected


def test_a_gpu_instance_wants_a_gpu(backend, logistic_models):
    """An instance on a GPU is never run on CPU."""
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(ModelError, match="cuda"):
        backend.TritonPythonModel().initialize(arguments(logistic_models) | {"model_instance_kind": "GPU"})


def test_finds_its_graph_in_its_own_arguments(backend, monkeypatch):
    """While a configuration is completed the graph is the first argument of the process."""
    made = SimpleNamespace(read_bytes=lambda: b"stub\0/models/flood/1/model.onnx\0region\0")
    real = backend.Path
    monkeypatch.setattr(backend, "Path", lambda path: made if path == "/proc/self/cmdline" else real(path))
    assert str(backend._graph_of_this_process()) == "/models/flood/1/model.onnx"
