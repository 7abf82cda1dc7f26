"""What the launcher does around its server: what it needs, what it shows it, and how it watches it."""

import json
import shutil
import signal
import socket
import sys
import threading
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from serving import triton as launcher
from serving import triton_installation as installation
from serving.commands import stop_on_signal
from serving.triton import Supervisor, TritonOptions, read_admin_key
from serving.triton_server import Ports
from serving.triton_stage import Stage, served_as
from tocsin.errors import ModelInvalidError, ModelUnknownError, RuntimeUnavailableError, TocsinError, UsageError
from tocsin.repository import find_repository, load_model
from tocsin.runtimes.triton_wire import Away


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """Return the folder of a wheel that has a server and a stub for this Python version."""
    root = tmp_path / "pytriton"
    stub = root / "tritonserver/python_backend_stubs" / installation.VERSION / "triton_python_backend_stub"
    stub.parent.mkdir(parents=True)
    stub.touch()
    spec = ModuleSpec("pytriton", None, origin=str(root / "__init__.py"))
    monkeypatch.setattr(installation, "find_spec", lambda _: spec)
    monkeypatch.setattr(installation.metadata, "version", lambda _: "1.26.4")
    monkeypatch.setattr(installation.sysconfig, "get_config_var", lambda _: str(tmp_path))
    (tmp_path / installation.LIBPYTHON).touch()
    return root


def test_finds_the_server(wheel, monkeypatch):
    """The server's process finds its libraries, and this interpreter before any other."""
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/lib")
    found = installation.find_installation()
    assert found.server == wheel / "tritonserver/bin/tritonserver"
    environment = found.environment()
    assert environment["PATH"] == f"{Path(sys.executable).parent}:/usr/bin"
    assert environment["LD_LIBRARY_PATH"] == f"{wheel.parent}:{wheel.parent / 'nvidia_pytriton.libs'}:/opt/lib"


def test_says_what_is_missing(wheel, monkeypatch):
    """Without the wheel, its stub, libpython, or with numpy 2, nothing is started and the message says what to do."""
    (wheel.parent / installation.LIBPYTHON).unlink()
    monkeypatch.setattr(installation, "LIBPYTHON", "libpython0.0.so.1.0")
    with pytest.raises(RuntimeUnavailableError, match=r"apt-get install libpython3"):
        installation.find_installation()
    shutil.rmtree(wheel / "tritonserver/python_backend_stubs" / installation.VERSION)
    with pytest.raises(RuntimeUnavailableError, match="Python 3"):
        installation.find_installation()
    monkeypatch.setattr(installation.metadata, "version", lambda _: "2.3.1")
    with pytest.raises(RuntimeUnavailableError, match=r"numpy 2\.3\.1.*numpy below 2"):
        installation.find_installation()
    monkeypatch.setattr(installation, "find_spec", lambda _: None)
    with pytest.raises(RuntimeUnavailableError, match=r"nvidia-pytriton.*cpu,triton"):
        installation.find_installation()


@pytest.fixture
def repository(tmp_path):
    """Return a copy of two shipped models, in fp32 only."""
    leave_out = shutil.ignore_patterns("landslide*", "flood_fusion", "model.*.onnx")
    made = Path(shutil.copytree(find_repository(), tmp_path / "repository", ignore=leave_out))
    for name in ("flood", "volcano"):
        path = made / name / "manifest.json"
        facts = json.loads(path.read_text())
        facts["artifacts"] = [row for row in facts["artifacts"] if row["precision"] == "fp32"]
        path.write_text(json.dumps(facts))
    return made


@pytest.fixture
def stage(tmp_path, repository):
    """Return a stage of that copy."""
    (tmp_path / "stage").mkdir()
    return Stage(tmp_path / "stage", repository)


def contents(folder):
    """Return every file under a folder by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_stages_what_is_whole(stage, repository):
    """The server sees configurations and graphs as they are shipped, and the repository stays as it was."""
    before = contents(repository)
    assert set(stage.refresh()) == set(stage.models)
    assert not stage.refused
    for name in stage.models:
        for path in ("config.pbtxt", "1/model.onnx"):
            assert (stage.folder / name / path).read_bytes() == before[f"{name}/{path}"]
    assert contents(repository) == before


def test_a_broken_model_is_left_out(stage, repository):
    """A graph that is not the manifest's is named with the reason; once it is mended it is staged."""
    graph = repository / "volcano/1/model.onnx"
    whole = graph.read_bytes()
    graph.write_bytes(whole[:-1] + b"!")
    stage.refresh()
    assert "flood" in stage.models
    assert "sha256" in stage.refused["volcano"]
    assert not (stage.folder / "volcano").exists()

    graph.write_bytes(whole)
    assert stage.refresh() == ()
    (repository / "volcano/manifest.json").touch()
    assert stage.refresh() == ("volcano",)
    assert "volcano" in stage.models
    assert not stage.refused


def test_a_repository_that_is_away_for_a_moment(stage, repository):
    """A folder that is being replaced changes nothing of what is staged."""
    stage.refresh()
    repository.rename(repository.with_name("elsewhere"))
    assert stage.refresh() == ()
    assert "flood" in stage.models


def test_another_precision_is_another_file(stage, repository):
    """The staged configuration names the graph, precision and hash of the precision that was asked for."""
    flood = repository / "flood"
    shutil.copy(flood / "1/model.onnx", flood / "1/model.fp16.onnx")
    facts = json.loads((flood / "manifest.json").read_text())
    whole = next(row for row in facts["artifacts"] if row["precision"] == "fp32")
    facts["artifacts"] = [whole, whole | {"path": "1/model.fp16.onnx", "precision": "fp16"}]
    (flood / "manifest.json").write_text(json.dumps(facts))
    shutil.rmtree(repository / "volcano")
    shutil.rmtree(repository / "landslide", ignore_errors=True)

    stage.precision = "fp16"
    stage.require_precision()
    stage.refresh()
    config = (stage.folder / "flood/config.pbtxt").read_text()
    assert 'default_model_filename: "model.fp16.onnx"' in config
    assert 'key: "precision" value { string_value: "fp16" }' in config
    assert [path.name for path in (stage.folder / "flood/1").iterdir()] == ["model.fp16.onnx"]

    stage.precision = "int8"
    with pytest.raises(ModelUnknownError, match="int8, which flood"):
        stage.require_precision()


def test_a_foreign_configuration_is_refused(repository):
    """A configuration that does not say what is served cannot be staged; a command mends it."""
    model = load_model("flood", repository)
    with pytest.raises(ModelInvalidError, match="tocsin export config flood"):
        served_as('name: "flood"', model)


def test_ports_are_arguments(tmp_path):
    """HTTP has no TLS: with a certificate it listens on this machine only. The key guards what changes a server."""
    plain = Ports("0.0.0.0", 1, 2, 3)  # noqa: S104 - named, not bound
    assert "--http-address=0.0.0.0" in plain.arguments()
    assert plain.wire().where.address == "127.0.0.1:1"
    assert not any("restricted" in each or "ssl" in each for each in plain.arguments())
    guarded = Ports("10.0.0.1", 1, 2, 3, tmp_path / "cert", tmp_path / "key", "long-secret")
    chosen = guarded.arguments()
    assert {"--http-address=127.0.0.1", "--metrics-address=127.0.0.1", "--grpc-address=10.0.0.1"} < set(chosen)
    assert {"--grpc-use-ssl=true", f"--grpc-server-key={tmp_path / 'key'}"} < set(chosen)
    assert sum("model-repository,shared-memory" in each for each in chosen) == 2
    assert guarded.wire().headers == {"tocsin-admin": "long-secret"}


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"grpc_port": 8000}, "8000"),
        ({"grpc_cert": Path(__file__)}, "--grpc-key"),
        ({"grpc_cert": Path("absent.pem"), "grpc_key": Path(__file__)}, "absent"),
        ({"admin_key_file": Path("absent.txt")}, "absent"),
    ],
)
def test_options_that_cannot_be_meant(named, said):
    """Ports that are the same, half of TLS and missing files are refused before anything starts."""
    with pytest.raises(UsageError, match=said):
        TritonOptions(**named).ports()


def test_a_port_that_is_taken_is_refused():
    """The server would start without it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=str(port)):
            TritonOptions(http_port=port).ports()


def test_the_admin_key_is_a_header_value(tmp_path):
    """Surrounding blanks are no part of it; what would break the server's option is refused."""
    path = tmp_path / "key"
    path.write_text("correct-horse\n")
    assert read_admin_key(path) == "correct-horse"
    for bad in ("short", "two words here", "colon:inside", "ümläut-key"):
        path.write_text(bad)
        with pytest.raises(UsageError, match="key"):
            read_admin_key(path)


class Wire:
    """Models that answer, or do not, as a test says."""

    def __init__(self):
        self.states = {}
        self.problems = {}
        self.done = []
        self.away = False

    def index(self):
        """Return states and reasons."""
        if self.away:
            msg = "refused"
            raise Away(msg)
        return dict(self.states)

    def ask(self, name, question, _timeout_s):
        """Judge the canary."""
        if problem := self.problems.get(name):
            raise problem
        return {output: np.zeros(shape, np.float32) for output, shape in question.outputs.items()}

    def unload(self, name):
        """Note it."""
        self.done.append(("unload", name))

    def load(self, name, _timeout_s):
        """Bring the model back, unless it is beyond repair."""
        self.done.append(("load", name))
        if isinstance(self.problems.get(name), TocsinError):
            raise self.problems[name]
        self.problems.pop(name, None)
        self.states[name] = ("READY", "")

    def close(self):
        """Note it."""
        self.done.append(("close", ""))


class Process:
    """A server that ends when a test says so."""

    log = ("last words",)

    def __init__(self, wire, ends=()):
        self.ports = SimpleNamespace(
            wire=lambda: wire, http_host="h", host="h", http=1, grpc=2, metrics=3, certificate=None
        )
        self.ends, self.started, self.exit_code = list(ends), [], None

    def start(self, names):
        """Start, with the next exit code."""
        self.started.append(list(names))
        self.exit_code = self.ends.pop(0) if self.ends else None

    def kill(self):
        """Nothing is left to end."""


@pytest.fixture
def watched(stage):
    """Return a supervisor of ready models, its wire and what it told."""
    stage.refresh()
    wire, told = Wire(), []
    wire.states = dict.fromkeys(stage.models, ("READY", ""))
    supervisor = Supervisor(Process(wire), stage, told.append, 0.01)
    supervisor._wire, supervisor._wanted = wire, set(stage.models)
    return supervisor, wire, told


def test_a_dead_model_is_loaded_anew(watched):
    """A model that does not answer although it says that it is ready is unloaded and loaded, and said to be back."""
    supervisor, wire, told = watched
    wire.problems["flood"] = Away("Stub process 'flood_0_0' is not healthy.")
    supervisor._look_at(wire.index())
    assert wire.done == [("unload", "flood"), ("load", "flood")]
    assert [(event.event, event.models) for event in told] == [("model_down", ("flood",)), ("model_back", ("flood",))]


def test_a_busy_model_is_left_alone(watched):
    """A full queue is a sign of life."""
    supervisor, wire, told = watched
    wire.problems["flood"] = Away("Exceeds maximum queue size", queue_full=True)
    supervisor._look_at(wire.index())
    assert (wire.done, told) == ([], [])


def test_a_model_beyond_repair_is_tried_less_and_less(watched):
    """A load that fails is not repeated at once, the others are left alone, and success is said later."""
    supervisor, wire, told = watched
    wire.problems["flood"] = ModelInvalidError("a graph", "another", "mend it")
    for _ in range(5):
        supervisor._look_at(wire.index())
    assert wire.done == [("unload", "flood"), ("load", "flood")]
    assert told[-1].message.endswith("trying again in 1 s")
    del wire.problems["flood"]
    supervisor._look_at(wire.index())
    assert told[-1].event == "model_back"


def test_an_unloaded_model_stays_unloaded(watched):
    """What its operator unloaded is neither revived now nor loaded after a restart; what he loads is watched."""
    supervisor, wire, told = watched
    wire.states["flood"] = ("UNAVAILABLE", "unloaded")
    supervisor._look_at(wire.index())
    assert (wire.done, told) == ([], [])
    assert "flood" not in supervisor._wanted
    wire.states["flood"] = ("READY", "")
    supervisor._look_at(wire.index())
    assert "flood" in supervisor._wanted


def test_nonsense_is_a_problem(watched, monkeypatch):
    """An answer that is no number is as bad as none."""
    supervisor, wire, _ = watched
    nonsense = {"water": np.full((1, 1, 32, 32), np.nan, np.float32)}
    monkeypatch.setattr(wire, "ask", lambda *_: nonsense)
    assert "no number" in supervisor.problem("flood")


def test_a_server_that_ended_is_started_anew(stage, monkeypatch):
    """The server is started again with the same models, and what happened is said, in order."""
    stage.refresh()
    wire, told, stop = Wire(), [], threading.Event()
    wire.states = dict.fromkeys(stage.models, ("READY", ""))
    process = Process(wire)
    supervisor = Supervisor(process, stage, told.append, 0.01)
    watches = iter(["it ended with code -9", None])
    monkeypatch.setattr(supervisor, "_watch", lambda _: next(watches) or stop.set())
    monkeypatch.setattr(launcher._Backoff, "failed", lambda _: 0.01)
    supervisor.run(stop)
    assert process.started == [sorted(stage.models)] * 2
    assert [event.event for event in told] == ["ready", "server_down", "ready"]
    assert "flood" in told[0].message
    assert "http h:1, grpc h:2, metrics h:3" in told[0].message
    assert "code -9" in told[1].message


def test_a_server_that_never_was_ready_is_an_error(stage):
    """A server that ends before it was ready once is not started again: its last words are the message."""
    stage.refresh()
    supervisor = Supervisor(Process(Wire(), ends=[1]), stage, lambda _: None, 0.01)
    with pytest.raises(RuntimeUnavailableError, match="code 1: last words"):
        supervisor.run(threading.Event())


def test_a_server_that_hangs_is_noticed(watched, monkeypatch):
    """No answer for long enough is as bad as an end."""
    supervisor, wire, _ = watched
    wire.away = True
    monkeypatch.setattr(launcher, "HANG_S", 0.05)
    assert "no answer" in supervisor._watch(threading.Event())


def test_a_signal_asks_and_a_second_one_insists():
    """The first SIGTERM sets the event, the second interrupts, and then the handlers are as before."""
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signal() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_graph_that_does_not_load_is_named(stage, monkeypatch):
    """Other models are served; the one that the server could not load is named with what it said, in one line."""
    stage.refresh()
    wire, told, stop = Wire(), [], threading.Event()
    wire.states = {"flood": ("READY", ""), "volcano": ("UNAVAILABLE", "no ONNX graph\nAt: model.py")}
    supervisor = Supervisor(Process(wire), stage, told.append, 0.01)
    monkeypatch.setattr(supervisor, "_watch", lambda _: stop.set())
    supervisor.run(stop)
    assert told[0].models == ("flood",)
    assert told[0].message.endswith("not ready: volcano (no ONNX graph)")
