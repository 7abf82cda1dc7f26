"""Keeps workers working, and jobs from being lost: what a dead process left is taken up again, or has failed."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Self

from serving.jobs.folders import Folders
from serving.jobs.store import JobStore, store_url
from serving.jobs.sweep import Sweep
from serving.jobs.webhooks import Messenger
from serving.settings import ServiceSettings
from tocsin.errors import TocsinError

LOOK_S: Final = 0.2
"""How often workers are looked at."""
SWEEP_S: Final = 2.0
"""How often open jobs are looked at, when no worker died."""
STOP_S: Final = 8.0
"""How long a worker may go on after it was told to stop."""
HEALTHY_S: Final = 5.0
"""A worker that lived so long is replaced at once."""
LONGEST_PAUSE_S: Final = 30.0
SECRETS: Final = {"tokens", "webhook_secret"}
"""Settings that no worker needs."""

_log = logging.getLogger(__name__)


class WorkerProcess:
    """A worker, replaced when it dies.

    Parameters
    ----------
    settings
        Of the service.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        # The worker's folders are not relative to ours: it changes its own.
        whole = settings.model_copy(update={"state": settings.state.absolute()})
        self._line = whole.model_dump_json(exclude=SECRETS) + "\n"
        self._process: subprocess.Popen[str] | None = None
        self._started = 0.0
        self._pause = 0.0

    @property
    def pid(self) -> int | None:
        """Process id, None when there is none."""
        return self._process.pid if self._process is not None else None

    def look(self) -> bool:
        """Start the worker where there is none, and say whether one died since the last look."""
        died = self._process is not None and self._process.poll() is not None
        if died:
            self._bury()
        if self._process is None and time.monotonic() - self._started >= self._pause:
            self._start()
        return died

    def _bury(self) -> None:
        assert self._process is not None, "it died"
        lived = time.monotonic() - self._started
        self._pause = 0.0 if lived > HEALTHY_S else min(max(0.5, 2 * self._pause), LONGEST_PAUSE_S)
        _log.warning("worker %d ended with %d after %.0f s", self._process.pid, self._process.returncode, lived)
        self._let_go()

    def _start(self) -> None:
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "serving.jobs.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            process_group=0,
        )
        assert self._process.stdin is not None, "opened as a pipe"
        # One that died already is seen at the next look.
        with suppress(BrokenPipeError):
            self._process.stdin.write(self._line)
            self._process.stdin.flush()

    def kill(self) -> None:
        """End it at once, with all that it does."""
        if self._process is not None:
            self._process.kill()

    def tell_to_stop(self) -> None:
        """Ask it to put its job back and to end."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def stopped(self, until: float) -> None:
        """See that it is gone, by force after a time of the monotonic clock."""
        if self._process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(until - time.monotonic(), 0.1))
        self._process.kill()
        self._process.wait()
        self._let_go()

    def _let_go(self) -> None:
        assert self._process is not None, "it was started"
        assert self._process.stdin is not None, "opened as a pipe"
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process = None


@dataclass
class Supervisor:
    """Starts the workers of a service, and looks after its jobs; several over one state folder take turns.

    Attributes
    ----------
    settings : ServiceSettings
        Of the service.
    """

    settings: ServiceSettings
    _stop: threading.Event = field(default_factory=threading.Event, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _workers: list[WorkerProcess] = field(default_factory=list, init=False)

    def start(self) -> None:
        """Start, in a thread of its own."""
        self._stop.clear()
        self._workers = [WorkerProcess(self.settings) for _ in range(self.settings.workers)]
        self._thread = threading.Thread(target=self._run, name="jobs-supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop every worker; a job that one was at goes back into the queue. Calling it again does nothing."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers that live."""
        return tuple(pid for worker in self._workers if (pid := worker.pid) is not None)

    def __enter__(self) -> Self:
        """Start, to be stopped at the end of the block."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def _run(self) -> None:
        folders = Folders(self.settings.state)
        held: int | None = None
        while held is None and not self._stop.is_set():
            held = folders.first("supervisor")
            if held is None:
                self._stop.wait(LOOK_S)
        if held is None:
            return
        try:
            with Messenger(self.settings, folders):
                self._supervise(folders)
        finally:
            for worker in self._workers:
                worker.tell_to_stop()
            until = time.monotonic() + STOP_S
            for worker in self._workers:
                worker.stopped(until)
            os.close(held)

    def _supervise(self, folders: Folders) -> None:
        """Look after workers and jobs until stopped."""
        store: JobStore | None = None
        sweep: Sweep | None = None
        due = 0.0
        while not self._stop.is_set():
            died = [worker.look() for worker in self._workers]
            if any(died) or time.monotonic() >= due:
                due = time.monotonic() + SWEEP_S
                try:
                    store = store or JobStore(store_url(self.settings))
                    sweep = sweep or Sweep(self.settings, folders, store)
                    self._kill(sweep.sweep())
                except (TocsinError, OSError) as error:
                    _log.warning("open jobs could not be looked at: %s", error)
            self._stop.wait(LOOK_S)
        if store is not None:
            store.close()

    def _kill(self, pids: frozenset[int]) -> None:
        """End workers that go on where they must not."""
        for worker in self._workers:
            if worker.pid in pids:
                _log.warning("worker %d is killed: its job was cancelled or takes too long", worker.pid)
                worker.kill()
