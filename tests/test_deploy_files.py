"""Images, compose file, alerts and dashboard: checked by what can be checked without a container engine."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from serving.observability import Metrics

promql = pytest.importorskip("promql_parser", reason="needs the extra dev")

TRITON = {"nv_inference_request_success", "nv_inference_queue_duration_us"}
"""What the Triton server counts; a test with a real server looks for them."""
OF_PROMETHEUS = {"up"}
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def deploy(root: Path) -> Path:
    """Folder of everything here."""
    return root / "deploy"


@pytest.fixture(scope="module")
def compose(deploy: Path) -> dict:
    """Return the compose file."""
    return yaml.safe_load((deploy / "compose.yaml").read_text(encoding="utf-8"))


def run(*command: object) -> None:
    """Run a checker, which says what is wrong."""
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["Dockerfile.cpu", "Dockerfile.gpu"])
def test_dockerfiles_are_clean(name, deploy):
    """Hadolint has nothing to say about an image, not even a hint."""
    run(BIN / "hadolint", "--failure-threshold", "style", deploy / name)


@pytest.mark.parametrize("name", ["Dockerfile.cpu", "Dockerfile.gpu"])
def test_images_run_as_nobody_and_say_how_they_are(name, deploy):
    """An image ends as a user without rights, with a health check, and holds no token and no path of a checkout."""
    text = (deploy / name).read_text(encoding="utf-8")
    last = text.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (\S+)$", last, re.MULTILINE) == ["10001:10001"]
    assert "HEALTHCHECK" in last
    assert "/readyz" in last
    assert 'ENTRYPOINT ["tocsin", "serve"]' in last
    assert not re.search(r"^(ADD|ARG)\b|TOKEN", text, re.MULTILINE)
    assert all(":" in base and "latest" not in base for base in re.findall(r"^FROM (\S+/?\S+:\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_compose_files_keep_the_schema(name, deploy):
    """A compose file is what the specification of compose allows."""
    run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", deploy / name)


def test_every_container_is_hardened(compose):
    """Each container has a read-only root, no capability, no way to more rights, and a pinned image."""
    assert set(compose["services"]) == {"service", "triton", "prometheus", "grafana"}
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service["image"].endswith(":latest"), name
        assert ":" in service["image"], name


def test_triton_and_models_need_no_network(compose):
    """Triton is on a network that reaches nothing else; only the service is published beyond this machine."""
    assert compose["networks"]["inside"]["internal"] is True
    assert compose["services"]["triton"]["networks"] == ["inside"]
    assert "ports" not in compose["services"]["triton"]
    for name in ("prometheus", "grafana"):
        assert all(port.startswith("127.0.0.1:") for port in compose["services"][name]["ports"])


def test_every_mounted_file_is_there(compose, deploy):
    """What is mounted from the checkout exists in it."""
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume).split(":")[0]
            if source.startswith("."):
                assert (deploy / source).exists(), source
    build = compose["services"]["service"]["build"]
    assert (deploy / build["context"] / build["dockerfile"]).resolve() == deploy / "Dockerfile.cpu"


def test_no_secret_has_a_default(compose):
    """Tokens and passwords come from who starts it; without them nothing starts."""
    tokens = compose["services"]["service"]["environment"]["TOCSIN_TOKENS"]
    assert re.fullmatch(r"\$\{TOCSIN_TOKENS:\?[^}]+\},\$\{TOCSIN_METRICS_TOKEN:\?[^}]+\}", tokens)
    assert all(set(secret) == {"environment"} for secret in compose["secrets"].values())


def test_prometheus_accepts_its_files(deploy):
    """Prometheus' own tool accepts the configuration and the rules, and the alerts fire when they should."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool: apt-get install prometheus")
    folder = deploy / "prometheus"
    run(promtool, "check", "config", "--syntax-only", folder / "prometheus.yml")
    run(promtool, "check", "rules", folder / "alerts.yml")
    run(promtool, "test", "rules", folder / "alerts_test.yml")


def test_prometheus_asks_where_the_service_is(compose, deploy):
    """Targets are containers of the compose file at the ports that they listen on, asked with the token."""
    jobs = yaml.safe_load((deploy / "prometheus/prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in jobs}
    assert targets == {"tocsin": ["service:3000"], "triton": ["triton:8002"]}
    assert all(target.split(":")[0] in compose["services"] for group in targets.values() for target in group)
    secret = jobs[0]["authorization"]["credentials_file"].removeprefix("/run/secrets/")
    assert secret in compose["services"]["prometheus"]["secrets"]


def queries(deploy: Path) -> Iterator[tuple[str, str]]:
    """Yield every query of dashboard and alerts with where it stands."""
    board = json.loads((deploy / "grafana/tocsin.json").read_text(encoding="utf-8"))
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    rules = yaml.safe_load((deploy / "prometheus/alerts.yml").read_text(encoding="utf-8"))
    for rule in rules["groups"][0]["rules"]:
        yield rule["alert"], rule["expr"]


def metrics_of(expression: str) -> set[str]:
    """Return the metrics that a query asks for."""
    found = set()

    def note(node: object) -> bool:
        if isinstance(node, promql.VectorSelector):
            found.add(node.name)
        return True

    promql.walk(promql.parse(expression), note)
    return found


def test_queries_name_metrics_that_exist(deploy):
    """Every query of dashboard and alerts parses, and asks for metrics that the service, Triton or Prometheus has."""
    metrics = Metrics()
    metrics.watch_queue(dict, limit=1)
    known = metrics.names() | TRITON | OF_PROMETHEUS
    for where, expression in queries(deploy):
        asked = metrics_of(expression)
        assert asked, where
        assert asked <= known, where


def test_every_metric_is_looked_at(deploy):
    """What the service counts of its own is on the dashboard or in an alert, build and single buckets aside."""
    asked = {name for _, expression in queries(deploy) for name in metrics_of(expression)}
    of_histograms = re.compile(r"_(?:bucket|sum|count)$")
    looked_at = {of_histograms.sub("", name) for name in asked}
    metrics = Metrics()
    metrics.watch_queue(dict, limit=1)
    own = {of_histograms.sub("", name) for name in metrics.names() if name.startswith("tocsin_")}
    assert own - looked_at == {"tocsin_build", "tocsin_requests_in_progress", "tocsin_received_bytes_total"}


def test_dashboard_is_whole(deploy):
    """Panels have ids of their own, do not overlap, and use the data source that is provisioned."""
    board = json.loads((deploy / "grafana/tocsin.json").read_text(encoding="utf-8"))
    source = yaml.safe_load((deploy / "grafana/datasource.yml").read_text(encoding="utf-8"))["datasources"][0]["uid"]
    taken = set()
    for panel in board["panels"]:
        assert {panel["datasource"]["uid"], *(each["datasource"]["uid"] for each in panel["targets"])} == {source}
        place = panel["gridPos"]
        rows = range(place["y"], place["y"] + place["h"])
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in rows}
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@pytest.mark.triton
def test_triton_counts_what_is_asked_for(triton_server):
    """A real server has the metrics that the dashboard asks it for."""
    import urllib.request

    triton_server.open("identity").close()
    with urllib.request.urlopen(f"http://127.0.0.1:{triton_server.metrics}/metrics", timeout=30) as response:
        text = response.read().decode()
    assert {name for name in TRITON if f"\n{name}{{" in text} == TRITON
