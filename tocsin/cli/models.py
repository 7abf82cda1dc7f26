"""`tocsin models`: what is in the repository."""

from pathlib import Path
from typing import Annotated

import typer

from tocsin.cli.options import Json, ModelRepository, Quiet
from tocsin.cli.output import emit, set_up_logging, table
from tocsin.cli.parity import limits_line, parity_table
from tocsin.manifest import Artifact, MetricRow
from tocsin.model_card import ModelCard


def models(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One model in full.")] = None,
    model_repository: ModelRepository = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the models that can be run, or describe one."""
    set_up_logging(quiet=quiet)
    if name is None:
        _list(model_repository, as_json=json)
    else:
        _describe(name, model_repository, as_json=json)


def _list(repository: Path | None, *, as_json: bool) -> None:
    from tocsin.repository import find_repository, list_models, read_manifest

    folder = find_repository(repository)
    manifests = [read_manifest(each, folder) for each in list_models(folder)]
    payload = {
        "repository": str(folder),
        "models": [ModelCard.of(each).model_dump(mode="json") for each in manifests],
    }
    rows = [
        (
            each.name,
            each.version,
            each.hazard,
            ", ".join(_with_flips(row) for row in each.artifacts),
            each.architecture.name,
            _best(each.metrics[0]),
        )
        for each in manifests
    ]
    head = ("NAME", "VERSION", "HAZARD", "PRECISIONS, FLIPPED", "NETWORK", "FIRST METRIC")
    text = table(head, rows) if rows else "no model"
    emit(payload, as_json=as_json, text=f"{text}\nin {folder}")


def _describe(name: str, repository: Path | None, *, as_json: bool) -> None:
    from tocsin.repository import read_manifest

    manifest = read_manifest(name, repository)
    metrics = [
        (
            row.dataset,
            row.split,
            row.metric,
            f"{row.value:.3f}",
            f"{row.baseline_value:.3f} {row.baseline_name}",
            str(row.n),
        )
        for row in manifest.metrics
    ]
    lines = [
        f"{manifest.name} {manifest.version} ({manifest.hazard}): {manifest.description}",
        f"network     {manifest.architecture.name}, {manifest.architecture.parameters:,} parameters",
        *(f"input       {spec.name}: {', '.join(spec.bands)} [{spec.unit}]" for spec in manifest.inputs),
        *(f"output      {spec.name}: {', '.join(spec.bands)} [{spec.unit}]" for spec in manifest.outputs),
        f"chip        {manifest.chip_px} px; runs as it is at {manifest.gsd_m[0]:g}-{manifest.gsd_m[1]:g} m",
        f"threshold   {manifest.threshold:g}",
        *(line for row in manifest.artifacts for line in _graph_lines(row)),
        f"licence     {manifest.licence}; {manifest.attribution}",
        "",
        table(("DATA SET", "SPLIT", "METRIC", "VALUE", "BASELINE", "N"), metrics),
        *(
            f"\n{row.precision}, decided otherwise than by {row.parity.reference}\n{parity_table(row.parity)}"
            for row in manifest.artifacts
            if row.parity.limit_change is not None
        ),
    ]
    emit(manifest, as_json=as_json, text="\n".join(lines))


def _with_flips(row: Artifact) -> str:
    """Return a precision, with the share of decisions that it flips where it is judged against fp32."""
    return row.precision if row.parity.limit_change is None else f"{row.precision} {row.parity.flipped_fraction:.3%}"


def _graph_lines(row: Artifact) -> list[str]:
    lines = [f"graph       {row.precision}: {row.path}, {row.bytes / 2**20:.1f} MiB; {limits_line(row.parity)}"]
    if row.layers:
        lines.append(f"            {row.layers} layers, kept in fp32: {', '.join(row.kept_fp32) or 'none'}")
    return lines


def _best(row: MetricRow) -> str:
    return f"{row.metric} {row.value:.3f} ({row.baseline_name} {row.baseline_value:.3f})"
