"""What a running service shows of itself, before, during and after a scoring."""

import re
import time

import pytest
from service_stand_ins import ENDS_WITHIN_S, opened, settings_of
from triton_stand_ins import free_ports

from serving.observability import Metrics


def value_of(text, name, **labels):
    """Return a sample of the metrics, None when it is not there."""
    for line in text.splitlines():
        found = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
        if found and dict(re.findall(r'(\w+)="([^"]*)"', found[1] or "")).items() >= labels.items():
            return float(found[2])
    return None


def test_a_scoring_shows_in_the_metrics(service, chip_bytes):
    """After a scene was scored, /metrics holds its area, stages, valid share, precision, runtime, route and queue."""
    before = value_of(service.get("/metrics").text, "tocsin_scored_km2_total", hazard="flood") or 0.0
    answer = service.post("/v1/flood", files={"post": ("seen.tif", chip_bytes, "image/tiff")})
    assert answer.status_code == 200
    scored = answer.json()
    until = time.monotonic() + ENDS_WITHIN_S
    while (value_of(text := service.get("/metrics").text, "tocsin_scored_km2_total", hazard="flood") or 0.0) == before:
        assert time.monotonic() < until
        time.sleep(0.05)
    area = value_of(text, "tocsin_scored_km2_total", hazard="flood") - before
    assert area == pytest.approx(scored["summary"]["observed_km2"])
    for stage in ("receive", "check", "queue", "score"):
        assert value_of(text, "tocsin_stage_seconds_count", hazard="flood", stage=stage) >= 1
    ran = scored["provenance"]
    known = {name: ran[name] for name in ("model", "version", "precision", "runtime", "device")}
    assert value_of(text, "tocsin_runtime", hazard="flood", **known) == 1
    assert value_of(text, "tocsin_requests_total", route="/v1/flood", method="POST", status="200") >= 1
    assert value_of(text, "tocsin_queue_jobs", state="queued") == 0
    assert value_of(text, "tocsin_queue_limit") > 0


def test_a_problem_shows_under_its_code(service):
    """A request that was refused is counted under its status and the code of its problem."""
    assert service.post("/v1/flood", files={"nonsense": ("a.tif", b"x")}).status_code == 400
    text = service.get("/metrics").text
    assert value_of(text, "tocsin_requests_total", route="/v1/flood", status="400", code="usage") >= 1


def test_a_dead_backend_is_not_ready(tmp_path, small_models):
    """A service whose Triton server is away lives and is not ready; it says the code, and not where the server is."""
    (port,) = free_ports(1)
    with opened(settings_of(tmp_path / "state", small_models, runtime=f"grpc://127.0.0.1:{port}")) as client:
        assert client.get("/livez").status_code == 200
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["ready"] is False
        assert set(answer.json()["failed"].values()) == {"runtime_unavailable"}
        assert str(port) not in answer.text
        assert value_of(client.get("/metrics").text, "tocsin_ready") == 0


def test_every_metric_is_documented(root):
    """docs/deployment.md names every metric of the service, and no other."""
    page = (root / "docs/deployment.md").read_text(encoding="utf-8")
    metrics = Metrics()
    metrics.watch_queue(dict, limit=1)
    own = {name for name in metrics.names() if name.startswith("tocsin_")}
    histograms = {name.removesuffix("_bucket") for name in own if name.endswith("_bucket")}
    parts = {f"{name}_{part}" for name in histograms for part in ("bucket", "sum", "count")}
    assert set(re.findall(r"^\| `(tocsin_\w+)`", page, re.MULTILINE)) == (own - parts) | histograms
