import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra train")

from export import commands, flood, model
from export.parity import ParityChips
from tocsin.cli.registry import as_command
from tocsin.errors import ModelInvalidError, ProductExistsError, UsageError
from tocsin.manifest import Manifest, Parity
from tocsin.repository import load_model


@pytest.fixture(autouse=True)
def _quick(monkeypatch, tiny_graph):
    def chips(data):
        yield ParityChips("real, one" if data else "simulated", {"s1": np.full((1, 2, 32, 32), -12.0, np.float32)})

    monkeypatch.setattr(flood, "chips", chips)
    # Tracing takes seconds and has tests of its own; graph alone traces for real.
    monkeypatch.setattr(model, "to_onnx", lambda *_: tiny_graph)
    monkeypatch.delenv("TOCSIN_DATA", raising=False)


def run(*arguments):
    """Run `tocsin export ARGUMENTS` as the command line does, errors raised."""
    command = as_command(commands.app, "export")
    with command.make_context("export", [str(each) for each in arguments]) as context:
        command.invoke(context)


def test_exports_a_model_and_prints_its_parity(tiny_checkpoint, tmp_path, capsys) -> None:
    """The table, the limits and where the model is go to stdout; without real chips it says so."""
    run("model", tiny_checkpoint, "--precision", "fp32", "--model-repository", tmp_path)

    printed = capsys.readouterr().out
    assert str(tmp_path / "flood") in printed
    assert load_model("flood", tmp_path).sha256 in printed
    assert "simulated" in printed
    assert "limit 0.0001" in printed
    assert "set TOCSIN_DATA" in printed


def test_json_is_the_manifest(tiny_checkpoint, tmp_path, capsys, monkeypatch) -> None:
    """With --json stdout is the manifest and nothing else."""
    monkeypatch.setenv("TOCSIN_DATA", str(tmp_path))
    run("model", tiny_checkpoint, "--precision", "fp32", "--model-repository", tmp_path / "models", "--json")

    manifest = Manifest.model_validate_json(capsys.readouterr().out)
    assert manifest == load_model("flood", tmp_path / "models").manifest
    assert manifest.artifacts[0].parity.rows[0].case == "real, one"


def test_writes_where_scoring_reads(tiny_checkpoint, tmp_path, monkeypatch) -> None:
    """Without the option, TOCSIN_MODEL_REPOSITORY names the repository, and a folder that is missing is made."""
    monkeypatch.setenv("TOCSIN_MODEL_REPOSITORY", str(tmp_path / "new"))
    run("model", tiny_checkpoint, "--precision", "fp32")
    assert load_model("flood").folder == tmp_path / "new" / "flood"


def test_an_existing_model_needs_overwrite(tiny_checkpoint, tiny_repository) -> None:
    """An existing model is replaced only when the user says so."""
    with pytest.raises(ProductExistsError, match="--overwrite"):
        run("model", tiny_checkpoint, "--precision", "fp32", "--model-repository", tiny_repository)
    run("model", tiny_checkpoint, "--precision", "fp32", "--model-repository", tiny_repository, "--overwrite")
    assert load_model("flood", tiny_repository).manifest.artifacts[0].parity.rows[0].case == "simulated"


def test_graph_alone(tiny_checkpoint, tiny_graph, tmp_path, capsys) -> None:
    """The first step alone writes the same graph, keeps what exists, and leaves no working file."""
    out = tmp_path / "deep" / "flood.onnx"
    run("graph", tiny_checkpoint, "-o", out, "--json")

    assert out.read_bytes() == tiny_graph
    assert json.loads(capsys.readouterr().out) == {"graph": str(out), "bytes": len(tiny_graph)}
    assert list(out.parent.iterdir()) == [out]
    with pytest.raises(ProductExistsError, match="exists"):
        run("graph", tiny_checkpoint, "-o", out)
    run("graph", tiny_checkpoint, "-o", out, "--overwrite")


def test_parity_alone(tiny_checkpoint, tiny_repository, capsys) -> None:
    """The second step alone compares any graph with its checkpoint."""
    graph = tiny_repository / "flood/1/model.onnx"
    run("parity", tiny_checkpoint, graph, "--json")
    assert Parity.model_validate_json(capsys.readouterr().out).max_difference <= 1e-4

    run("parity", tiny_checkpoint, graph)
    assert "against torch" in capsys.readouterr().out


def test_parity_refuses_what_is_no_graph(tiny_checkpoint, tmp_path) -> None:
    """A missing file and a file that is no graph are both an invalid model."""
    with pytest.raises(ModelInvalidError, match="no file"):
        run("parity", tiny_checkpoint, tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(ModelInvalidError, match="ONNX"):
        run("parity", tiny_checkpoint, tmp_path / "text.onnx")


def test_a_data_folder_that_is_none_is_refused(tmp_path, monkeypatch) -> None:
    """A mistyped TOCSIN_DATA is refused, not taken for no data."""
    assert commands.data_folder() is None
    monkeypatch.setenv("TOCSIN_DATA", str(tmp_path))
    assert commands.data_folder() == tmp_path
    monkeypatch.setenv("TOCSIN_DATA", str(tmp_path / "missing"))
    with pytest.raises(UsageError, match="TOCSIN_DATA"):
        commands.data_folder()


def test_the_table_shows_what_is_wrong(passing_parity) -> None:
    """A case whose NaN moved stands out in the table."""
    moved = passing_parity.rows[0].model_copy(update={"same_nan": False, "case": "holes"})
    lines = commands.parity_table(
        passing_parity.model_copy(update={"rows": (*passing_parity.rows, moved)})
    ).splitlines()
    assert lines[1].endswith("same")
    assert lines[2].startswith("holes")
    assert lines[2].endswith("MOVED")
