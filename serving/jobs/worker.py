"""A process that scores one job after the other: `python -m serving.jobs.worker`, started by the supervisor.

Its settings come as one line on standard input, which then stays open: when it ends, the service is gone, and so is the
worker, at once, whatever it does. Who starts next takes the job up again.
"""

import importlib
import logging
import os
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import Final

from serving.jobs.attempt import Attempt, UncertainError
from serving.jobs.bell import Bell
from serving.jobs.folders import Folders
from serving.jobs.store import JobStore, store_url
from serving.observability.logs import request_id, set_up_logging
from serving.settings import ServiceSettings
from tocsin.errors import TocsinError
from tocsin.scoring import HAZARDS, Scorer

LOOK_S: Final = 1.0
"""How often the queue is looked into when nobody rings: another machine's submit rings here not at all."""
REPLACE_ME: Final = 70
"""Exit status of a worker that met what nobody expected."""
ALONE: Final = 71
"""Exit status of a worker whose service is gone."""
SPARED: Final = 500
"""How much sooner than others the kernel ends a worker when memory runs out: the service answers on."""

_log = logging.getLogger("serving.jobs.worker")


class Worker:
    """Takes jobs from the queue until it is stopped.

    Parameters
    ----------
    settings
        Of the service.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._folders = Folders(settings.state)
        self._bell = Bell(self._folders.work_bells)
        self._stopping = False

    def stop(self) -> None:
        """Stop after the window that is being scored; the job goes back into the queue."""
        self._stopping = True
        self._bell.wake()

    def run(self) -> int:
        """Work until stopped, and return the exit status."""
        os.chdir(self._folders.state)
        with self._bell, Scorer() as scorer:
            store: JobStore | None = None
            while not self._stopping:
                try:
                    store = store or JobStore(store_url(self._settings))
                    if not self._take_one(store, scorer):
                        self._bell.listen(LOOK_S)
                except UncertainError:
                    return REPLACE_ME
                except TocsinError as error:
                    _log.warning("the job store failed: %s", error)
                    self._bell.listen(LOOK_S)
            if store is not None:
                store.close()
        return 0

    def _take_one(self, store: JobStore, scorer: Scorer) -> bool:
        """Score the next job, and say whether there was one."""
        job_id = store.take()
        if job_id is None:
            return False
        lease = self._folders.hold(job_id)
        if lease is not None:
            Attempt(self._settings, self._folders, store, lease, lambda: self._stopping).make(scorer, job_id)
            request_id.set(None)
        return True


def main() -> int:
    """Run a worker, as the line on standard input says."""
    settings = ServiceSettings.model_validate_json(sys.stdin.readline())
    threading.Thread(target=_end_with_the_service, name="lifeline", daemon=True).start()
    set_up_logging()
    _bound_memory(settings)
    # What every scoring needs is loaded before the first one waits for it, and before the service is called ready.
    for hazard in HAZARDS:
        importlib.import_module(f"tocsin.{hazard}_scoring")
    worker = Worker(settings)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    return worker.run()


def _end_with_the_service() -> None:
    """Wait until standard input ends, and end the process."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(ALONE)


def _bound_memory(settings: ServiceSettings) -> None:
    """Keep this process within its memory, and let it go first when the machine runs out."""
    limit = settings.worker_memory_bytes or machine_memory_bytes() * 3 // 4 // settings.workers
    # Of what is written to, not of what is only mapped: libraries and files count for nothing here.
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    try:
        Path("/proc/self/oom_score_adj").write_text(str(SPARED), encoding="ascii")
    except OSError as error:
        _log.info("the kernel's choice for want of memory stays as it is: %s", error)


def machine_memory_bytes() -> int:
    """Return the memory of this machine, or of the container that it seems to be."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        path = Path("/sys/fs/cgroup") / name
        if path.is_file() and (text := path.read_text(encoding="ascii").strip()).isdigit():
            return min(whole, int(text))
    return whole


if __name__ == "__main__":
    sys.exit(main())
