"""One process of tritonserver: started, watched, and ended with everything that it started."""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from serving.triton_installation import Installation
from tocsin.runtimes.triton_wire import Endpoint, HttpWire

STOP_S: Final = 30
"""How long requests that are under way may take after a stop was asked for."""
LOG_LINES: Final = 40
MEMORY: Final = Path("/dev/shm")  # noqa: S108 - where Linux keeps shared memory, not a temporary file

_WITH_PARENT: Final = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.argv[1], sys.argv[1:])"  # PR_SET_PDEATHSIG
)
"""Ends the server when the launcher is killed and can no longer do so."""


@dataclass(frozen=True)
class Ports:
    """Where a server listens, and how.

    Attributes
    ----------
    host : str
        Address that is listened on.
    http, grpc, metrics : int
        Ports.
    certificate, key : pathlib.Path or None
        PEM files for TLS on gRPC. HTTP has none, and then listens on this machine only.
    admin_key : str or None
        Header value without which models cannot be loaded, nor memory be shared.
    """

    host: str
    http: int
    grpc: int
    metrics: int
    certificate: Path | None = None
    key: Path | None = None
    admin_key: str | None = None

    @property
    def http_host(self) -> str:
        """Address of what has no TLS."""
        return "127.0.0.1" if self.certificate else self.host

    def wire(self) -> HttpWire:
        """Return how the launcher speaks to its server."""
        host = "127.0.0.1" if self.http_host == "0.0.0.0" else self.http_host  # noqa: S104 - compared, not bound
        return HttpWire(Endpoint("http", host, self.http), admin_header(self.admin_key))

    def arguments(self) -> list[str]:
        """Return the server's options."""
        chosen = [
            f"--http-address={self.http_host}",
            f"--http-port={self.http}",
            f"--grpc-address={self.host}",
            f"--grpc-port={self.grpc}",
            f"--metrics-address={self.http_host}",
            f"--metrics-port={self.metrics}",
        ]
        if self.certificate:
            chosen += [
                "--grpc-use-ssl=true",
                f"--grpc-server-cert={self.certificate}",
                f"--grpc-server-key={self.key}",
            ]
        if self.admin_key:
            guarded = "model-repository,shared-memory,trace,logging"
            chosen += [f"--{kind}={guarded}:{ADMIN}={self.admin_key}" for kind in RESTRICTED]
        return chosen


ADMIN: Final = "tocsin-admin"
"""HTTP header of the admin key; over gRPC its name starts with triton-grpc-protocol-."""
RESTRICTED: Final = ("http-restricted-api", "grpc-restricted-protocol")


def admin_header(key: str | None) -> dict[str, str]:
    """Return the header that carries an admin key."""
    return {ADMIN: key} if key else {}


@dataclass
class Server:
    """A tritonserver and the interpreters that it starts.

    Attributes
    ----------
    installed : Installation
        What is started.
    ports : Ports
        Where it listens.
    models, backends : pathlib.Path
        Folders of models and backends.
    threads : int or None
        CPU threads of a model instance; None: one per core, shared by the instances of a model.
    """

    installed: Installation
    ports: Ports
    models: Path
    backends: Path
    threads: int | None = None
    log: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_LINES), init=False)
    _process: subprocess.Popen[str] | None = field(default=None, init=False)

    @property
    def exit_code(self) -> int | None:
        """Exit code of the process, None while it runs."""
        return self._process.poll() if self._process else 0

    @property
    def pid(self) -> int | None:
        """Process id of the server."""
        return self._process.pid if self._process else None

    def start(self, names: Iterable[str]) -> None:
        """Start the process; it loads the named models, and goes on without those that fail."""
        self.log.clear()
        command = [
            str(self.installed.server),
            f"--model-repository={self.models}",
            f"--backend-directory={self.backends}",
            "--model-control-mode=explicit",
            *(f"--load-model={name}" for name in names),
            "--exit-on-error=false",
            "--strict-readiness=true",
            f"--exit-timeout-secs={STOP_S}",
            "--allow-gpu-metrics=false",
            "--log-info=false",
            f"--backend-config=python,shm-region-prefix-name={self._prefix}",
            *self.ports.arguments(),
        ]
        environment = self.installed.environment()
        if self.threads:
            environment["TOCSIN_THREADS"] = str(self.threads)
        self._process = subprocess.Popen(  # noqa: S603 - the server of the wheel, with our own arguments
            [sys.executable, "-S", "-c", _WITH_PARENT, *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        threading.Thread(target=self._forward, args=(self._process,), daemon=True, name="triton-log").start()

    def stop(self) -> None:
        """End the process: what is under way is finished, then everything goes; calling it again does nothing."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S + 5)
        self.kill()

    def kill(self) -> None:
        """End the process and everything that it started, at once."""
        if self._process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        # A killed interpreter leaves its memory behind.
        for path in MEMORY.glob(f"{self._prefix}*"):
            path.unlink(missing_ok=True)

    @property
    def _prefix(self) -> str:
        return f"tocsin_triton_{os.getpid()}_{self.ports.http}_"

    def _forward(self, process: subprocess.Popen[str]) -> None:
        """Show the server's warnings and errors, and keep the last ones."""
        assert process.stdout is not None, "opened as a pipe"
        with process.stdout:
            for line in process.stdout:
                self.log.append(line.rstrip())
                sys.stderr.write(f"tritonserver: {line}")
