"""The doctor says what works, what does not, and what to do."""

import json
from pathlib import Path

import pytest

from tocsin.cli import main
from tocsin.cli.config import VARIABLES
from tocsin.diagnosis import Check, Diagnosis, diagnose


def by_name(diagnosis: Diagnosis) -> dict[str, Check]:
    """Return the checks by name."""
    return {check.name: check for check in diagnosis.checks}


def test_healthy_environment(tiny_repository: Path):
    """With a whole model and a runtime, every required check is ok and the exit code is 0."""
    diagnosis = diagnose(tiny_repository, VARIABLES)
    assert diagnosis.ok
    assert diagnosis.exit_code == 0
    checks = by_name(diagnosis)
    assert "GDAL" in checks["gdal"].found
    assert "every hash right" in checks["model flood"].found
    assert "ran a chip of flood on cpu" in checks["runtime onnx on cpu"].found


def test_every_shipped_model_runs():
    """The doctor runs each graph of the package, not one for all of them."""
    found = by_name(diagnose(None, VARIABLES))["runtime onnx on cpu"].found
    assert "flood, landslide, volcano" in found


def test_damaged_model_is_found(tiny_repository: Path):
    """One changed byte of a graph makes the doctor exit 4."""
    graph = tiny_repository / "flood/1/model.onnx"
    content = bytearray(graph.read_bytes())
    content[-1] ^= 1
    graph.write_bytes(content)
    diagnosis = diagnose(tiny_repository, VARIABLES)
    assert not diagnosis.ok
    assert diagnosis.exit_code == 4
    assert not by_name(diagnosis)["model flood"].ok


def test_empty_repository_is_found(tmp_path: Path):
    """A repository without a model makes the doctor exit 4 and say what to give."""
    diagnosis = diagnose(tmp_path, VARIABLES)
    assert diagnosis.exit_code == 4
    assert "--model-repository" in by_name(diagnosis)["models"].todo


def test_missing_repository_is_found(tmp_path: Path):
    """A repository that does not exist is a failed check, not a failure of the doctor."""
    assert diagnose(tmp_path / "nowhere", VARIABLES).exit_code == 4


def test_missing_device_does_not_stop_scoring(tiny_repository: Path):
    """No card is a note, since scoring works without one."""
    check = by_name(diagnose(tiny_repository, VARIABLES))["runtime onnx on cuda"]
    assert not check.required


def test_variables_are_shown_and_tokens_are_not(tiny_repository: Path, monkeypatch: pytest.MonkeyPatch):
    """Variables in force are listed, tokens without their value, a misspelt name as unknown."""
    monkeypatch.setenv("TOCSIN_DEVICE", "cpu")
    monkeypatch.setenv("TOCSIN_TOKENS", "secret-1,secret-2")
    monkeypatch.setenv("TOCSIN_DEVCE", "cuda")
    diagnosis = diagnose(tiny_repository, VARIABLES)
    checks = by_name(diagnosis)
    assert checks["TOCSIN_DEVICE"].found == "cpu"
    assert "secret" not in diagnosis.model_dump_json()
    assert not checks["TOCSIN_DEVCE"].ok
    assert diagnosis.ok


def test_command_prints_one_object(tiny_repository: Path, capsys: pytest.CaptureFixture[str]):
    """`tocsin doctor --json` prints the diagnosis and exits with its code."""
    assert main(["doctor", "--model-repository", str(tiny_repository), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_command_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """In text a failed check is marked, and what to do stands below."""
    assert main(["doctor", "--model-repository", str(tmp_path)]) == 4
    said = capsys.readouterr().out
    assert "FAIL" in said
    assert "scoring does not work here" in said
