"""`tocsin export`: all steps in one go, and each step alone."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from export import engine_commands
from tocsin.cli.output import emit, set_up_logging
from tocsin.cli.parity import parity_table
from tocsin.errors import ModelInvalidError, ProductExistsError, UsageError

if TYPE_CHECKING:
    from tocsin.manifest import Manifest, Precision

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Turn a checkpoint into a model that can be run.")

Checkpoint = Annotated[Path, typer.Argument(help="Checkpoint (.safetensors) written by tocsin train.")]
Json = Annotated[bool, typer.Option("--json", envvar="TOCSIN_JSON", help="Print one JSON object and nothing else.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", envvar="TOCSIN_OVERWRITE", help="Replace what exists.")]
Repository = Annotated[
    Path | None,
    typer.Option(
        "--model-repository",
        envvar="TOCSIN_MODEL_REPOSITORY",
        help="Folder of models to write into; by default the one that scoring reads.",
    ),
]
Precisions = Annotated[
    list[str] | None,
    typer.Option(
        "--precision",
        metavar="fp32|fp16|int8",
        help="Precision to make, once for each; all by default. Beside fp32 for a checkpoint, from fp32 for a model.",
    ),
]


@app.command("model")
def model(
    checkpoint: Checkpoint,
    precision: Precisions = None,
    model_repository: Repository = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Run every step: graph, parity, precision, repository. Nothing is written when a figure is over its limit."""
    from export.model import export_model
    from tocsin.repository import find_repository

    set_up_logging(quiet=False)
    repository = model_repository or find_repository()
    chosen = chosen_precisions(precision)
    manifest = export_model(checkpoint, repository, data_folder(), precisions=chosen, overwrite=overwrite)
    emit(manifest, as_json=as_json, text=_described(manifest, repository))


@app.command("graph")
def graph(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option("--out", "-o", help="ONNX file to write.")],
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write the graph alone; it is not compared with anything: `tocsin export parity` does that."""
    from export.graph import to_onnx
    from export.model import prepare

    if out.exists() and not overwrite:
        raise ProductExistsError(f"{out}, which exists", "a file name that is free", "pass --overwrite to replace it")
    prepared = prepare(checkpoint)
    content = to_onnx(prepared.module, prepared.facts)
    aside = out.with_name(f".{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(content)
        aside.replace(out)
    finally:
        aside.unlink(missing_ok=True)
    emit({"graph": str(out), "bytes": len(content)}, as_json=as_json, text=f"{out}: {len(content)} bytes")


@app.command("parity")
def parity(
    checkpoint: Checkpoint,
    graph_file: Annotated[Path, typer.Argument(metavar="GRAPH", help="ONNX file to compare with the checkpoint.")],
    as_json: Json = False,
) -> None:
    """Compare a graph with its checkpoint on simulated chips, and on real ones where TOCSIN_DATA names them."""
    from export.model import parity_of, prepare

    if not graph_file.is_file():
        raise ModelInvalidError(f"{graph_file}, which is no file", "an ONNX graph", "write it with tocsin export graph")
    figures = parity_of(graph_file.read_bytes(), prepare(checkpoint), data_folder())
    emit(figures, as_json=as_json, text=parity_table(figures))


@app.command("precision")
def precision(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Model of the repository.")],
    precision: Precisions = None,
    model_repository: Repository = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make the FP16 and INT8 graphs of a model from its FP32 graph. Over a limit nothing is written."""
    from export.model import export_precisions
    from tocsin.repository import find_repository

    set_up_logging(quiet=False)
    repository = find_repository(model_repository)
    chosen = chosen_precisions(precision)
    manifest = export_precisions(name, repository, data_folder(), chosen, overwrite=overwrite)
    emit(manifest, as_json=as_json, text=_described(manifest, repository))


@app.command("config")
def config(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Model of the repository.")],
    model_repository: Repository = None,
    as_json: Json = False,
) -> None:
    """Write a model's config.pbtxt as this version writes it, and its hash into the manifest."""
    from export.repository import rewrite_config
    from tocsin.repository import find_repository

    repository = find_repository(model_repository)
    manifest = rewrite_config(repository, name)
    emit(manifest, as_json=as_json, text=f"{repository / name / 'config.pbtxt'} written")


app.command("engine")(engine_commands.engine)
app.command("repository")(engine_commands.repository)


def data_folder() -> Path | None:
    """Return the folder of the data sets that TOCSIN_DATA names, or None when it is not set.

    Raises
    ------
    UsageError
        When it is set, and is no folder.
    """
    named = os.environ.get("TOCSIN_DATA")
    if not named:
        return None
    if not Path(named).is_dir():
        raise UsageError(f"TOCSIN_DATA={named}, which is no folder", "the folder of the data sets", "mend or unset it")
    return Path(named)


def chosen_precisions(named: list[str] | None) -> "tuple[Precision, ...]":
    """Return the precisions to make from fp32, each once; all when none was named.

    Raises
    ------
    UsageError
        When one is no precision.
    """
    from export.precision.lowering import LOWER

    for each in named or ():
        if each not in {"fp32", *LOWER}:
            raise UsageError(f"--precision {each}", f"fp32, {', '.join(LOWER)}", "choose among these")
    return tuple(each for each in LOWER if named is None or each in named)


def _described(manifest: "Manifest", repository: Path) -> str:
    lines = [f"{manifest.name} {manifest.version} written to {repository / manifest.name}"]
    for artifact in manifest.artifacts:
        lines += [f"{artifact.path} {artifact.precision} {artifact.bytes} bytes", f"sha256 {artifact.sha256}"]
        if artifact.layers:
            lines.append(f"{artifact.layers} layers, kept in fp32: {', '.join(artifact.kept_fp32) or 'none'}")
        lines.append(parity_table(artifact.parity))
    if not any(row.case.startswith("real") for artifact in manifest.artifacts for row in artifact.parity.rows):
        lines.append("parity was measured on simulated chips only: set TOCSIN_DATA to add real ones")
    return "\n".join(lines)
