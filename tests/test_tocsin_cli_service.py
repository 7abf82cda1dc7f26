"""`tocsin flood|landslide|volcano --service`: the same command, scored elsewhere."""

import functools
import json

import httpx
import pytest
from client_stand_ins import CONTENT, URL, names, problem

from tocsin import client
from tocsin.cli import main


@pytest.fixture
def tocsin(written_service, monkeypatch, capsys, tmp_path):
    """Return what runs the command against a service, and gives exit code and object."""
    away = functools.partial(client.Client, transport=httpx.MockTransport(written_service))
    monkeypatch.setattr(client, "Client", away)
    monkeypatch.setenv("TOCSIN_TOKEN", "secret")

    def run(*arguments):
        code = main([*map(str, arguments), "-o", str(tmp_path / "out"), "--service", URL, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


def test_products_are_fetched(tocsin, written_service, sent_scene, tmp_path):
    """The command sends the scene with the token, writes the products into --out, and prints the result as ever."""
    code, said = tocsin("flood", sent_scene, "--threshold", "0.4", "--units", "linear")
    assert code == 0
    assert said["products"]["class"] == str(tmp_path / "out/scene_class.tif")
    assert names(tmp_path / "out") == sorted(CONTENT)
    sent = written_service.requests[0]
    assert sent.headers["authorization"] == "Bearer secret"
    for name, value in (("threshold", "0.4"), ("units", "linear")):
        assert f'name="{name}"\r\n\r\n{value}\r\n'.encode() in sent.content
    assert b'name="quiet"' not in sent.content
    assert b'name="overwrite"' not in sent.content


def test_every_acquisition_is_sent(tocsin, written_service, sent_scene, tmp_path):
    """Options that repeat are files that repeat."""
    other = tmp_path / "earlier.tif"
    other.write_bytes(b"earlier")
    assert tocsin("landslide", "--pre", other, "--post", sent_scene)[0] == 0
    assert written_service.requests[0].url.path.endswith("/v1/landslide")
    assert written_service.requests[0].content.count(b'name="pre"; filename="earlier.tif"') == 1


def test_plan_is_the_services(tocsin, written_service, sent_scene, tmp_path):
    """--dry-run asks the service what it would cost, and writes nothing."""
    assert tocsin("volcano", sent_scene, "--dry-run", "--wrapped")[0] == 0
    assert written_service.requests[0].url.path.endswith("/v1/volcano:plan")
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize("option", ["--device", "--runtime", "--precision", "--threads", "--model-repository"])
def test_operators_options_are_refused(option, tocsin, written_service, sent_scene):
    """What runs, and where, is the operator's choice: the option is refused, never ignored."""
    value = {"--device": "cpu", "--runtime": "onnx", "--precision": "fp32", "--threads": "1"}.get(option, ".")
    code, said = tocsin("flood", sent_scene, option, value)
    assert (code, said["error"]["code"]) == (2, "usage")
    assert option in said["error"]["given"]
    assert written_service.requests == []


@pytest.mark.parametrize(
    ("status", "code", "exit_code"), [(422, "wrong_units", 3), (401, "unauthorized", 2), (507, "storage_full", 5)]
)
def test_exit_code_is_that_of_the_code(status, code, exit_code, tocsin, written_service, sent_scene):
    """What the service refuses ends with the exit code that the same error has here."""
    written_service.script = [problem(code, status)]
    assert tocsin("flood", sent_scene)[0] == exit_code
