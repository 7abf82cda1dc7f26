"""The repository of a server with a GPU: parsed as Triton parses it, read as tocsin reads it."""

import errno
import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("torch", reason="needs the extra train")

from export import commands, production
from export.production import ProductionOptions, attribution, licence_text, write_production
from tocsin.cli import registry
from tocsin.cli.registry import as_command
from tocsin.errors import ModelUnknownError, ProductExistsError, StorageFullError, UsageError
from tocsin.repository import list_models, load_model, read_manifest, verify_model


@pytest.fixture
def parse():
    """Return a function that parses config.pbtxt as Triton does."""
    model_config_pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="needs the extra triton")
    from google.protobuf import text_format

    return lambda path: text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


def run(*arguments):
    """Run `tocsin export ARGUMENTS` as the command line does, errors raised."""
    command = as_command(commands.app, "export")
    with command.make_context("export", [str(each) for each in arguments]) as context:
        command.invoke(context)


def written(folder):
    """Return every file under a folder by its relative path."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_onnxruntime_repository(convolving_models, tmp_path, parse) -> None:
    """Graphs on CUDA with TensorRT in front, shapes of one to eight chips, types as the graph has them."""
    out = tmp_path / "production"
    write_production(convolving_models, out, ProductionOptions(target="onnxruntime"), overwrite=False)

    assert written(out) == {
        "LICENSE",
        "ATTRIBUTION.txt",
        "flood/config.pbtxt",
        "flood/manifest.json",
        "flood/1/model.onnx",
        "flood/1/model.fp16.onnx",
    }
    config = parse(out / "flood/config.pbtxt")
    assert (config.backend, config.default_model_filename) == ("onnxruntime", "model.fp16.onnx")
    first, second = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert (first.name, second.name) == ("tensorrt", "cuda")
    assert first.parameters["precision_mode"] == "FP32"
    assert first.parameters["trt_engine_cache_path"] == "/var/cache/tocsin/flood"
    shapes = [first.parameters[f"trt_profile_{which}_shapes"] for which in ("min", "opt", "max")]
    assert shapes == ["s1:1x2x32x32", "s1:4x2x64x64", "s1:8x2x64x64"]
    assert dict(second.parameters) == {"use_tf32": "0"}


def test_what_a_client_checks_is_there(convolving_models, tmp_path, parse) -> None:
    """Precision and hash of the graph are in the configuration; it runs on the GPU, with queue and warm-up."""
    out = tmp_path / "production"
    options = ProductionOptions(target="onnxruntime", precision="fp32", instances=2)
    write_production(convolving_models, out, options, overwrite=False)
    config = parse(out / "flood/config.pbtxt")
    graph = load_model("flood", convolving_models).sha256
    assert {key: each.string_value for key, each in config.parameters.items()} == {
        "precision": "fp32",
        "graph_sha256": graph,
    }
    [group] = config.instance_group
    assert (group.count, group.kind) == (2, group.KIND_GPU)
    assert config.max_batch_size == 8
    assert config.dynamic_batching.default_queue_policy.max_queue_size > 0
    assert config.model_warmup[0].inputs["s1"].dims == [2, 64, 64]


def test_tocsin_reads_it(convolving_models, tmp_path) -> None:
    """The manifest's hashes are those of the new files, so that the folder is a model repository like any other."""
    out = tmp_path / "production"
    [manifest] = write_production(convolving_models, out, ProductionOptions(target="onnxruntime"), overwrite=False)
    assert verify_model("flood", out) == manifest
    assert load_model("flood", out, "fp16").sha256 == load_model("flood", convolving_models, "fp16").sha256


def test_plans_of_several_cards(convolving_models, tmp_path, parse, fake_engine) -> None:
    """Each card's plan lies beside the graphs under the name that its compute capability leads to."""
    small = {"name": "s1", "smallest": (1, 2, 32, 32), "usual": (2, 2, 64, 64), "largest": (4, 2, 64, 64)}
    fake_engine(capabilities=("9.0",), plan=b"hopper", profile=(small,))
    fake_engine(capabilities=("8.9",), plan=b"ada, small", profile=(small,))
    fake_engine(capabilities=("8.9",), plan=b"ada")
    fake_engine(flavour="rtx", plan=b"for laptops")
    out = tmp_path / "production"
    options = ProductionOptions(target="tensorrt", engines=tmp_path / "engines")
    [manifest] = write_production(convolving_models, out, options, overwrite=False)

    config = parse(out / "flood/config.pbtxt")
    assert config.platform == "tensorrt_plan"
    assert dict(config.cc_model_filenames) == {"8.9": "model-8.9.plan", "9.0": "model-9.0.plan"}
    assert config.default_model_filename == ""
    assert (out / "flood/1/model-8.9.plan").read_bytes() == b"ada"
    assert (out / "flood/1/model-9.0.plan").read_bytes() == b"hopper"
    assert config.max_batch_size == 4
    assert verify_model("flood", out) == manifest
    assert config.parameters["graph_sha256"].string_value == load_model("flood", out, "fp16").sha256


def test_one_plan_for_all_from_ampere_on(convolving_models, tmp_path, parse, fake_engine) -> None:
    """A plan that other cards may load is what they find when they have none of their own."""
    fake_engine(capabilities=("8.0",), hardware="ampere-plus")
    options = ProductionOptions(target="tensorrt", engines=tmp_path / "engines")
    write_production(convolving_models, tmp_path / "out", options, overwrite=False)
    assert parse(tmp_path / "out/flood/config.pbtxt").default_model_filename == "model-8.0.plan"


@pytest.mark.parametrize(
    ("changes", "given"),
    [
        ({"graph_sha256": "0" * 64}, "without one of flood"),
        ({"stripped": True}, "without one of flood"),
        ({"flavour": "rtx"}, "without one of flood"),
    ],
)
def test_engines_that_cannot_be_served_are_refused(convolving_models, tmp_path, fake_engine, changes, given) -> None:
    """Triton loads plans of the served graph, whole, of the data centre; others are refused, not left out."""
    fake_engine(**changes)
    options = ProductionOptions(target="tensorrt", engines=tmp_path / "engines")
    with pytest.raises(UsageError, match=given):
        write_production(convolving_models, tmp_path / "out", options, overwrite=False)


def test_engines_of_two_versions_are_refused(convolving_models, tmp_path, fake_engine) -> None:
    """A server has one TensorRT: plans of two are refused with both named."""
    fake_engine()
    fake_engine(tensorrt="10.16.1.11")
    options = ProductionOptions(target="tensorrt", engines=tmp_path / "engines")
    with pytest.raises(UsageError, match=r"10\.16\.1\.11, 11\.4\.0\.106"):
        write_production(convolving_models, tmp_path / "out", options, overwrite=False)
    with pytest.raises(UsageError, match="--engines with --target onnxruntime"):
        write_production(
            convolving_models, tmp_path / "out", options.model_copy(update={"target": "onnxruntime"}), overwrite=False
        )


def test_without_engines_a_script_builds_them(convolving_models, tmp_path, parse) -> None:
    """Nothing is made up: no plan, no file name; what is to be run on the card's host lies beside the models."""
    out = tmp_path / "production"
    write_production(convolving_models, out, ProductionOptions(target="tensorrt"), overwrite=False)
    assert not [name for name in written(out) if name.endswith(".plan")]
    assert dict(parse(out / "flood/config.pbtxt").cc_model_filenames) == {}
    assert os.access(out / "build-engines.sh", os.X_OK)


def test_the_script_runs_commands_that_exist(convolving_models, tmp_path) -> None:
    """The script calls tocsin with options that tocsin has, for every model, from wherever it is started."""
    out = tmp_path / "pro duction"
    write_production(convolving_models, out, ProductionOptions(target="tensorrt"), overwrite=False)
    programs = tmp_path / "bin"
    programs.mkdir()
    fake = programs / "tocsin"
    fake.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" END >> "{tmp_path}/calls"\n')
    fake.chmod(0o755)
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
    subprocess.run([out / "build-engines.sh", tmp_path / "engines"], env=environment, cwd=tmp_path, check=True)
    calls = [call.split("\n")[:-1] for call in (tmp_path / "calls").read_text().split("END\n")[:-1]]
    built, assembled = calls
    assert built[:3] == ["export", "engine", "flood"]
    assert assembled[:2] == ["export", "repository"]
    group = as_command(commands.app, "export")
    for call in calls:
        assert call[call.index("--model-repository") + 1] == str(out)
        with group.commands[call[1]].make_context(call[1], call[2:]) as context:
            assert context.params["overwrite"]
    assert assembled[assembled.index("--engines") + 1] == built[built.index("--out") + 1] == str(tmp_path / "engines")


def test_a_repository_is_renewed_in_place(convolving_models, tmp_path, fake_engine) -> None:
    """What the script does last: the same folder, now with plans, whole at once."""
    out = tmp_path / "production"
    write_production(convolving_models, out, ProductionOptions(target="tensorrt"), overwrite=False)
    fake_engine(plan=b"ada")
    options = ProductionOptions(target="tensorrt", engines=tmp_path / "engines")
    with pytest.raises(ProductExistsError, match="--overwrite"):
        write_production(out, out, options, overwrite=False)
    write_production(out, out, options, overwrite=True)
    assert (out / "flood/1/model-8.9.plan").read_bytes() == b"ada"
    assert load_model("flood", out, "fp16").manifest.artifacts == read_manifest("flood", convolving_models).artifacts
    assert {path.name for path in tmp_path.iterdir()} == {"production", "engines"}


@pytest.mark.parametrize(("number", "expected"), [(errno.ENOSPC, StorageFullError), (errno.EACCES, UsageError)])
def test_a_failed_write_changes_nothing(convolving_models, tmp_path, monkeypatch, number, expected) -> None:
    """When the folder cannot be put in place, nothing is there or beside it."""

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(production, "put", refuse)
    with pytest.raises(expected, match=os.strerror(number)):
        write_production(convolving_models, tmp_path / "out", ProductionOptions(target="tensorrt"), overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_licences_come_along(convolving_models, root: Path) -> None:
    """The licence is the project's, and every model's attribution is there word by word."""
    assert licence_text() == (root / "LICENSE").read_text()
    manifests = [read_manifest("flood", convolving_models)]
    assert manifests[0].attribution in attribution(manifests)
    assert "flood 0.0.1, weights under Apache-2.0" in attribution(manifests)


def test_command(convolving_models, logistic_models, tmp_path, capsys) -> None:
    """`tocsin export repository` says what was written and what is left to do; a precision that lacks is refused."""
    arguments = ["repository", "--target", "tensorrt", "-o", tmp_path / "out", "--model-repository"]
    run(*arguments, convolving_models)
    printed = capsys.readouterr().out
    assert "flood  0.0.1    -" in printed
    assert "build-engines.sh on a host with the server's card" in printed
    run(*arguments, convolving_models, "--overwrite", "--json")
    assert json.loads(capsys.readouterr().out)["plans"] == {"flood": []}
    with pytest.raises(ModelUnknownError, match="fp16"):
        run(*arguments, logistic_models, "--overwrite")
    with pytest.raises(UsageError, match="--target openvino"):
        run("repository", "--target", "openvino", "-o", tmp_path / "other")


def test_the_runbook_gives_commands_that_exist(root: Path) -> None:
    """Every `tocsin` command of the runbook has the options that it is given there."""
    text = (root / "docs/runbook.md").read_text(encoding="utf-8")
    lines = re.findall(r"^    tocsin (.+)$", text, re.MULTILINE)
    assert any(line.startswith("export repository") for line in lines)
    for line in lines:
        name, *words = shlex.split(line, comments=True)
        command = registry.root().get_command(SimpleNamespace(resilient_parsing=True), name)
        while words and words[0] in getattr(command, "commands", {}):
            command, words = command.commands[words[0]], words[1:]
        with command.make_context(name, words):
            pass


def test_every_shipped_model_can_be_served(tmp_path, parse) -> None:
    """The shipped repository becomes one for each target, in fp32, and every configuration parses."""
    for target in ("tensorrt", "onnxruntime"):
        out = tmp_path / target
        options = ProductionOptions(target=target, precision="fp32")
        write_production(None, out, options, overwrite=False)
        for name in list_models():
            config = parse(out / name / "config.pbtxt")
            assert config.name == name
            assert [each.name for each in config.input] == [spec.name for spec in read_manifest(name).inputs]
            assert verify_model(name, out).name == name
