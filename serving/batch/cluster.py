"""The Dask cluster that scores: processes on this machine, or one that exists."""

import logging
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import dask
from distributed import Client, LocalCluster

from serving.batch.settings import BatchSettings
from serving.batch.worker import WarmScorer
from tocsin.errors import RuntimeUnavailableError
from tocsin.runtimes import available_cores
from tocsin.scoring_job import ScoringOptions

CONNECT_S: Final = 10.0
"""How long a scheduler may take to answer."""
COUNTED_S: Final = 2.0
"""How often workers are counted: they come and go."""
LOCAL: Final[dict[str, Any]] = {
    # A worker dies under one scene at a time here, so that whose fault it was is known: handing over is ours.
    "distributed.scheduler.allowed-failures": 0,
    # Scenes are not kept in Dask's memory: there is nothing to spill, and a worker that pauses would pause for good.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.worker.profile.enabled": False,
    # Dask's own threshold gives memory back after every chip and faults it in for the next.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
}


@dataclass
class Cluster:
    """A connection to workers.

    Attributes
    ----------
    client
        Of Dask.
    dashboard
        Address of its dashboard.
    """

    client: Client
    dashboard: str
    _threads: int = 0
    _counted_at: float = field(default=-1e9)

    def places(self) -> int:
        """Return how many scenes it scores at a time; one while no worker is there, which makes one come."""
        now = time.monotonic()
        if now - self._counted_at > COUNTED_S:
            self._threads = sum(self.client.nthreads().values())
            self._counted_at = now
        return max(1, self._threads)

    def recount(self) -> None:
        """Count the workers anew before the next scene: one died, and until it is back no two scenes share another."""
        self._counted_at = -1e9


def shared_options(settings: BatchSettings) -> ScoringOptions:
    """Return the options of every scene: workers on this machine share its cores unless threads were asked for."""
    options = settings.options.model_copy(update={"quiet": True, "overwrite": False, "dry_run": False})
    if options.threads is not None or settings.scheduler is not None:
        return options
    cores = available_cores()
    return options.model_copy(update={"threads": max(1, cores // (settings.workers or cores))})


@contextmanager
def open_cluster(settings: BatchSettings) -> Generator[Cluster]:
    """Start a cluster or connect to one, its workers ready to score.

    Raises
    ------
    RuntimeUnavailableError
        No scheduler answers.
    """
    # Every worker that leaves is a line at level error or below; the batch says what happened to its scenes.
    for name in ("distributed", "asyncio", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if settings.scheduler is None:
        with _local(settings) as cluster:
            yield cluster
    else:
        with _existing(settings.scheduler) as cluster:
            yield cluster


@contextmanager
def _local(settings: BatchSettings) -> Generator[Cluster]:
    limit = settings.memory if settings.memory is not None else "auto"
    with (
        dask.config.set(LOCAL),
        LocalCluster(
            n_workers=settings.workers or available_cores(),
            threads_per_worker=1,
            memory_limit=limit,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(WarmScorer(deaf=True))
        yield Cluster(client, str(cluster.dashboard_link))


@contextmanager
def _existing(scheduler: str) -> Generator[Cluster]:
    try:
        client = Client(scheduler, timeout=CONNECT_S)
    except (OSError, TimeoutError, ValueError) as error:
        raise RuntimeUnavailableError(
            f"--scheduler {scheduler} ({str(error) or type(error).__name__})",
            "a Dask scheduler that answers there",
            "start one, check host and port, or leave --scheduler out to use this machine",
        ) from error
    with client:
        client.register_plugin(WarmScorer())
        yield Cluster(client, str(client.dashboard_link))
