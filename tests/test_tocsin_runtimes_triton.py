"""The client of a Triton server, against a wire whose answers are written down."""

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from tocsin.errors import (
    DeadlineExceededError,
    ModelInvalidError,
    QueueFullError,
    RuntimeUnavailableError,
    UsageError,
)
from tocsin.repository import load_model
from tocsin.runtimes import RuntimeOptions, open_runtime, triton
from tocsin.runtimes.triton import TritonRuntime, canary_of
from tocsin.runtimes.triton_memory import SHARED, SharedMemory
from tocsin.runtimes.triton_wire import Away, Endpoint, HttpWire, Served, failure

WHERE = Endpoint("grpc", "127.0.0.1", 8001)
GONE = Away("connection refused")
FULL = Away("Exceeds maximum queue size", queue_full=True)


class ScriptedWire:
    """Answers as the logistic graph does, after the failures that were written down for each call."""

    def __init__(self, model):
        self.says = Served(model.artifact.precision, model.sha256, "cpu")
        self.failures = {"served": [], "ask": [], "register": []}
        self.calls = Counter()
        self.samples = []
        self.memory_lies = False
        self.closed = False
        self._lock = threading.Lock()

    def _next(self, call):
        with self._lock:
            self.calls[call] += 1
            if self.failures[call] and (error := self.failures[call].pop(0)):
                raise error

    def served(self, _model):
        """Say what is served."""
        self._next("served")
        return self.says

    def ask(self, _model, question, _timeout_s, memory=None):
        """Answer."""
        self._next("ask")
        self.samples.append(len(question.inputs["s1"]))
        water = 1 / (1 + np.exp(question.inputs["s1"][:, 1:2] + np.float32(21)))
        if memory is not None:
            memory.write(question.inputs)
            if self.memory_lies:
                water = water + np.float32(1)
        return {"water": water}

    def register(self, _memory):
        """Take a region."""
        self._next("register")

    def unregister(self, _memory):
        """Give it back."""
        self.calls["unregister"] += 1

    def close(self):
        """Note it."""
        self.closed = True


@pytest.fixture
def model(logistic_models):
    """Return the logistic model of the scoring tests."""
    return load_model("flood", logistic_models)


@pytest.fixture
def wire(model, monkeypatch):
    """Return the wire that the next runtime gets; pauses take no time."""
    made = ScriptedWire(model)
    monkeypatch.setattr(triton, "open_wire", lambda _: made)
    monkeypatch.setattr(triton, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(triton, "LONGEST_PAUSE_S", 0.001)
    return made


def options(**named):
    """Return options of a local server that may be away for a moment."""
    named.setdefault("shared_memory", False)
    return RuntimeOptions(runtime="grpc://127.0.0.1:8001", **{"deadline_s": 0.2, **named})


def chips(batch=1, size=64, seed=0):
    """Return chips [batch, 2, size, size] in dB with holes."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(-30, 0, (batch, 2, size, size)).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    return values


def water_of(values):
    """Return what the logistic graph answers."""
    return 1 / (1 + np.exp(values[:, 1:2] + np.float32(21)))


@pytest.mark.parametrize(
    ("url", "name"), [("grpc://host:8001", "grpc"), ("grpcs://host:8001", "grpc"), ("http://host:80", "http")]
)
def test_a_url_is_a_runtime(model, wire, url, name):
    """Each scheme opens a client, which names its protocol, the model's precision and the server's device."""
    with open_runtime(model, RuntimeOptions(runtime=url)) as runtime:
        assert isinstance(runtime, TritonRuntime)
        assert (runtime.name, runtime.precision, runtime.device) == (name, "fp32", "cpu")
    assert wire.closed


@pytest.mark.parametrize("batch", [1, 3, 9])
def test_a_batch_travels_sample_by_sample(model, wire, batch):
    """Every sample is a request of its own, and the results are in order."""
    given = chips(batch)
    with TritonRuntime(model, options()) as runtime:
        np.testing.assert_array_equal(runtime.run({"s1": given})["water"], water_of(given))
    assert wire.samples == [1] * (batch + 1)  # the canary came first


def test_a_server_that_is_not_there_is_refused_at_once(model, wire):
    """Before a scene nothing is waited for: the address is probably wrong."""
    wire.failures["served"] = [GONE]
    with pytest.raises(RuntimeUnavailableError, match=r"grpc://127\.0\.0\.1:8001.*connection refused"):
        TritonRuntime(model, options(deadline_s=60))
    assert wire.closed
    assert wire.calls["served"] == 1


@pytest.mark.parametrize(
    "says", [Served("fp32", "0" * 64, "cpu"), Served("fp16", None, "cpu"), Served(None, None, "cpu")]
)
def test_other_weights_are_refused(model, wire, says):
    """A server whose model is not the manifest's, or does not say, is not used."""
    wire.says = says
    with pytest.raises(ModelInvalidError, match=model.sha256):
        TritonRuntime(model, options())
    assert wire.calls["ask"] == 0


def test_another_device_is_refused(model, wire):
    """CUDA that the server does not have is an error; a server on CUDA is reported as such."""
    with pytest.raises(RuntimeUnavailableError, match="cuda"):
        TritonRuntime(model, options(device="cuda"))
    wire.says = Served("fp32", model.sha256, "cuda")
    with TritonRuntime(model, options()) as runtime:
        assert runtime.device == "cuda"


def test_a_model_that_answers_nonsense_is_refused(model, wire, monkeypatch):
    """A canary chip without a single hole must come back without one."""
    monkeypatch.setattr(wire, "ask", lambda *_: {"water": np.full((1, 1, 32, 32), np.nan, np.float32)})
    with pytest.raises(RuntimeUnavailableError, match="no number"):
        TritonRuntime(model, options())


def test_the_scene_goes_on_when_the_server_returns(model, wire, caplog):
    """A server that went away is looked at again, and the whole batch asked again."""
    with TritonRuntime(model, options(deadline_s=60)) as runtime:
        wire.failures["ask"] = [None, GONE, None, GONE]
        given = chips(3)
        with caplog.at_level("INFO", "tocsin.runtimes.triton"):
            np.testing.assert_array_equal(runtime.run({"s1": given})["water"], water_of(given))
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "connection refused" in caplog.records[0].message


def test_a_server_that_returns_with_other_weights_is_refused(model, wire):
    """What came back is compared before it is used."""
    with TritonRuntime(model, options(deadline_s=60)) as runtime:
        wire.failures["ask"] = [GONE]
        wire.says = Served("fp32", "0" * 64, "cpu")
        with pytest.raises(ModelInvalidError, match="0000"):
            runtime.run({"s1": chips()})


def test_weights_that_change_between_batches_are_noticed(model, wire):
    """Another model on a server that never was away is refused after the first batch that it could have answered."""
    with TritonRuntime(model, options()) as runtime:
        runtime.run({"s1": chips()})
        wire.says = Served("fp32", "0" * 64, "cpu")
        with pytest.raises(ModelInvalidError, match="0000"):
            runtime.run({"s1": chips()})


def test_the_deadline_ends_the_wait(model, wire):
    """A server that stays away is an error that says for how long it was waited."""
    with TritonRuntime(model, options(deadline_s=0.02)) as runtime:
        wire.failures["ask"] = [GONE] * 10_000
        wire.failures["served"] = [GONE] * 10_000
        with pytest.raises(DeadlineExceededError, match=r"0\.02 s.*connection refused"):
            runtime.run({"s1": chips()})


def test_a_full_queue_is_tried_again(model, wire):
    """A refusal for want of room keeps what was answered, and ends as queue_full after the deadline."""
    given = chips(3)
    with TritonRuntime(model, options(deadline_s=60)) as runtime:
        wire.failures["ask"] = [None, FULL, FULL]
        asked = wire.calls["ask"]
        np.testing.assert_array_equal(runtime.run({"s1": given})["water"], water_of(given))
        assert wire.calls["ask"] - asked == 3 + 2
    with TritonRuntime(model, options(deadline_s=0.02)) as runtime:
        wire.failures["ask"] = [FULL] * 10_000
        with pytest.raises(QueueFullError, match="queue"):
            runtime.run({"s1": chips()})


@pytest.mark.parametrize(
    ("name", "shape"),
    [("radar", (1, 2, 32, 32)), ("s1", (1, 3, 32, 32)), ("s1", (1, 2, 33, 32)), ("s1", (0, 2, 32, 32))],
)
def test_a_wrong_batch_is_refused_before_it_is_sent(model, wire, name, shape):
    """Names and shapes are checked here, so that the message can say what to do."""
    with TritonRuntime(model, options()) as runtime:
        with pytest.raises(UsageError):
            runtime.run({name: np.zeros(shape, np.float32)})
        assert wire.calls["ask"] == 1


def test_shared_memory_is_used_where_it_proves_itself(model, wire):
    """Locally, one region a lane is registered and given back; chips of another size get other regions."""
    given = chips(2)
    with TritonRuntime(model, options(shared_memory=True)) as runtime:
        assert runtime.shared_memory
        np.testing.assert_array_equal(runtime.run({"s1": given})["water"], water_of(given))
        regions = [memory.name for memory in runtime._memories]
        assert len(regions) == 2
        assert all((SHARED / name).exists() for name in regions)
    assert not any((SHARED / name).exists() for name in regions)
    assert wire.calls["register"] == wire.calls["unregister"] == 3


@pytest.mark.parametrize("trouble", ["refused", "lies"])
def test_shared_memory_that_does_not_work_is_left_alone(model, wire, trouble):
    """A server that cannot open the region, or answers otherwise through it, gets the tensors themselves."""
    if trouble == "refused":
        wire.failures["register"] = [UsageError("a region", "one that it sees", "share it")]
    wire.memory_lies = trouble == "lies"
    given = chips(2)
    with TritonRuntime(model, options(shared_memory=True)) as runtime:
        assert not runtime.shared_memory
        np.testing.assert_array_equal(runtime.run({"s1": given})["water"], water_of(given))


def test_shared_memory_is_for_this_machine(model, wire):
    """A server elsewhere is never offered memory of this machine."""
    with TritonRuntime(model, RuntimeOptions(runtime="grpc://elsewhere:8001")) as runtime:
        assert not runtime.shared_memory
    assert wire.calls["register"] == 0


def test_memory_keeps_tensors_apart():
    """Every tensor has a place of its own, and what is read is a copy."""
    memory = SharedMemory({"a": (1, 3), "b": (2, 2)})
    values = {"a": np.array([[1, 2, 3]], np.float32), "b": np.array([[4, 5], [6, 7]], np.float32)}
    memory.write(values)
    read = {name: memory.read(name, value.shape) for name, value in values.items()}
    memory.close()
    memory.close()
    for name, value in values.items():
        np.testing.assert_array_equal(read[name], value)


def test_memory_without_room_is_refused(monkeypatch):
    """A region that could not be backed is never made: writing to it would end the process."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100})())
    with pytest.raises(OSError, match="no room"):
        SharedMemory({"a": (1, 64)})


def test_the_canary_is_a_valid_chip(model):
    """It has the smallest size that the model takes, no hole, and asks for every output."""
    canary = canary_of(model.manifest)
    assert {name: value.shape for name, value in canary.inputs.items()} == {"s1": (1, 2, 32, 32)}
    assert np.isfinite(canary.inputs["s1"]).all()
    assert canary.outputs == {"water": (1, 1, 32, 32)}


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        ("StatusCode.UNAVAILABLE", "failed to connect", Away),
        ("503", "Exceeds maximum queue size", Away),
        ("StatusCode.INTERNAL", "Stub process 'flood_0_0' is not healthy.", Away),
        ("404", "Request for unknown model: 'flood' has no available versions", Away),
        ("StatusCode.INVALID_ARGUMENT", "Unable to find shared memory region: 'x'", Away),
        ("StatusCode.INVALID_ARGUMENT", "unexpected shape for input 's1'", UsageError),
        ("400", "unexpected shape for input 's1'", UsageError),
        ("StatusCode.NOT_FOUND", "Request for unknown model: 'flood' is not found", RuntimeUnavailableError),
        ("StatusCode.UNAVAILABLE", "This protocol is restricted, expecting header", RuntimeUnavailableError),
        ("500", "AssertionError: no\nTraceback: many lines", RuntimeUnavailableError),
    ],
)
def test_what_a_server_says_has_one_meaning(status, said, kind):
    """Only what may pass by itself is asked again; no more than one line of the server's is shown."""
    error = failure(status, said, WHERE)
    assert type(error) is kind
    assert "many lines" not in str(error)
    if isinstance(error, Away):
        assert error.queue_full == ("queue size" in said)


@pytest.fixture
def http_server():
    """Return an address and what is answered there: status and JSON by path."""
    answers = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_GET(self):
            status, said = answers.get(self.path, (404, {"error": "nothing here"}))
            answers["key"] = self.headers.get("tocsin-admin")
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Endpoint("http", "127.0.0.1", server.server_port), answers
        server.shutdown()
        thread.join()


def test_http_reads_what_is_served(http_server):
    """Parameters and the kind of the instances say precision, weights and device; the admin key goes along."""
    where, answers = http_server
    parameters = {"precision": {"string_value": "fp16"}, "graph_sha256": {"string_value": "abc"}}
    answers["/v2/models/flood/config"] = (200, {"parameters": parameters, "instance_group": [{"kind": "KIND_GPU"}]})
    wire = HttpWire(where, {"tocsin-admin": "secret"})
    assert wire.served("flood") == Served("fp16", "abc", "cuda")
    assert answers["key"] == "secret"
    wire.close()


def test_http_controls_models(http_server):
    """The index gives state and reason; an error of the server is one of ours."""
    where, answers = http_server
    flood = {"name": "flood", "state": "UNAVAILABLE", "reason": "unloaded"}
    volcano = [{"name": "volcano", "state": "READY"}, {"name": "volcano", "state": "UNAVAILABLE", "reason": "old"}]
    answers["/v2/repository/index"] = (200, [flood, *volcano])
    answers["/v2/repository/models/flood/load"] = (400, {"error": "failed to load 'flood'"})
    answers["/v2/repository/models/flood/unload"] = (200, {})
    wire = HttpWire(where)
    assert wire.index() == {"flood": ("UNAVAILABLE", "unloaded"), "volcano": ("READY", "")}
    wire.unload("flood")
    with pytest.raises(UsageError, match="failed to load"):
        wire.load("flood", 1.0)
    wire.close()


def test_http_without_a_server_is_away():
    """A refused connection may be accepted later."""
    wire = HttpWire(Endpoint("http", "127.0.0.1", 9))
    with pytest.raises(Away, match="ConnectionRefused"):
        wire.index()
    wire.close()
