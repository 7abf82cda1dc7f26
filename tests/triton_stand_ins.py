"""One real Triton server for all tests that want one: shipped models, and small ones whose answers are known."""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tocsin.repository import find_repository, load_model

PATIENCE_S = 300
"""How long a loaded machine may take for what takes seconds on a quiet one."""
TOCSIN = (sys.executable, "-c", "from tocsin.cli import main; raise SystemExit(main())")
SMALL_QUEUE = 4
WIDE = 1500
"""Side of a square matrix: two products take a fifth of a second on one core."""


def identity_graph(*, slow=False):
    """Return an ONNX graph that gives band 0 of s1 as water, so that NaN propagates; at leisure when slow."""
    helper = pytest.importorskip("onnx.helper", reason="needs the extra train")
    from onnx import TensorProto, numpy_helper

    nodes = [helper.make_node("Gather", ["s1", "first"], ["band"], axis=1)]
    constants = [helper.make_tensor("first", TensorProto.INT64, [1], [0])]
    if slow:
        # Products of a matrix of zeros, whose size depends on the input so that it is not computed beforehand.
        constants.append(numpy_helper.from_array(np.array([WIDE, WIDE], np.int64), "wide"))
        nodes += [
            helper.make_node("Shape", ["s1"], ["batch"], start=0, end=1),
            helper.make_node("Mul", ["batch", "wide"], ["sides"]),
            helper.make_node("ConstantOfShape", ["sides"], ["zeros"]),
            helper.make_node("MatMul", ["zeros", "zeros"], ["once"]),
            helper.make_node("MatMul", ["once", "zeros"], ["twice"]),
            helper.make_node("ReduceSum", ["twice"], ["nothing"], keepdims=0),
            helper.make_node("Add", ["band", "nothing"], ["water"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["band"], ["water"]))
    size = ["batch", 2, "height", "width"]
    graph = helper.make_graph(
        nodes,
        "identity",
        [helper.make_tensor_value_info("s1", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info("water", TensorProto.FLOAT, ["batch", 1, "height", "width"])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()


def write_small_model(repository, name, facts, kind="whole"):
    """Write the identity under a name.

    Its configuration is whole, as export writes it, or bare: names, and what is served; a busy one is slow and has a
    short queue.
    """
    from export.triton_config import QUEUE_SIZE, config_pbtxt, served_as
    from tocsin.manifest import Manifest

    content = identity_graph(slow=kind == "busy")
    digest = hashlib.sha256(content).hexdigest()
    row = facts["artifacts"][0] | {"sha256": digest, "bytes": len(content)}
    manifest = Manifest.model_validate(facts | {"name": name, "artifacts": [row], "files": []})
    config = config_pbtxt(manifest, digest)
    if kind == "bare":
        config = f'name: "{name}"\nbackend: "onnxruntime"\ndefault_model_filename: "model.onnx"\n'
        config += served_as("fp32", digest)
    elif kind == "busy":
        config = config.replace(f"max_queue_size: {QUEUE_SIZE}", f"max_queue_size: {SMALL_QUEUE}")
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    (folder / "1/model.onnx").write_bytes(content)
    (folder / "config.pbtxt").write_text(config)
    (folder / "manifest.json").write_text(manifest.to_json())


@dataclass
class RunningServer:
    """`tocsin triton`, what it said, and the processes behind it."""

    process: subprocess.Popen
    repository: Path
    http: int
    grpc: int
    metrics: int
    events: list = field(default_factory=list)
    command: tuple = TOCSIN

    def url(self, transport):
        """Return --runtime for a transport: grpc, http or memory (gRPC with shared memory)."""
        return f"http://127.0.0.1:{self.http}" if transport == "http" else f"grpc://127.0.0.1:{self.grpc}"

    def model(self, name="identity", precision="fp32"):
        """Return a model of its repository."""
        return load_model(name, self.repository, precision)

    def open(self, name="identity", transport="grpc", **named):
        """Return a runtime."""
        from tocsin.runtimes import RuntimeOptions, open_runtime

        named = {"shared_memory": transport == "memory", "deadline_s": PATIENCE_S} | named
        return open_runtime(self.model(name), RuntimeOptions(runtime=self.url(transport), **named))

    def wait_for(self, event, model=None, *, after=0):
        """Wait until something was said, since a number of events."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            for said in self.events[after:]:
                if said["event"] == event and (model is None or model in said["models"]):
                    return said
            assert self.process.poll() is None, "the launcher ended"
            time.sleep(0.05)
        raise AssertionError(f"no {event} of {model} in {self.events[after:]}")

    def pid_of(self, *words):
        """Return the process below the launcher whose command line holds these words."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command = path.read_bytes().decode(errors="replace")
            except OSError:
                continue
            mine = f"tocsin_triton_{self.process.pid}_" in command
            if mine and all(word in command for word in words):
                return int(path.parent.name)
        return None

    def stub(self, model):
        """Return the process that runs a model."""
        return self.pid_of("triton_python_backend_stub", f"{model}_0_0")

    def server(self):
        """Return the process of the server itself."""
        return self.pid_of("bin/tritonserver", "--grpc-port")

    def read(self):
        """Collect events until the launcher ends."""
        with self.process.stdout:
            for line in self.process.stdout:
                self.events.append(json.loads(line))


def free_ports(number):
    """Return ports that nobody listens on."""
    probes = [socket.socket() for _ in range(number)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@contextmanager
def served(repository, *options):
    """Run `tocsin triton` on a repository; afterwards nothing of it is left."""
    http, grpc, metrics = free_ports(3)
    ports = ["--http-port", str(http), "--grpc-port", str(grpc), "--metrics-port", str(metrics)]
    process = subprocess.Popen(
        [*TOCSIN, "triton", "--json", "--model-repository", str(repository), *ports, *options],
        stdout=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")},
    )
    running = RunningServer(process, repository, http, grpc, metrics)
    reader = threading.Thread(target=running.read)
    reader.start()
    try:
        running.wait_for("ready")
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(PATIENCE_S)
        reader.join()
    assert code == 0
    assert running.events[-1]["event"] == "stopped"
    assert running.pid_of("triton") is None
    assert not list(Path("/dev/shm").glob(f"tocsin_triton_{process.pid}_*"))  # noqa: S108 - where Linux keeps shared memory


@pytest.fixture(scope="session")
def triton_server(tmp_path_factory, logistic_models):
    """Return a server with the shipped models, the identity, one with a short queue, one corrupt."""
    repository = tmp_path_factory.mktemp("triton") / "models"
    repository.mkdir()
    for name in ("flood", "landslide", "volcano"):
        (repository / name).symlink_to(find_repository() / name)
    facts = json.loads((logistic_models / "flood/manifest.json").read_text())
    write_small_model(repository, "identity", facts, "bare")
    write_small_model(repository, "busy", facts, "busy")
    write_small_model(repository, "corrupt", facts)
    (repository / "corrupt/1/model.onnx").write_bytes(b"no graph")
    with served(repository) as running:
        yield running


@pytest.fixture
def guarded_server(tmp_path):
    """Return a server of the flood model in INT8 with TLS on gRPC and an admin key, and the files of both."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key", "-out", "cert", *names],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    (tmp_path / "admin").write_text("correct-horse-battery\n")
    (tmp_path / "models").mkdir()
    (tmp_path / "models/flood").symlink_to(find_repository() / "flood")
    paths = {name: str(tmp_path / name) for name in ("cert", "key", "admin")}
    options = ["--grpc-cert", paths["cert"], "--grpc-key", paths["key"], "--admin-key-file", paths["admin"]]
    options += ["--precision", "int8"]
    with served(tmp_path / "models", *options) as running:
        yield running, paths
