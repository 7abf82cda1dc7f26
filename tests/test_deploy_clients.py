"""Every example of docs/service_clients.md runs, against a real service and a real Triton server."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from service_stand_ins import listening, settings_of

TOKEN = "token-of-the-examples"
FENCE = re.compile(r"^```(\w+)( triton)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples(root: Path, language: str, *, of_triton: bool) -> list[str]:
    """Return the examples of a language."""
    page = (root / "docs/service_clients.md").read_text(encoding="utf-8")
    return [text for name, triton, text in FENCE.findall(page) if name == language and bool(triton) is of_triton]


def run_bash(script: str, folder: Path, **environment: str) -> str:
    """Run an example as a user would, and return what it printed."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],  # noqa: S607 - the shell of the examples
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def address(tmp_path_factory, small_models):
    """Return the address of a service that asks for a token."""
    pytest.importorskip("bentoml", reason="needs the extra serve")
    from serving.app import create_app

    settings = settings_of(tmp_path_factory.mktemp("documented"), small_models, tokens=(TOKEN,))
    with listening(create_app(settings)) as where:
        yield where


@pytest.fixture
def folder(tmp_path, chip_bytes, monkeypatch):
    """Return a working folder with a scene, as the examples have it."""
    (tmp_path / "scene.tif").write_bytes(chip_bytes)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_python_examples_run(root, address, folder, capsys):
    """The synchronous and the asynchronous client score the scene, wait for jobs, and meet a refusal."""
    written = examples(root, "python", of_triton=False)
    assert len(written) == 2
    for text in written:
        exec(compile(text, "example", "exec"), {"service": address, "token": TOKEN})  # noqa: S102 - our own page
    printed = capsys.readouterr().out
    assert "100%" in printed
    assert "['ok', 'ok']" in printed
    assert (folder / "products/scene_class.tif").is_file()
    assert (folder / "products-of-the-job/scene_class.tif").is_file()


def test_curl_examples_run(root, address, folder):
    """Requests of curl score the scene, follow a job to its end, plan it, and meet a problem with its code."""
    written = examples(root, "bash", of_triton=False)
    assert len(written) == 3
    first, job, rest = (run_bash(text, folder, TOCSIN_SERVICE=address, TOCSIN_TOKEN=TOKEN) for text in written)
    assert first == ""
    assert (folder / "scene_class.tif").read_bytes()[:2] == b"II"
    assert job == "done\n"
    assert '"windows"' in rest
    assert '"code":"usage"' in rest


@pytest.mark.triton
def test_kserve_examples_run(root, triton_server, folder, capsys):
    """Tensors go to a real Triton server by curl, over gRPC and over HTTP, and come back as the page says."""
    where = {"TRITON_HTTP": f"127.0.0.1:{triton_server.http}", "TRITON_GRPC": f"127.0.0.1:{triton_server.grpc}"}
    looked, asked = (run_bash(text, folder, **where) for text in examples(root, "bash", of_triton=True))
    assert triton_server.model("flood").sha256 in looked
    assert '"name":"water"' in asked
    for text in examples(root, "python", of_triton=True):
        names = {"triton_http": where["TRITON_HTTP"], "triton_grpc": where["TRITON_GRPC"]}
        exec(compile(text, "example", "exec"), names)  # noqa: S102 - our own page
    assert len(capsys.readouterr().out.splitlines()) == 2
