"""`tocsin export engine` and `tocsin export repository`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tocsin.cli.output import checked, emit, table

if TYPE_CHECKING:
    from tocsin.engines import Engine

Json = Annotated[bool, typer.Option("--json", envvar="TOCSIN_JSON", help="Print one JSON object and nothing else.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", envvar="TOCSIN_OVERWRITE", help="Replace what exists.")]
ModelRepository = Annotated[
    Path | None,
    typer.Option(
        "--model-repository",
        envvar="TOCSIN_MODEL_REPOSITORY",
        help="Folder of the models; the shipped one by default.",
    ),
]


def engine(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of a model in the repository.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", envvar="TOCSIN_ENGINES", help="Folder of engines; the one that scoring reads by default."
        ),
    ] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", metavar="fp16|fp32", help="Which graph is built; fp16 by default.")
    ] = None,
    flavour: Annotated[
        str | None,
        typer.Option(
            "--flavour",
            metavar="rtx|datacenter",
            help="rtx (default): built anywhere, for every RTX card; datacenter: for this host's card.",
        ),
    ] = None,
    max_batch: Annotated[
        int | None, typer.Option("--max-batch", help="Chips of one run, at most; 8 by default.")
    ] = None,
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(
            "--compute-capability", help="rtx: cards to build for, repeated; 8.0, 8.6, 8.9, 12.0 and 12.1 by default."
        ),
    ] = None,
    hardware: Annotated[
        str | None,
        typer.Option(
            "--hardware",
            metavar="exact|same-capability|ampere-plus",
            help="datacenter: which other cards may load it; exact (default): none.",
        ),
    ] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="datacenter: later versions of TensorRT may load it.")
    ] = False,
    strip_weights: Annotated[
        bool, typer.Option("--strip-weights", help="Plan without weights: they are read from the graph at load.")
    ] = False,
    model_repository: ModelRepository = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Build a TensorRT engine from a model's graph; on a card it is compared with ONNX Runtime before it is written."""
    from export.commands import data_folder
    from export.engine import EngineOptions, build_engine
    from tocsin.engines import engines_folder
    from tocsin.repository import load_model

    options = checked(
        EngineOptions,
        precision=precision,
        flavour=flavour,
        max_batch=max_batch,
        compute_capability=tuple(compute_capability) if compute_capability else None,
        hardware=hardware,
        version_compatible=version_compatible,
        strip_weights=strip_weights,
    )
    started = time.perf_counter()
    loaded = load_model(model, model_repository, options.precision)
    built = build_engine(loaded, out or engines_folder(), options, data_folder(), overwrite=overwrite)
    payload = {"engine": str(built.folder), "record": built.record.model_dump(mode="json")}
    emit(payload, as_json=as_json, text=_described(built, time.perf_counter() - started))


def repository(
    target: Annotated[
        str,
        typer.Option(
            "--target",
            metavar="tensorrt|onnxruntime",
            help="tensorrt: plans; onnxruntime: graphs, on CUDA with its TensorRT accelerator.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")],
    precision: Annotated[
        str | None, typer.Option("--precision", metavar="fp16|fp32", help="Which graphs are served; fp16 by default.")
    ] = None,
    engines: Annotated[
        Path | None, typer.Option("--engines", help="tensorrt: folder of engines of the data centre to put in.")
    ] = None,
    instances: Annotated[
        int | None, typer.Option("--instances", help="Copies of each model on each card; 1 by default.")
    ] = None,
    model_repository: ModelRepository = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write the repository of a Triton server with a GPU: configurations, graphs, manifests, licences, plans."""
    from export.production import SCRIPT, ProductionOptions, write_production

    options = checked(ProductionOptions, target=target, precision=precision, engines=engines, instances=instances)
    manifests = write_production(model_repository, out, options, overwrite=overwrite)
    plans = {each.name: [row.path for row in each.files if row.path.endswith(".plan")] for each in manifests}
    lines = [f"{out} written for {options.target} in {options.precision}"]
    lines.append(
        table(("MODEL", "VERSION", "PLANS"), [(m.name, m.version, " ".join(plans[m.name]) or "-") for m in manifests])
    )
    if options.target == "tensorrt" and not all(plans.values()):
        lines.append(f"run {out / SCRIPT} on a host with the server's card to add the plans")
    emit({"repository": str(out), "target": options.target, "plans": plans}, as_json=as_json, text="\n".join(lines))


def _described(built: "Engine", seconds: float) -> str:
    record = built.record
    key, layers = record.key, record.layers
    lines = [
        f"{built.folder} written in {seconds:.1f} s",
        f"plan        {record.plan.bytes} bytes, sha256 {record.plan.sha256}",
        f"TensorRT    {key.tensorrt} ({key.flavour}), compute capability {' '.join(key.capabilities)}",
        f"precision   {key.precision}: {layers.heavy_half} of {layers.heavy} convolutions and matrix products in half",
        f"            ({layers.half_share:.1%}), of all layers {layers.half} of {layers.floating}",
    ]
    lines += [f"shapes      {each.name}: {each.smallest} to {each.largest}" for each in key.profile]
    if record.parity is None:
        lines.append("no card here: the engine sits its exam, against ONNX Runtime, whenever it is loaded on one")
    else:
        from tocsin.cli.parity import parity_table

        lines.append(parity_table(record.parity))
    return "\n".join(lines)
