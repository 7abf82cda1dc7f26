"""`tocsin triton`: a Triton server on the model repository, watched so that nobody has to.

A server says that it is ready while an interpreter behind it is dead, so that each model is asked to judge a chip again
and again. A model that does not answer is loaded anew, a server that ended or hangs is started anew.
"""

import socket
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from serving.triton_installation import find_installation
from serving.triton_server import Ports, Server
from serving.triton_stage import Stage, lay_out_backends
from tocsin.errors import ModelInvalidError, RuntimeUnavailableError, TocsinError, UsageError
from tocsin.manifest import Precision
from tocsin.repository import find_repository
from tocsin.runtimes.triton import canary_of
from tocsin.runtimes.triton_wire import Away, HttpWire

START_S: Final = 300.0
"""How long a server may take to load every model."""
HANG_S: Final = 60.0
"""How long a server or a model may leave a question open before it is started or loaded anew."""
HEALTHY_S: Final = 300.0
"""After so long without a failure the next one is treated as the first."""
LONGEST_PAUSE_S: Final = 60.0


class TritonOptions(BaseModel):
    """How the server is started. Defaults live here and nowhere else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default="127.0.0.1", description="address that is listened on; 0.0.0.0: every one")
    http_port: int = Field(default=8000, ge=1, le=65535, description="port of HTTP")
    grpc_port: int = Field(default=8001, ge=1, le=65535, description="port of gRPC")
    metrics_port: int = Field(default=8002, ge=1, le=65535, description="port of the Prometheus metrics")
    precision: Precision = Field(default="fp32", description="which graph of every model")
    model_repository: Path | None = Field(default=None, description="folder of models; None: environment, else shipped")
    threads: int | None = Field(default=None, ge=1, le=1024, description="CPU threads of a model; None: one per core")
    grpc_cert: Path | None = Field(default=None, description="certificate for TLS on gRPC, PEM")
    grpc_key: Path | None = Field(default=None, description="its private key, PEM")
    admin_key_file: Path | None = Field(
        default=None, description="file with the key without which models cannot be loaded nor memory be shared"
    )
    interval_s: float = Field(default=3.0, gt=0, le=3600, description="seconds between two looks at every model")

    def ports(self) -> Ports:
        """Return where the server listens.

        Raises
        ------
        UsageError
            Ports are the same or taken, or a file of TLS or of the key is missing.
        """
        if (self.grpc_cert is None) != (self.grpc_key is None):
            raise UsageError("one of --grpc-cert and --grpc-key", "both or none", "give the other one too")
        for path in (self.grpc_cert, self.grpc_key, self.admin_key_file):
            if path is not None and not path.is_file():
                raise UsageError(f"{path}, which is no file", "a file", "give another one")
        numbers = (self.http_port, self.grpc_port, self.metrics_port)
        if len(set(numbers)) != len(numbers):
            raise UsageError(f"ports {', '.join(map(str, numbers))}", "three different ones", "change one of them")
        ports = Ports(self.host, *numbers, self.grpc_cert, self.grpc_key, read_admin_key(self.admin_key_file))
        for host, port in ((ports.http_host, self.http_port), (self.host, self.grpc_port)):
            _check_free(host, port)
        _check_free(ports.http_host, self.metrics_port)
        return ports


class Event(BaseModel):
    """Something that happened to the server or to a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event: Literal["ready", "model_refused", "model_down", "model_back", "server_down", "stopped"]
    message: str = Field(description="one line for a person")
    models: tuple[str, ...] = Field(description="models that it is about")


Tell = Callable[[Event], None]


def read_admin_key(path: Path | None) -> str | None:
    """Return the key in a file, None without one.

    Raises
    ------
    UsageError
        The file holds none, or one that is no header value.
    """
    if path is None:
        return None
    key = path.read_text(encoding="utf-8").strip()
    if not key.isascii() or not key.isprintable() or len(key) < 8 or any(mark in key for mark in " ,:="):
        raise UsageError(
            f"the key in {path}", "at least 8 printable ASCII characters without blank , : =", "write another key"
        )
    return key


def serve(options: TritonOptions, tell: Tell, stop: threading.Event) -> None:
    """Run a server until `stop` is set.

    Parameters
    ----------
    options
        How.
    tell
        Called with everything that happens.
    stop
        Set from a signal handler or another thread.

    Raises
    ------
    RuntimeUnavailableError
        What the server needs is not there, or it ended before it was ready.
    ModelInvalidError
        No model of the repository can be served.
    ModelUnknownError
        A model has not the precision that was asked for.
    UsageError
        Ports or files cannot be used.
    """
    installed, ports = find_installation(), options.ports()
    with tempfile.TemporaryDirectory(prefix="tocsin-triton-") as scratch:
        folder = Path(scratch)
        (folder / "models").mkdir()
        stage = Stage(folder / "models", find_repository(options.model_repository), options.precision)
        stage.require_precision()
        stage.refresh()
        for name, reason in stage.refused.items():
            tell(Event(event="model_refused", message=f"{name} is not ready: {reason}", models=(name,)))
        if not stage.models:
            raise ModelInvalidError(
                f"{stage.repository}, where no model can be served", "at least one", "restore one, or export it again"
            )
        lay_out_backends(folder / "backends", installed)
        server = Server(installed, ports, stage.folder, folder / "backends", options.threads)
        supervisor = Supervisor(server, stage, tell, options.interval_s)
        try:
            supervisor.run(stop)
        finally:
            server.stop()
        tell(Event(event="stopped", message="stopped", models=()))


@dataclass
class Supervisor:
    """Keeps a server and its models answering.

    Attributes
    ----------
    server : Server
        Started and ended here.
    stage : Stage
        The models.
    tell : callable
        Told of every event.
    interval_s : float
        Seconds between two looks.
    """

    server: Server
    stage: Stage
    tell: Tell
    interval_s: float
    _wanted: set[str] = field(default_factory=set, init=False)
    _down: dict[str, "_Backoff"] = field(default_factory=dict, init=False)
    _index: dict[str, tuple[str, str]] = field(default_factory=dict, init=False)
    _wire: HttpWire = field(init=False)

    def run(self, stop: threading.Event) -> None:
        """Start the server and watch it until `stop` is set; see `serve`."""
        self._wanted = set(self.stage.models)
        self._wire = self.server.ports.wire()
        backoff, first = _Backoff(), True
        while not stop.is_set():
            self.server.start(sorted(self._wanted))
            problem = self._wait_until_ready(stop)
            if problem is None and not stop.is_set():
                started = time.monotonic()
                self._announce()
                first = False
                problem = self._watch(stop)
                if time.monotonic() - started > HEALTHY_S:
                    backoff = _Backoff()
            if stop.is_set():
                break
            if first:
                said = "; ".join(self.server.log) or "it said nothing"
                raise RuntimeUnavailableError(
                    f"a tritonserver that was not ready: {problem}: {said}", "a running one", "mend what it names"
                )
            pause_s = backoff.failed()
            message = f"the server is down ({problem}): starting it again in {pause_s:g} s"
            self.tell(Event(event="server_down", message=message, models=tuple(sorted(self._wanted))))
            self.server.kill()
            stop.wait(pause_s)
        self._wire.close()

    def _wait_until_ready(self, stop: threading.Event) -> str | None:
        """Wait until every wanted model is loaded or refused; return what is wrong, if anything."""
        until = time.monotonic() + START_S
        while not stop.wait(0.2):
            if self.server.exit_code is not None:
                return f"it ended with code {self.server.exit_code}"
            if time.monotonic() > until:
                return f"it was not ready after {START_S:g} s"
            try:
                index = self._wire.index()
            except (Away, TocsinError):
                continue
            if all(index.get(name, ("", ""))[0] in {"READY", "UNAVAILABLE"} for name in self._wanted):
                self._index = index
                return None
        return None

    def _announce(self) -> None:
        """Say what is served, after a chip of every model."""
        problems = {
            name: self.problem(name) if self._index[name][0] == "READY" else self._index[name][1].partition("\n")[0]
            for name in sorted(self._wanted)
        }
        refused = {**self.stage.refused, **{name: why for name, why in problems.items() if why}}
        good = [name for name, why in problems.items() if not why]
        models = ", ".join(f"{name} {self._described(name)}" for name in good) or "no model"
        ports = self.server.ports
        message = f"ready: {models}; http {ports.http_host}:{ports.http}, grpc {ports.host}:{ports.grpc}"
        message += f"{' with TLS' if ports.certificate else ''}, metrics {ports.http_host}:{ports.metrics}"
        if refused:
            message += f"; not ready: {', '.join(f'{name} ({why})' for name, why in refused.items())}"
        self.tell(Event(event="ready", message=message, models=tuple(good)))

    def _described(self, name: str) -> str:
        model = self.stage.models[name]
        return f"{model.manifest.version} {model.artifact.precision}"

    def _watch(self, stop: threading.Event) -> str | None:
        """Look at every model again and again; return what is wrong with the server, None after a stop."""
        answered = time.monotonic()
        while not stop.wait(self.interval_s):
            if self.server.exit_code is not None:
                return f"it ended with code {self.server.exit_code}"
            for name in self.stage.refresh():
                if name in self.stage.refused:
                    said = f"{name} has changed and is not ready: {self.stage.refused[name]}"
                    self.tell(Event(event="model_refused", message=said, models=(name,)))
            try:
                index = self._wire.index()
            except (Away, TocsinError) as error:
                if time.monotonic() - answered > HANG_S:
                    return f"no answer for {HANG_S:g} s: {error}"
                continue
            answered = time.monotonic()
            self._look_at(index)
        return None

    def _look_at(self, index: dict[str, tuple[str, str]]) -> None:
        """Load every model anew that should answer and does not."""
        for name, (state, reason) in index.items():
            if state == "READY" and name in self.stage.models:
                self._wanted.add(name)
                problem = self.problem(name)
            elif state == "UNAVAILABLE" and reason == "unloaded" and name not in self._down:
                self._wanted.discard(name)  # by its operator
                continue
            elif state == "UNAVAILABLE" and name in self._wanted:
                problem = reason.partition("\n")[0]
            else:
                continue
            if problem is not None:
                self._revive(name, problem)
            elif self._down.pop(name, None):
                self.tell(Event(event="model_back", message=f"{name} answers again", models=(name,)))

    def _revive(self, name: str, problem: str) -> None:
        """Unload and load a model, sooner the first time and later each time that it did not help."""
        known = self._down.get(name)
        if known is not None and not known.due:
            return
        backoff = self._down.setdefault(name, _Backoff())
        backoff.failed()
        self.tell(Event(event="model_down", message=f"{name} does not answer ({problem}): loading it", models=(name,)))
        try:
            self._wire.unload(name)
            self._wire.load(name, START_S)
        except (Away, TocsinError) as error:
            message = f"{name} was not loaded ({error}): trying again in {backoff.pause_s:g} s"
            self.tell(Event(event="model_down", message=message, models=(name,)))
        else:
            if self.problem(name) is None:
                del self._down[name]
                self.tell(Event(event="model_back", message=f"{name} answers again", models=(name,)))

    def problem(self, name: str) -> str | None:
        """Return what is wrong with a model, after it was asked to judge a chip; a full queue is no fault."""
        try:
            answer = self._wire.ask(name, canary_of(self.stage.models[name].manifest), HANG_S)
        except Away as away:
            return None if away.queue_full else str(away)
        except TocsinError as error:
            return error.given
        wrong = [output for output, value in answer.items() if not np.isfinite(value).all()]
        return f"{', '.join(wrong)} of a valid chip is no number" if wrong else None


class _Backoff:
    """Twice as long after every failure."""

    def __init__(self) -> None:
        self.pause_s = 0.5
        self._at = 0.0

    def failed(self) -> float:
        """Note a failure, and return how long to wait, seconds."""
        self.pause_s = min(2 * self.pause_s, LONGEST_PAUSE_S)
        self._at = time.monotonic()
        return self.pause_s

    @property
    def due(self) -> bool:
        """Whether that time has passed."""
        return time.monotonic() >= self._at + self.pause_s


def _check_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UsageError(f"{host}:{port} ({error.strerror})", "an address that is free", "choose another") from None
