"""Metrics, logs, traces and the middleware that ties them to requests."""

import asyncio
import io
import json
import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families
from stand_ins import make_result
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving.observability import Metrics, Observe, Tracing, logs
from serving.observability.metrics import observed_km2
from serving.observability.probes import metrics as metrics_page
from serving.observability.tracing import traceparent
from tocsin.errors import QueueFullError, UsageError

START = datetime(2026, 1, 1, tzinfo=UTC)
ID = "0f8fad5b-d9cb-469f-a165-70867728950e"


@dataclass(frozen=True)
class Ended:
    """A job that ended two seconds after it was accepted and half a second after it was begun."""

    id: str = "a"
    hazard: str = "flood"
    state: str = "done"
    error: QueueFullError | None = None
    created: datetime = START
    started: datetime | None = START + timedelta(seconds=1.5)
    ended: datetime | None = START + timedelta(seconds=2)
    result: object = None


def read(metrics):
    """Return the samples by name and labels."""
    families = text_string_to_metric_families(metrics.render()[0].decode())
    return {
        (each.name, tuple(sorted(each.labels.items()))): each.value for family in families for each in family.samples
    }


def test_scene_counts_area_share_and_what_ran():
    """A scored scene adds its km2 and valid share, under the precision and runtime that really ran."""
    metrics = Metrics()
    metrics.scored(make_result())
    metrics.scored(make_result())
    seen = read(metrics)
    ran = {"hazard": "flood", "model": "flood", "version": "1.0.0", "precision": "fp32", "runtime": "onnx"}
    labels = tuple(sorted({**ran, "device": "cpu"}.items()))
    assert seen["tocsin_scored_km2_total", (("hazard", "flood"),)] == 4.0
    assert seen["tocsin_valid_share_sum", (("hazard", "flood"),)] == 1.0
    assert seen["tocsin_scored_scenes_total", labels] == 2
    assert seen["tocsin_runtime", labels] == 1


def test_runtime_in_use_is_the_last_one():
    """After a change of precision the gauge names the new one alone; the counter keeps both."""
    metrics, result = Metrics(), make_result()
    metrics.scored(result)
    metrics.scored(result.model_copy(update={"provenance": result.provenance.model_copy(update={"precision": "int8"})}))
    names = [(name, dict(labels)["precision"]) for name, labels in read(metrics) if "precision" in dict(labels)]
    assert [precision for name, precision in names if name == "tocsin_runtime"] == ["int8"]
    assert {precision for name, precision in names if name == "tocsin_scored_scenes_total"} == {"fp32", "int8"}


def test_area_without_a_place_is_nothing():
    """A result without a georeference or of a dry run adds no area."""
    result = make_result()
    assert observed_km2(result) == 2.0
    assert observed_km2(result.model_copy(update={"summary": None})) == 0.0


def test_job_counts_once_with_its_stages():
    """A job that is told of twice is counted once: its end, the seconds it waited and the seconds it ran."""
    metrics = Metrics()
    for _ in range(2):
        metrics.job_ended(Ended(result=make_result()))
    metrics.job_ended(replace(Ended(), id="b", state="failed", error=QueueFullError("", "", "")))
    metrics.job_ended(replace(Ended(), id="c", state="cancelled", started=None))
    seen = read(metrics)
    ended = {labels: value for (name, labels), value in seen.items() if name == "tocsin_jobs_ended_total"}
    assert {dict(labels)["state"]: value for labels, value in ended.items()} == {"done": 1, "failed": 1, "cancelled": 1}
    assert {dict(labels)["code"] for labels in ended} == {"", "queue_full"}
    stages = {stage: (("hazard", "flood"), ("stage", stage)) for stage in ("queue", "score")}
    assert seen["tocsin_stage_seconds_sum", stages["queue"]] == 1.5 + 1.5 + 2
    assert seen["tocsin_stage_seconds_sum", stages["score"]] == 0.5 + 0.5
    assert seen["tocsin_stage_seconds_count", stages["score"]] == 2
    assert seen["tocsin_scored_km2_total", (("hazard", "flood"),)] == 2.0


def test_stage_is_timed_when_it_fails():
    """What a block takes is observed under its hazard and stage, also when the block raises."""
    metrics = Metrics()
    with pytest.raises(UsageError), metrics.stage("volcano", "check"):
        raise UsageError("", "", "")
    assert read(metrics)["tocsin_stage_seconds_count", (("hazard", "volcano"), ("stage", "check"))] == 1


def test_queue_is_asked_when_metrics_are_read():
    """The length of the queue is that of the moment, beside its limit."""
    metrics, waiting = Metrics(), [3]
    metrics.watch_queue(lambda: {"queued": waiting[0], "running": 1}, limit=100)
    waiting[0] = 7
    seen = read(metrics)
    assert seen["tocsin_queue_jobs", (("state", "queued"),)] == 7
    assert seen["tocsin_queue_jobs", (("state", "running"),)] == 1
    assert seen["tocsin_queue_limit", ()] == 100


def test_names_are_those_that_are_written():
    """Every time series that is written is among the names."""
    metrics = Metrics()
    metrics.job_ended(Ended(result=make_result()))
    written = {name for name, _ in read(metrics)}
    assert {name for name in written if not name.endswith("_created")} <= metrics.names()


async def echo(request: Request) -> Response:
    """Read the body and answer with what the log would know."""
    body = await request.body()
    logging.getLogger("tocsin.test").info("inside", extra={"bytes": len(body)})
    return JSONResponse({"bytes": len(body), "trace": traceparent()})


async def broken(_: Request) -> Response:
    """Fail."""
    raise ZeroDivisionError


@dataclass
class Watched:
    """An application behind the middleware, and what was seen of it."""

    metrics: Metrics
    spans: InMemorySpanExporter
    lines: io.StringIO
    app: Observe

    def call(self, method, path, **more):
        """Return the response to one request."""

        async def run():
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://tocsin") as client:
                return await client.request(method, path, **more)

        return asyncio.run(run())

    def logged(self):
        """Return the log's lines."""
        return [json.loads(line) for line in self.lines.getvalue().splitlines()]


@pytest.fixture
def watched():
    """Return an application with three routes behind the middleware."""
    metrics, spans, lines = Metrics(), InMemorySpanExporter(), io.StringIO()

    async def metrics_route(_):
        return await metrics_page(metrics)

    routes = [
        Route("/v1/jobs/{job}", echo, methods=["POST"]),
        Route("/broken", broken),
        Route("/metrics", metrics_route),
    ]
    handler = logging.StreamHandler(lines)
    handler.setFormatter(logs.JsonFormatter())
    logger = logging.getLogger("tocsin")
    before = logger.handlers, logger.level, logger.propagate
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    tracing = Tracing({}, exporter=spans)
    yield Watched(metrics, spans, lines, Observe(Starlette(routes=routes), metrics, tracing))
    tracing.close()
    logger.handlers, logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def test_request_is_counted_under_its_route(watched):
    """A request counts under the template of its route, never under its path; its bytes are counted as they come in."""
    assert watched.call("POST", "/v1/jobs/17", content=b"x" * 1000).status_code == 200
    assert watched.call("GET", "/nowhere/18").status_code == 404
    seen = read(watched.metrics)
    known = (("code", ""), ("method", "POST"), ("route", "/v1/jobs/{job}"), ("status", "200"))
    other = (("code", ""), ("method", "GET"), ("route", "unknown"), ("status", "404"))
    assert seen["tocsin_requests_total", known] == 1
    assert seen["tocsin_requests_total", other] == 1
    assert seen["tocsin_received_bytes_total", ()] == 1000
    assert seen["tocsin_requests_in_progress", ()] == 0


def test_id_of_a_request_is_everywhere(watched):
    """The answer, the access line and what a handler logs carry one id: the client's when it is a UUID."""
    response = watched.call("POST", "/v1/jobs/17", headers={"X-Request-ID": ID})
    assert response.headers["x-request-id"] == ID
    assert [(line["message"], line["request_id"]) for line in watched.logged()] == [("inside", ID), ("request", ID)]


@pytest.mark.parametrize("given", ["", "x" * 4000, "1\\n{}", "00000000-0000-0000-0000-00000000000g"])
def test_other_ids_are_replaced(watched, given):
    """What is no UUID is not repeated into logs and headers."""
    response = watched.call("POST", "/v1/jobs/17", headers={"X-Request-ID": given})
    assert UUID(response.headers["x-request-id"]).version == 4


def test_access_line_tells_what_happened(watched):
    """The line holds method, route, path, status, seconds, bytes and client; probes are logged only when they fail."""
    watched.call("POST", "/v1/jobs/17", content=b"four")
    watched.call("GET", "/metrics")
    line = watched.logged()[-1]
    assert (line["method"], line["route"], line["path"]) == ("POST", "/v1/jobs/{job}", "/v1/jobs/17")
    assert (line["status"], line["received_bytes"], line["level"]) == (200, 4, "info")
    assert line["seconds"] >= 0
    assert datetime.fromisoformat(line["time"]).tzinfo is not None


def test_failure_is_counted_logged_and_traced(watched):
    """An exception that nobody caught counts as 500, is a warning in the log, and marks its span."""
    assert watched.call("GET", "/broken").status_code == 500
    labels = (("code", ""), ("method", "GET"), ("route", "/broken"), ("status", "500"))
    assert read(watched.metrics)["tocsin_requests_total", labels] == 1
    assert watched.logged()[-1]["level"] == "warning"
    (span,) = watched.spans.get_finished_spans()
    assert not span.status.is_ok


def test_span_goes_on_with_the_callers_trace(watched):
    """A span belongs to the trace of the caller's traceparent, is named after its route, and hands its place on."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    response = watched.call("POST", "/v1/jobs/17", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    (span,) = watched.spans.get_finished_spans()
    assert f"{span.context.trace_id:032x}" == trace
    assert span.name == "POST /v1/jobs/{job}"
    assert span.attributes["http.response.status_code"] == 200
    assert response.json()["trace"]["traceparent"] == f"00-{trace}-{span.context.span_id:016x}-01"
    assert watched.logged()[0]["trace_id"] == trace


def test_nothing_is_traced_unless_it_is_configured():
    """Without an endpoint there is no span, no SDK and no traceparent."""
    tracing = Tracing({})
    with tracing.span("work") as span:
        assert not span.is_recording()
        assert traceparent() == {}
    assert not tracing.active
    assert not Tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"}).active


def test_endpoint_turns_tracing_on(monkeypatch):
    """With an endpoint spans are sent over HTTP; another protocol is refused, not ignored."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    tracing = Tracing()
    assert tracing.active
    tracing.close()
    with pytest.raises(UsageError, match="grpc"):
        Tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})


def test_line_holds_exceptions_and_odd_values():
    """A line is one JSON object, whatever was logged: a traceback, line breaks, an object of no JSON type."""
    error = ZeroDivisionError()
    record = logging.makeLogRecord({"msg": "a\nb", "exc_info": (type(error), error, None)})
    record.odd = START
    line = logs.JsonFormatter().format(record)
    assert "\n" not in line
    said = json.loads(line)
    assert said["message"] == "a\nb"
    assert "ZeroDivisionError" in said["exception"]
    assert said["odd"] == str(START)


def test_every_logger_writes_json(capfd):
    """After set-up a logger of another library writes JSON to stderr too, and access lines of a server are left out."""
    root, other = logging.getLogger(), logging.getLogger("uvicorn.error")
    before = root.handlers, root.level, other.handlers
    other.handlers = [logging.StreamHandler()]
    try:
        logs.set_up_logging("INFO")
        other.warning("from elsewhere")
        logging.getLogger("uvicorn.access").info("GET /")
    finally:
        root.handlers, other.handlers = before[0], before[2]
        root.setLevel(before[1])
    (line,) = capfd.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "from elsewhere"
