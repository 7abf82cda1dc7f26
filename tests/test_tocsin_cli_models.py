"""`tocsin models` shows what the manifests say."""

import json
from pathlib import Path

import pytest

from tocsin.cli import main
from tocsin.cli.output import table
from tocsin.repository import read_manifest


def test_list_as_json(tiny_repository: Path, capsys: pytest.CaptureFixture[str]):
    """Every model is listed with version, precisions and metrics beside their baselines."""
    assert main(["models", "--model-repository", str(tiny_repository), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["repository"] == str(tiny_repository)
    (model,) = found["models"]
    assert (model["name"], model["version"], model["precisions"]) == ("flood", "1.2.3", ["fp32"])
    assert {"value", "baseline_value", "baseline_name"} <= set(model["metrics"][0])


def test_list_as_text(tiny_repository: Path, capsys: pytest.CaptureFixture[str]):
    """A person sees a table and the folder."""
    assert main(["models", "--model-repository", str(tiny_repository)]) == 0
    said = capsys.readouterr().out
    assert "flood" in said
    assert str(tiny_repository) in said


def test_one_model_is_its_manifest(tiny_repository: Path, capsys: pytest.CaptureFixture[str]):
    """`tocsin models NAME --json` prints the whole manifest."""
    assert main(["models", "flood", "--model-repository", str(tiny_repository), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == read_manifest("flood", tiny_repository).model_dump(mode="json")


def test_one_model_as_text(tiny_repository: Path, capsys: pytest.CaptureFixture[str]):
    """A person sees bands, units, threshold, licence and metrics."""
    assert main(["models", "flood", "--model-repository", str(tiny_repository)]) == 0
    said = capsys.readouterr().out
    for word in ("VV, VH", "dB", "threshold", "Otsu on VH", "licence"):
        assert word in said


def test_unknown_model(tiny_repository: Path, capsys: pytest.CaptureFixture[str]):
    """A name that is not there exits 4 and lists the names that are."""
    assert main(["models", "fire", "--model-repository", str(tiny_repository), "--json"]) == 4
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "model_unknown"
    assert "flood" in error["expected"]


def test_empty_repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """An empty folder is an empty list, not an error."""
    assert main(["models", "--model-repository", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"] == []


def test_columns_line_up():
    """Columns are as wide as their widest cell, two blanks apart, without blanks at the end."""
    assert table(("A", "B"), [("1", "22"), ("333", "")]) == "A    B\n1    22\n333"
