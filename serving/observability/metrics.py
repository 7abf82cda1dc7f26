"""What the service counts, in the text format of Prometheus.

Labels hold names from closed lists only (routes, hazards, codes, stages): a client cannot make new time series.
"""

from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from threading import Lock
from time import monotonic
from typing import Final, Literal, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

import tocsin
from tocsin.result import FloodSummary, LandslideSummary, Result, VolcanoSummary

Stage = Literal["receive", "fetch", "check", "queue", "score"]
"""receive: a body comes in; fetch: references are fetched; check: headers are inspected; queue: a job waits; score: it
runs."""

REQUEST_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
STAGE_S: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
SHARES: Final = (0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
"""Upper bounds of the histograms."""
REMEMBERED: Final = 10_000
"""Ended jobs that are known not to be counted again."""


class JobError(Protocol):
    """Why a job failed."""

    @property
    def code(self) -> str:
        """Of tocsin.errors."""


class EndedJob(Protocol):
    """What is counted of a job that is done, failed or cancelled."""

    @property
    def id(self) -> str:
        """Unique."""

    @property
    def hazard(self) -> str:
        """flood, landslide or volcano."""

    @property
    def state(self) -> str:
        """done, failed or cancelled."""

    @property
    def error(self) -> JobError | None:
        """None unless it failed."""

    @property
    def created(self) -> datetime:
        """When it was accepted, UTC."""

    @property
    def started(self) -> datetime | None:
        """When a worker took it; None when none did."""

    @property
    def ended(self) -> datetime | None:
        """When it ended."""

    @property
    def result(self) -> Result | None:
        """What was scored; None unless it is done."""


class Metrics:
    """Every time series of one service, in a registry of its own: nothing of another library mixes in.

    Parameters
    ----------
    registry
        Where they are registered; a new one by default.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        at = self.registry
        self.requests = Counter(
            "tocsin_requests", "Requests by route, method, status and problem code", _REQUEST_LABELS, registry=at
        )
        self.request_seconds = Histogram(
            "tocsin_request_seconds",
            "From first byte in to last byte out",
            _ROUTE_LABELS,
            buckets=REQUEST_S,
            registry=at,
        )
        self.in_progress = Gauge("tocsin_requests_in_progress", "Requests that are being answered", registry=at)
        self.received_bytes = Counter("tocsin_received_bytes", "Bytes of request bodies", registry=at)
        self.stage_seconds = Histogram(
            "tocsin_stage_seconds", "What a scoring's time goes into", ("hazard", "stage"), buckets=STAGE_S, registry=at
        )
        self.jobs = Counter("tocsin_jobs_ended", "Jobs by how they ended", ("hazard", "state", "code"), registry=at)
        self.scored_km2 = Counter("tocsin_scored_km2", "True area with a result", ("hazard",), registry=at)
        self.valid_share = Histogram(
            "tocsin_valid_share", "Share of a scene's pixels with a result", ("hazard",), buckets=SHARES, registry=at
        )
        self.scenes = Counter("tocsin_scored_scenes", "Scenes by what really scored them", _RAN_LABELS, registry=at)
        self.ready = Gauge("tocsin_ready", "1: every check of the last canary passed", registry=at)
        self.check_seconds = Gauge("tocsin_check_seconds", "What the last check took", ("check",), registry=at)
        self._queue_limit = Gauge("tocsin_queue_limit", "Jobs that may wait; more are refused", registry=at)
        self._running = Gauge(
            "tocsin_runtime", "1: what scored the last scene of this hazard", _RAN_LABELS, registry=at
        )
        self._ran: dict[str, tuple[str, ...]] = {}
        self._counted: OrderedDict[str, None] = OrderedDict()
        self._lock = Lock()
        Gauge("tocsin_build", "1: version of the package", ("version",), registry=at).labels(tocsin.__version__).set(1)
        ProcessCollector(registry=at)

    def watch_queue(self, counts: Callable[[], Mapping[str, int]], limit: int) -> None:
        """Ask for the length of the queue whenever the metrics are read; once for each service.

        Parameters
        ----------
        counts
            Returns the number of jobs by state, queued and running.
        limit
            Jobs that may wait.
        """
        self.registry.register(_Queue(counts))
        self._queue_limit.set(limit)

    @contextmanager
    def stage(self, hazard: str, stage: Stage) -> Generator[None]:
        """Time what the block does, also when it fails."""
        started = monotonic()
        try:
            yield
        finally:
            self.stage_seconds.labels(hazard, stage).observe(monotonic() - started)

    def job_ended(self, job: EndedJob) -> None:
        """Count a job, however often it is told of: a bell may ring twice. Safe to call from any thread."""
        with self._lock:
            if job.id in self._counted:
                return
            self._counted[job.id] = None
            while len(self._counted) > REMEMBERED:
                self._counted.popitem(last=False)
        self.jobs.labels(job.hazard, job.state, job.error.code if job.error else "").inc()
        taken = job.started or job.ended
        if taken is not None:
            self._observe_stage(job.hazard, "queue", job.created, taken)
        if job.started is not None and job.ended is not None:
            self._observe_stage(job.hazard, "score", job.started, job.ended)
        if job.result is not None:
            self.scored(job.result)

    def scored(self, result: Result) -> None:
        """Count a scene: its area, its valid share, and what really ran."""
        ran = result.provenance
        labels = (result.hazard, ran.model, ran.version, ran.precision, ran.runtime, ran.device)
        self.scenes.labels(*labels).inc()
        before = self._ran.get(result.hazard)
        if before is not None and before != labels:
            self._running.remove(*before)
        self._ran[result.hazard] = labels
        self._running.labels(*labels).set(1)
        self.scored_km2.labels(result.hazard).inc(observed_km2(result))
        if result.scene.valid_fraction is not None:
            self.valid_share.labels(result.hazard).observe(result.scene.valid_fraction)

    def render(self) -> tuple[bytes, str]:
        """Return the text and its media type. It may ask the job store: not for the event loop's thread."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    def names(self) -> frozenset[str]:
        """Return the name of every time series that can appear, those of histograms with their suffixes."""
        found = set()
        for family in self.registry.collect():
            suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
            found |= {family.name + suffix for suffix in suffixes}
        return frozenset(found)

    def _observe_stage(self, hazard: str, stage: Stage, start: datetime, end: datetime) -> None:
        # Two machines' clocks may differ: a stage never lasts less than nothing.
        self.stage_seconds.labels(hazard, stage).observe(max(0.0, (end - start).total_seconds()))


class _Queue(Collector):
    """Asks for the length of the queue when it is read."""

    def __init__(self, counts: Callable[[], Mapping[str, int]]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauge."""
        family = GaugeMetricFamily("tocsin_queue_jobs", "Jobs that wait or run", labels=["state"])
        for state, number in self._counts().items():
            family.add_metric([state], number)
        yield family


def observed_km2(result: Result) -> float:
    """Return the area with a result, km2; 0 where a scene has no place on Earth."""
    if isinstance(result.summary, FloodSummary | LandslideSummary | VolcanoSummary):
        return result.summary.observed_km2 or 0.0
    return 0.0


# A second series for each counter that says when it began: nobody asks for it, and it doubles the text.
disable_created_metrics()  # type: ignore[no-untyped-call] # of a library with few annotations

_ROUTE_LABELS = ("route", "method")
_REQUEST_LABELS = (*_ROUTE_LABELS, "status", "code")
_RAN_LABELS = ("hazard", "model", "version", "precision", "runtime", "device")
