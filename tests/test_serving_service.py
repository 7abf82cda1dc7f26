"""The real service: `tocsin serve` with BentoML, real requests, and nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

httpx = pytest.importorskip("httpx", reason="needs the extra client")
pytest.importorskip("bentoml", reason="needs the extra serve")

from service_stand_ins import ENDS_WITHIN_S  # noqa: E402
from triton_stand_ins import TOCSIN, free_ports  # noqa: E402

from serving.settings import ServiceSettings  # noqa: E402
from serving.start import listening_address  # noqa: E402
from tocsin.errors import UsageError  # noqa: E402

LONG_S = 4 * ENDS_WITHIN_S
"""How long a loaded machine may take for what takes ten seconds on a quiet one."""


def environment(state, **named):
    """Return the environment of a service: ours, without our settings."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("TOCSIN_", "BENTOML_"))}
    patience = {"TOCSIN_INSPECT_TIMEOUT_S": str(LONG_S), "TOCSIN_SYNC_WAIT_S": str(LONG_S)}
    return {**own, **patience, "TOCSIN_STATE": str(state), **named}


def processes_of(state):
    """Return every process that was started with this state folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"TOCSIN_STATE={state}\0".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@contextmanager
def started(state, *options, command=(*TOCSIN, "serve"), **named):
    """Start a service on a free port, and lend its address and process; afterwards nothing of it is left."""
    (port,) = free_ports(1)
    log = state / "serve.log"
    state.mkdir(parents=True)
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, "--port", str(port), *options], env=environment(state, **named), stdout=out, stderr=out
        )
    try:
        address, until = f"http://127.0.0.1:{port}", time.monotonic() + LONG_S
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            try:
                if httpx.get(f"{address}/readyz", timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        yield address, process, log
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(LONG_S)
    gone_within(state, LONG_S)


def gone_within(state, seconds):
    """Assert that no process of a state folder is left after some time."""
    until = time.monotonic() + seconds
    while left := processes_of(state):
        assert time.monotonic() < until, left
        time.sleep(0.05)


def send(address, content, **headers):
    """Post a chip."""
    files = {"post": ("scene.tif", content, "image/tiff")}
    return httpx.post(f"{address}/v1/flood", files=files, headers=headers, timeout=LONG_S)


@pytest.mark.slow
def test_serve_answers_a_chip_and_ends_with_all_that_it_started(tmp_path, small_models, chip_bytes):
    """A chip over real HTTP gets its map; a proxy is refused without a token; SIGTERM leaves no process."""
    with started(tmp_path / "state", TOCSIN_MODEL_REPOSITORY=str(small_models)) as (address, process, log):
        got = send(address, chip_bytes)
        assert (got.status_code, got.json()["status"]) == (200, "ok"), got.text
        product = httpx.get(address + got.json()["products"]["class"], headers={"Range": "bytes=0-3"})
        assert (product.status_code, product.content[:2]) == (206, b"II")
        assert send(address, chip_bytes, **{"X-Forwarded-For": "203.0.113.9"}).status_code == 401
        for path in ("/docs.json", "/healthz", "/"):
            assert httpx.get(address + path).json()["code"] == "not_found"
        assert "only this machine is served" in log.read_text()
        assert len(processes_of(tmp_path / "state")) >= 3
    assert process.returncode == 0


@pytest.mark.slow
def test_bentoml_serves_the_same(tmp_path, small_models, chip_bytes):
    """`bentoml serve` asks for the token of the environment; its end by SIGKILL leaves no process either."""
    command = (sys.executable, "-m", "bentoml", "serve", "serving.service:Tocsin")
    named = {"TOCSIN_MODEL_REPOSITORY": str(small_models), "TOCSIN_TOKENS": "secret-one", "BENTOML_HOME": str(tmp_path)}
    with started(tmp_path / "state", "--host", "127.0.0.1", command=command, **named) as (address, process, _):
        assert send(address, chip_bytes).status_code == 401
        assert send(address, chip_bytes, Authorization="Bearer secret-one").status_code == 200
        process.kill()
        process.wait(LONG_S)
        gone_within(tmp_path / "state", LONG_S)


@pytest.mark.slow
@pytest.mark.triton
def test_serve_over_a_real_triton(tmp_path, triton_server, chip_bytes):
    """With a Triton server behind it a chip is scored, and so is one during which that server is killed."""
    pytest.importorskip("tritonclient.grpc", reason="needs the extra triton")
    # The service asks every model that it has: this server also holds models that are there to fail.
    models = tmp_path / "models"
    models.mkdir()
    for name in ("flood", "landslide", "volcano"):
        (models / name).symlink_to(triton_server.repository / name)
    options = ["--runtime", triton_server.url("grpc"), "--model-repository", str(models)]
    with started(tmp_path / "state", *options) as (address, _, _):
        got = send(address, chip_bytes)
        assert got.status_code == 200, got.text
        assert got.json()["provenance"]["runtime"].startswith(("grpc", "triton"))
        taken = send(address, chip_bytes, Prefer="respond-async")
        os.kill(triton_server.server(), signal.SIGKILL)
        assert taken.status_code == 202, taken.text
        until = time.monotonic() + LONG_S
        while (job := httpx.get(f"{address}/v1/jobs/{taken.json()['id']}").json())["state"] in {"queued", "running"}:
            assert time.monotonic() < until, job
            time.sleep(0.2)
        assert job["state"] == "done", job
        assert job["result"]["summary"] == got.json()["summary"]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])  # noqa: S104 - what is refused
def test_nobody_else_is_served_without_a_token(tmp_path, host):
    """Without a token an address that others reach is refused before anything listens."""
    with pytest.raises(UsageError, match="tocsin token new"):
        listening_address(ServiceSettings(state=tmp_path, host=host))


@pytest.mark.parametrize(
    ("named", "expected"),
    [({}, "127.0.0.1"), ({"host": "::1"}, "::1"), ({"tokens": ("x",)}, "0.0.0.0")],  # noqa: S104 - what is expected
)
def test_where_it_listens(tmp_path, named, expected):
    """It is this machine only without a token, every address with one, unless the operator says where."""
    assert listening_address(ServiceSettings(state=tmp_path, **named)) == expected


def test_a_name_is_no_address(tmp_path):
    """A host name is refused with what to give instead."""
    with pytest.raises(UsageError, match="not a name"):
        listening_address(ServiceSettings(state=tmp_path, host="localhost"))


def test_a_wrong_setting_is_told_before_anything_starts(tmp_path):
    """`tocsin serve` ends with 2 and names the variable."""
    done = subprocess.run(
        [*TOCSIN, "serve"],
        env=environment(tmp_path, TOCSIN_QUEUE_LENGTH="0"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "TOCSIN_QUEUE_LENGTH" in done.stderr
