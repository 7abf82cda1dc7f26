import errno
import hashlib
import json
import os

import pytest

from export import repository as repository_module
from export.repository import GraphFile, rewrite_config, write
from tocsin.errors import ProductExistsError, StorageFullError, UsageError
from tocsin.manifest import ModelFacts
from tocsin.repository import MANIFEST, load_model, verify_model


@pytest.fixture
def graph(passing_parity):
    """Return a graph file whose content is no graph: writing does not look inside."""
    return GraphFile("fp32", b"weights", 20, passing_parity)


def contents(folder):
    """Return every file under a folder by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_writes_a_folder_that_loads(tmp_path, model_facts, graph) -> None:
    """Graph, configuration and manifest lie where Triton and tocsin look for them, and nothing else does."""
    manifest = write(tmp_path / "deep" / "models", model_facts, [graph])

    folder = tmp_path / "deep" / "models" / "flood"
    assert set(contents(folder)) == {"config.pbtxt", MANIFEST, "1/model.onnx"}
    assert load_model("flood", folder.parent).path.read_bytes() == b"weights"
    assert verify_model("flood", folder.parent) == manifest
    assert manifest.artifacts[0].sha256 == hashlib.sha256(b"weights").hexdigest()
    assert manifest.artifacts[0].parity == graph.parity
    assert ModelFacts(**{name: getattr(manifest, name) for name in ModelFacts.model_fields}) == model_facts


def test_lists_every_file_with_its_hash(tmp_path, model_facts, graph, passing_parity) -> None:
    """Each file of the folder but the manifest is in the manifest, with its size and sha256."""
    graphs = [graph, GraphFile("int8", b"small", 20, passing_parity)]
    manifest = write(tmp_path, model_facts, graphs)

    files = contents(tmp_path / "flood")
    del files[MANIFEST]
    rows = {row.path: row for row in (*manifest.artifacts, *manifest.files)}
    assert rows.keys() == files.keys() == {"config.pbtxt", "1/model.onnx", "1/model.int8.onnx"}
    for path, content in files.items():
        assert (rows[path].bytes, rows[path].sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_the_configuration_names_the_default_graph(tmp_path, model_facts, passing_parity) -> None:
    """The first graph is the one that a server runs, said by file, precision and hash."""
    graphs = [GraphFile("fp16", b"half", 20, passing_parity), GraphFile("fp32", b"whole", 20, passing_parity)]
    write(tmp_path, model_facts, graphs)
    config = (tmp_path / "flood" / "config.pbtxt").read_text()
    assert 'default_model_filename: "model.fp16.onnx"' in config
    assert 'key: "precision" value { string_value: "fp16" }' in config
    assert hashlib.sha256(b"half").hexdigest() in config


def test_rewrites_a_configuration(tmp_path, model_facts, graph) -> None:
    """An older configuration becomes the one that a new export writes, and the manifest says its hash."""
    write(tmp_path, model_facts, [graph])
    config, manifest = tmp_path / "flood" / "config.pbtxt", tmp_path / "flood" / MANIFEST
    wanted, facts = config.read_bytes(), json.loads(manifest.read_text())
    config.write_bytes(b"old")
    facts["files"] = [{"path": "config.pbtxt", "sha256": hashlib.sha256(b"old").hexdigest(), "bytes": 3}]
    manifest.write_text(json.dumps(facts))

    told = rewrite_config(tmp_path, "flood")

    assert config.read_bytes() == wanted
    assert verify_model("flood", tmp_path) == told
    assert set(contents(tmp_path / "flood")) == {"config.pbtxt", MANIFEST, "1/model.onnx"}


def test_keeps_an_existing_model(tmp_path, model_facts, graph, passing_parity) -> None:
    """Without overwrite the model that is there stays as it is, to the byte."""
    write(tmp_path, model_facts, [graph])
    before = contents(tmp_path)

    with pytest.raises(ProductExistsError, match="flood"):
        write(tmp_path, model_facts, [GraphFile("fp32", b"others", 20, passing_parity)])

    assert contents(tmp_path) == before


def test_overwrite_leaves_nothing_of_the_old_model(tmp_path, model_facts, graph, passing_parity) -> None:
    """A replaced model's other precisions go with it: they were of other weights."""
    write(tmp_path, model_facts, [graph, GraphFile("int8", b"old", 20, passing_parity)])
    write(tmp_path, model_facts, [GraphFile("fp32", b"new", 20, passing_parity)], overwrite=True)

    assert set(contents(tmp_path)) == {"flood/config.pbtxt", f"flood/{MANIFEST}", "flood/1/model.onnx"}
    assert load_model("flood", tmp_path).path.read_bytes() == b"new"


@pytest.mark.parametrize("existed", [True, False])
@pytest.mark.parametrize(("number", "expected"), [(errno.ENOSPC, StorageFullError), (errno.EACCES, UsageError)])
def test_a_failed_write_changes_nothing(tmp_path, model_facts, graph, monkeypatch, existed, number, expected) -> None:
    """When the folder cannot be put in place, what was there is there, and nothing lies beside it."""
    if existed:
        write(tmp_path, model_facts, [graph])
    before = contents(tmp_path)
    rename = repository_module.Path.replace

    def refuses(self, target):
        if self.name.endswith(".part"):
            raise OSError(number, os.strerror(number))
        return rename(self, target)

    monkeypatch.setattr(repository_module.Path, "replace", refuses)
    with pytest.raises(expected, match=os.strerror(number)):
        write(tmp_path, model_facts, [graph], overwrite=True)

    assert contents(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == (["flood"] if existed else [])


def test_the_same_model_is_the_same_bytes(tmp_path, model_facts, graph) -> None:
    """No time, path or random name is in any file."""
    write(tmp_path / "a", model_facts, [graph])
    write(tmp_path / "b", model_facts, [graph])
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert str(tmp_path).encode() not in b"".join(contents(tmp_path / "a").values())


def test_the_manifest_is_readable_text(tmp_path, model_facts, graph) -> None:
    """A person reads it: indented, one key a line, names before figures."""
    write(tmp_path, model_facts, [graph])
    text = (tmp_path / "flood" / MANIFEST).read_text(encoding="utf-8")
    assert text.startswith('{\n  "name": "flood",\n  "hazard": "flood",\n')
    assert json.loads(text)["metrics"][0]["baseline_name"] == "Otsu on VH"
