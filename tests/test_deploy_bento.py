"""The bento, built as `make bento` builds it, taken somewhere else, and served from its own folder."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import httpx
import pytest

pytest.importorskip("bentoml", reason="needs the extra serve")
pytestmark = pytest.mark.slow

PATIENCE_S = 240
"""How long a loaded machine may take until the service is ready."""


@pytest.fixture(scope="module")
def bento(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a bento and return its folder."""
    out = tmp_path_factory.mktemp("bento") / "taken"
    command = [sys.executable, str(root / "deploy/build_bento.py"), "--out", str(out)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}
    done = subprocess.run(command, cwd=out.parent, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == str(out)
    return out


def test_bento_holds_wheel_models_and_pins(bento: Path, root: Path):
    """The bento carries the wheel with every model in it, and one pin of constraints.txt for each package."""
    (wheel,) = (bento / "src/wheels").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    models = {path.relative_to(root).as_posix() for path in (root / "model_repository").rglob("*") if path.is_file()}
    assert models <= names
    pins = set((root / "constraints.txt").read_text(encoding="utf-8").splitlines())
    lines = (bento / "src/requirements.txt").read_text().splitlines()
    assert lines[0] == f"./wheels/{wheel.name}"
    assert set(lines[1:]) <= pins
    wanted = {line.split("==")[0] for line in lines[1:]}
    assert {"bentoml", "onnxruntime", "starlette", "prometheus-client", "rasterio"} <= wanted
    assert not {"torch", "pytest", "nvidia-pytriton"} & wanted
    on_gpu = (bento / "src/requirements-gpu.txt").read_text().splitlines()
    changed = set(on_gpu) ^ set(lines)
    assert {line.split("==")[0] for line in changed} == {"onnxruntime", "onnxruntime-gpu"}


def test_bento_can_become_an_image(bento: Path):
    """The Dockerfile that BentoML makes of it copies the wheel before it is installed, and ours find their files."""
    generated = (bento / "env/docker/Dockerfile").read_text()
    assert generated.index("./src/wheels") < generated.index("pip install -r")
    assert "./wheels/tocsin-" in (bento / "env/python/requirements.txt").read_text()
    for name in ("src/wheels", "src/requirements.txt", "src/requirements-gpu.txt"):
        assert (bento / name).exists()


def test_bento_scores_a_scene_from_its_own_folder(bento: Path, tmp_path: Path, chip_bytes: bytes):
    """The unpacked bento, with the code and models of its own wheel, is ready and scores a scene."""
    site = tmp_path / "site"
    (wheel,) = (bento / "src/wheels").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}
    # What stands in PYTHONPATH wins over the checkout, which this environment has installed too.
    clean |= {"PYTHONPATH": str(site), "BENTOML_HOME": str(tmp_path / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    clean |= {"TOCSIN_STATE": str(tmp_path / "state"), "TOCSIN_THREADS": "1"}
    where = [
        sys.executable,
        "-c",
        "import serving, tocsin.repository as r; print(serving.__file__, r.find_repository())",
    ]
    found = subprocess.run(where, env=clean, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    assert [Path(path).is_relative_to(site) for path in found] == [True, True]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "bentoml", "serve", str(bento), "--host", "127.0.0.1", "--port", str(port)]
    log = (tmp_path / "log").open("w+")
    process = subprocess.Popen(command, env=clean, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until_ready(process, address, tmp_path / "log")
        answer = httpx.post(f"{address}/v1/flood", files={"post": ("chip.tif", chip_bytes)}, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        assert answer.json()["provenance"]["model"] == "flood"
        assert httpx.get(address + answer.json()["products"]["class"]).content[:2] == b"II"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            log.close()


def wait_until_ready(process: subprocess.Popen, address: str, log: Path) -> None:
    """Wait until a chip was judged."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{address}/readyz", timeout=PATIENCE_S).status_code == 200:
                return
        time.sleep(0.2)
    raise AssertionError(log.read_text())
