"""A real `tocsin serve` for benchmarks: started on a free port over a folder of its own, its processes measured."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import Final

import httpx

START_S: Final = 300.0
STOP_S: Final = 60.0
WORKER: Final = b"serving.jobs.worker"
TOCSIN: Final = (sys.executable, "-c", "from tocsin.cli import main; raise SystemExit(main())")


@dataclass(frozen=True)
class Running:
    """A service that answers.

    Attributes
    ----------
    url : str
        Of the service.
    pid : int
        Of the process that was started; others are below it.
    state : pathlib.Path
        Its folder.
    """

    url: str
    pid: int
    state: Path

    def processes(self) -> dict[int, bytes]:
        """Return the command lines of every process of the service, by id."""
        below: dict[int, list[int]] = {}
        commands: dict[int, bytes] = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((path / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
                commands[int(path.name)] = (path / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            below.setdefault(parent, []).append(int(path.name))
        mine, ahead = {}, [self.pid]
        while ahead:
            pid = ahead.pop()
            if pid in commands:
                mine[pid] = commands[pid]
            ahead += below.get(pid, [])
        return mine

    def workers(self) -> list[int]:
        """Return the processes that score."""
        return [pid for pid, command in self.processes().items() if WORKER in command]

    def cpu_s(self) -> tuple[float, float]:
        """Return the processor time of all processes but the workers, and of the workers, seconds."""
        own = workers = 0.0
        for pid, command in self.processes().items():
            try:
                ticks = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[11:13]
            except (FileNotFoundError, ProcessLookupError):
                continue
            seconds = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
            own, workers = (own, workers + seconds) if WORKER in command else (own + seconds, workers)
        return own, workers

    def memory_mib(self, *, workers: bool = False) -> float:
        """Return the resident memory of all processes but the workers, or of the workers; shared pages count once."""
        total = 0
        for pid, command in self.processes().items():
            if (WORKER in command) == workers:
                try:
                    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return total / 1024


@contextmanager
def service(**variables: str) -> Generator[Running]:
    """Run a service, with further environment variables, and end it with all that it started."""
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="tocsin-benchmark-") as folder:
        state, log = Path(folder) / "state", Path(folder) / "log"
        own = {"TOCSIN_STATE": str(state), "TOCSIN_TOKEN_REQUESTS_PER_MINUTE": "1000000", "TOCSIN_TOKEN_JOBS": "100000"}
        command = [*TOCSIN, "serve", "--port", str(port)]
        with (
            log.open("wb") as said,
            subprocess.Popen(
                command, env={**os.environ, **own, **variables}, stdout=said, stderr=said, process_group=0
            ) as process,
        ):
            try:
                running = Running(f"http://127.0.0.1:{port}", process.pid, state)
                _wait_until_ready(running, process, log)
                yield running
            finally:
                process.terminate()
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    print("the service did not stop by itself")
                    os.killpg(process.pid, signal.SIGKILL)


def _wait_until_ready(running: Running, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + START_S
    with httpx.Client(trust_env=False) as client:
        while time.monotonic() < until:
            try:
                if client.get(f"{running.url}/readyz", timeout=10).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            if process.poll() is not None:
                break
            time.sleep(0.2)
    raise SystemExit(f"the service did not start:\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}")
