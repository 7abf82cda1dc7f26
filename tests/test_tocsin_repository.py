import hashlib
import json
import shutil
from pathlib import Path

import pytest

from tocsin.errors import ModelInvalidError, ModelUnknownError
from tocsin.manifest import Manifest
from tocsin.repository import (
    ENVIRONMENT,
    MANIFEST,
    MANIFEST_BYTES,
    find_repository,
    list_models,
    load_model,
    read_manifest,
    verify_model,
)


def rewrite(repository: Path, **changes) -> None:
    """Replace top-level keys of the model's manifest on disk."""
    path = repository / "flood" / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_loads_a_model_with_its_hashes_checked(tiny_repository, tiny_graph) -> None:
    """A model comes with its manifest, its graph's absolute path and its identity."""
    model = load_model("flood", tiny_repository)

    assert model.path == (tiny_repository / "flood/1/model.onnx").resolve()
    assert model.path.is_absolute()
    assert model.path.read_bytes() == tiny_graph
    assert model.sha256 == hashlib.sha256(tiny_graph).hexdigest()
    assert model.artifact.precision == "fp32"
    assert model.manifest == read_manifest("flood", tiny_repository) == verify_model("flood", tiny_repository)


def test_an_explicit_path_goes_before_the_environment(tmp_path, monkeypatch) -> None:
    """The flag wins over TOCSIN_MODEL_REPOSITORY, which wins over the folder that is shipped."""
    flag, environment = tmp_path / "flag", tmp_path / "environment"
    flag.mkdir()
    environment.mkdir()
    shipped = Path(__file__).parents[1] / "model_repository"

    assert find_repository() == shipped.resolve()
    monkeypatch.setenv(ENVIRONMENT, str(environment))
    assert find_repository() == environment
    assert find_repository(flag) == flag
    assert find_repository(str(flag)) == flag


def test_an_empty_environment_variable_is_not_set(monkeypatch) -> None:
    """TOCSIN_MODEL_REPOSITORY= means the folder that is shipped, not the working directory."""
    monkeypatch.setenv(ENVIRONMENT, "")
    assert find_repository().name == "model_repository"


def test_is_found_from_any_working_directory(tiny_repository, tmp_path, monkeypatch) -> None:
    """The shipped folder does not depend on where one stands; a relative path is taken from there."""
    before = find_repository()
    monkeypatch.chdir(tmp_path)
    assert find_repository() == before
    assert load_model("flood", tiny_repository.name).folder == (tiny_repository / "flood").resolve()


@pytest.mark.parametrize("how", ["flag", "environment"])
def test_a_repository_that_is_none_says_where_it_was_named(tmp_path, monkeypatch, how) -> None:
    """A folder that does not exist is refused with the option or variable that named it."""
    missing = tmp_path / "missing"
    monkeypatch.setenv(ENVIRONMENT, str(missing))
    with pytest.raises(ModelUnknownError, match=str(missing)) as refused:
        find_repository(missing if how == "flag" else None)
    assert ("--model-repository" if how == "flag" else ENVIRONMENT) in refused.value.given


def test_lists_what_is_a_model(tiny_repository) -> None:
    """Only folders with a manifest are models; what export writes aside is none."""
    shutil.copytree(tiny_repository / "flood", tiny_repository / ".tocsin-1234.part")
    (tiny_repository / "empty").mkdir()
    (tiny_repository / "README.md").write_text("no model")
    assert list_models(tiny_repository) == ("flood",)


@pytest.mark.parametrize("name", ["landslide", "", ".", "..", "../models/flood", "flood/1", "/"])
def test_an_unknown_model_lists_those_that_exist(tiny_repository, name) -> None:
    """A name that is none of the models, paths included, is refused with the names that are."""
    with pytest.raises(ModelUnknownError) as refused:
        load_model(name, tiny_repository)
    assert "flood" in refused.value.expected


def test_an_empty_repository_says_so(tmp_path) -> None:
    """Where there is no model at all, the message does not list nothing."""
    with pytest.raises(ModelUnknownError, match="at least one model"):
        load_model("flood", tmp_path)


def test_an_unknown_precision_lists_those_that_exist(tiny_repository) -> None:
    """A precision that was never exported is refused with those that were."""
    with pytest.raises(ModelUnknownError, match="int8") as refused:
        load_model("flood", tiny_repository, precision="int8")
    assert "fp32" in refused.value.expected


@pytest.mark.parametrize("name", ["1/model.onnx", "config.pbtxt"])
@pytest.mark.parametrize("change", ["one bit", "longer", "missing", "a folder"])
def test_a_file_that_is_not_the_manifests_is_refused(tiny_repository, name, change) -> None:
    """One flipped bit, one byte more, a missing file or a folder in its place: refused, and the file named."""
    path = tiny_repository / "flood" / name
    content = bytearray(path.read_bytes())
    if change == "one bit":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif change == "longer":
        path.write_bytes(content + b"\n")
    else:
        path.unlink()
    if change == "a folder":
        path.mkdir()
    for load in (load_model, verify_model):
        with pytest.raises(ModelInvalidError, match=path.name):
            load("flood", tiny_repository)


def test_other_precisions_are_checked_on_request_only(tiny_repository) -> None:
    """A broken INT8 file does not stop FP32, but verification finds it."""
    manifest = json.loads((tiny_repository / "flood" / MANIFEST).read_text())
    broken = manifest["artifacts"][0] | {"precision": "int8", "path": "1/model.int8.onnx"}
    rewrite(tiny_repository, artifacts=[*manifest["artifacts"], broken])

    assert load_model("flood", tiny_repository).artifact.precision == "fp32"
    with pytest.raises(ModelInvalidError, match=r"model\.int8\.onnx"):
        load_model("flood", tiny_repository, precision="int8")
    with pytest.raises(ModelInvalidError, match=r"model\.int8\.onnx"):
        verify_model("flood", tiny_repository)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"\xff\xfe\x00", "JSON"),
        (b"[]", "object"),
        (b"{}", "Field required"),
        (b" " * (MANIFEST_BYTES + 1), "at most"),
    ],
    ids=["empty", "cut", "no text", "a list", "no facts", "huge"],
)
def test_a_broken_manifest_is_refused(tiny_repository, content, message) -> None:
    """What is no manifest is refused with the first thing that is wrong, never with a traceback of the parser."""
    (tiny_repository / "flood" / MANIFEST).write_bytes(content)
    with pytest.raises(ModelInvalidError, match=message):
        load_model("flood", tiny_repository)


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"threshold": 2}, "threshold"), ({"invented": 1}, "invented"), ({"version": "one"}, "version")],
)
def test_a_manifest_of_another_schema_names_the_field(tiny_repository, changes, named) -> None:
    """A field out of bounds or unknown is named."""
    rewrite(tiny_repository, **changes)
    with pytest.raises(ModelInvalidError, match=named):
        read_manifest("flood", tiny_repository)


def test_a_manifest_of_another_model_is_refused(tiny_repository) -> None:
    """A folder that was renamed by hand does not pass for another model."""
    (tiny_repository / "flood").rename(tiny_repository / "volcano")
    with pytest.raises(ModelInvalidError, match="flood"):
        load_model("volcano", tiny_repository)


def test_a_manifest_that_points_outside_is_refused(tiny_repository, tmp_path) -> None:
    """A manifest cannot make tocsin read a file outside its folder."""
    (tmp_path / "secret").write_bytes(b"x")
    manifest = json.loads((tiny_repository / "flood" / MANIFEST).read_text())
    manifest["artifacts"][0]["path"] = "../../secret"
    rewrite(tiny_repository, artifacts=manifest["artifacts"])
    with pytest.raises(ModelInvalidError, match="plain path"):
        load_model("flood", tiny_repository)


def test_every_shipped_model_is_whole() -> None:
    """Each model of the checkout loads, and every file that its manifest lists is the one it was written for."""
    for name in list_models():
        manifest = verify_model(name)
        assert isinstance(manifest, Manifest)
        listed = {row.path for row in (*manifest.artifacts, *manifest.files)} | {MANIFEST}
        folder = find_repository() / name
        assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == listed
