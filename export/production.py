"""`tocsin export repository`: the folder that a Triton server with a GPU serves, written whole or not at all.

::

    OUT/LICENSE, ATTRIBUTION.txt
    OUT/build-engines.sh            tensorrt: what has to be run on each kind of card
    OUT/NAME/config.pbtxt           backend, card, batches, queue, warm-up
    OUT/NAME/manifest.json
    OUT/NAME/1/model*.onnx
    OUT/NAME/1/model-8.9.plan       tensorrt: one for each kind of card that there is an engine for

tocsin reads this folder as it reads its own, so that a client checks what the server serves against it.
"""

import errno
import secrets
import shutil
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from export.engine_plan import input_ranges
from export.repository import CONFIG, VERSION_FOLDER, file_record, put
from export.triton_config import GRAPH_FILES, MAX_BATCH, queue, served_as, tensors, warmup
from tocsin.engines import Engine, EnginePrecision, InputRange, list_engines
from tocsin.errors import ProductExistsError, StorageFullError, UsageError
from tocsin.manifest import Manifest
from tocsin.repository import MANIFEST, Model, find_repository, list_models, load_model, verify_model

Target = Literal["tensorrt", "onnxruntime"]

SCRIPT: Final = "build-engines.sh"
ENGINE_CACHE: Final = "/var/cache/tocsin"
"""Where ONNX Runtime keeps the engines that it builds on the server; mount a volume there."""


class ProductionOptions(BaseModel):
    """What is served, and how. Defaults live here and nowhere else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: Target = Field(description="tensorrt: plans; onnxruntime: graphs, on CUDA with its TensorRT accelerator")
    precision: EnginePrecision = Field(default="fp16", description="which of each model's graphs")
    engines: Path | None = Field(default=None, description="folder of engines of the data centre, for tensorrt")
    instances: int = Field(default=1, ge=1, le=16, description="copies of each model on each card")


def write_production(source: Path | None, out: Path, options: ProductionOptions, *, overwrite: bool) -> list[Manifest]:
    """Write every model of a repository as a Triton server with a GPU serves it, and return their manifests.

    Parameters
    ----------
    source
        Folder of models, found as by `tocsin.repository.find_repository`; it may be `out` itself.
    out
        Folder to write.
    options
        What to write.
    overwrite
        Whether `out` is replaced.

    Raises
    ------
    ProductExistsError
        When `out` exists and `overwrite` is False.
    ModelUnknownError, ModelInvalidError
        When a model lacks the precision, or a file is not its manifest's.
    UsageError
        When engines are given that cannot be served, or the folder cannot be written.
    """
    repository = find_repository(source)
    if options.target == "onnxruntime" and options.engines is not None:
        raise UsageError("--engines with --target onnxruntime", "engines with tensorrt only", "leave one of them out")
    if out.exists() and not overwrite:
        raise ProductExistsError(f"{out}, which exists", "a folder that is free", "pass --overwrite to replace it")
    models = [load_model(name, repository, options.precision) for name in list_models(repository)]
    plans = {model.manifest.name: _plans(model, options) for model in models}
    # Beside the folder, not in it: the whole repository is put in place at once.
    aside = out.with_name(f".tocsin-{secrets.token_hex(4)}.part")
    try:
        aside.mkdir(parents=True)
        manifests = [_write_model(aside, model, plans[model.manifest.name], options) for model in models]
        (aside / "LICENSE").write_text(licence_text(), encoding="utf-8")
        (aside / "ATTRIBUTION.txt").write_text(attribution(manifests), encoding="utf-8")
        if options.target == "tensorrt":
            script = aside / SCRIPT
            script.write_text(build_script([each.name for each in manifests], options.precision), encoding="utf-8")
            script.chmod(0o755)
        put(aside, out)
    except OSError as error:
        given = f"folder {out}, which cannot be written ({error.strerror})"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StorageFullError(given, "room for the repository", "free some space") from error
        raise UsageError(given, "a folder that this user may write", "give another --out") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return manifests


def tensorrt_config(model: Model, plans: Mapping[str, Engine], options: ProductionOptions) -> str:
    """Return the configuration of Triton's tensorrt backend; `plans` by compute capability."""
    batches = [each.record.key.profile[0].largest[0] for each in plans.values()]
    files = "".join(
        f'cc_model_filenames {{ key: "{capability}" value: "{plan_name(capability)}" }}\n' for capability in plans
    )
    # An engine that every card from Ampere on may load serves those without one of their own.
    wide = [capability for capability, each in plans.items() if each.record.key.hardware == "ampere-plus"]
    if wide:
        files += f'default_model_filename: "{plan_name(wide[0])}"\n'
    return _config(model, 'platform: "tensorrt_plan"\n' + files, min([MAX_BATCH, *batches]), options)


def onnxruntime_config(model: Model, options: ProductionOptions) -> str:
    """Return the configuration of Triton's onnxruntime backend on CUDA, with its TensorRT accelerator in front.

    The accelerator is told FP32 for every graph: it then keeps the types that the graph itself has, half precision
    included; FP16 would let it narrow layers that the gate kept in float32.
    """
    ranges = input_ranges(model.manifest, MAX_BATCH)
    accelerator = {
        "precision_mode": "FP32",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": f"{ENGINE_CACHE}/{model.manifest.name}",
        "trt_profile_min_shapes": _shapes(ranges, "smallest"),
        "trt_profile_opt_shapes": _shapes(ranges, "usual"),
        "trt_profile_max_shapes": _shapes(ranges, "largest"),
    }
    head = (
        'backend: "onnxruntime"\n'
        f'default_model_filename: "{GRAPH_FILES[options.precision]}"\n'
        "optimization {\n  execution_accelerators {\n"
        # CUDA itself runs what TensorRT does not, and computes in float32 what the graph calls float32.
        f"{_accelerator('tensorrt', accelerator)}{_accelerator('cuda', {'use_tf32': '0'})}"
        "  }\n}\n"
    )
    return _config(model, head, MAX_BATCH, options)


def plan_name(capability: str) -> str:
    """Return the file name of the plan for cards of that compute capability."""
    return f"model-{capability}.plan"


def build_script(names: Sequence[str], precision: EnginePrecision) -> str:
    """Return the shell script that builds a card's engines and puts them into the repository that it lies in."""
    builds = "".join(
        f"tocsin export engine {name} --flavour datacenter --precision {precision} --overwrite \\\n"
        '    --model-repository "$here" --out "$engines"\n'
        for name in names
    )
    return (
        "#!/bin/sh\n"
        "# Builds the engines of this host's card and puts them into this repository. Run it once on each kind of\n"
        "# card that serves, with the TensorRT of the server, always with the same folder of engines.\n"
        "set -eu\n"
        'here=$(cd "$(dirname "$0")" && pwd)\n'
        'engines=${1:-"$here.engines"}\n'
        f"{builds}"
        f"tocsin export repository --target tensorrt --precision {precision} --overwrite \\\n"
        '    --model-repository "$here" --engines "$engines" --out "$here"\n'
    )


def licence_text() -> str:
    """Return the text of tocsin's licence, from the checkout or from the installed wheel."""
    checkout = Path(__file__).resolve().parent.parent / "LICENSE"
    if checkout.is_file():
        return checkout.read_text(encoding="utf-8")
    found = next(each for each in metadata.files("tocsin") or () if each.name == "LICENSE")
    return found.read_text(encoding="utf-8")


def attribution(manifests: Sequence[Manifest]) -> str:
    """Return what has to be said when these models are shared, model by model."""
    return "\n".join(
        f"{each.name} {each.version}, weights under {each.licence}:\n{each.attribution}\n" for each in manifests
    )


def _plans(model: Model, options: ProductionOptions) -> dict[str, Engine]:
    """Return the engine of each compute capability: of several, the one of the largest batch."""
    if options.engines is None or options.target != "tensorrt":
        return {}
    keys = (each for each in list_engines(model.manifest.name, options.engines))
    fitting = [
        each
        for each in keys
        if each.record.key.flavour == "datacenter"
        and each.record.key.graph_sha256 == model.sha256
        and not each.record.key.stripped
    ]
    if not fitting:
        raise UsageError(
            f"engines {options.engines} without one of {model.manifest.name} in {options.precision}, weights included",
            "one built from the graph in the repository",
            f"run {SCRIPT} on a host with the card, or leave out --engines",
        )
    versions = {each.record.key.tensorrt for each in fitting}
    if len(versions) > 1:
        raise UsageError(
            f"engines of {model.manifest.name} of TensorRT {', '.join(sorted(versions))}",
            "of one version, the server's",
            f"remove the others from {options.engines}",
        )
    fitting.sort(key=lambda each: each.record.key.profile[0].largest[0])
    return {each.record.key.capabilities[0]: each for each in fitting}


def _write_model(aside: Path, model: Model, plans: Mapping[str, Engine], options: ProductionOptions) -> Manifest:
    manifest = verify_model(model.manifest.name, model.folder.parent)
    folder = aside / manifest.name
    (folder / VERSION_FOLDER).mkdir(parents=True)
    for artifact in manifest.artifacts:
        shutil.copyfile(model.folder / artifact.path, folder / artifact.path)
    if options.target == "tensorrt":
        text = tensorrt_config(model, plans, options)
    else:
        text = onnxruntime_config(model, options)
    contents = {CONFIG: text.encode()}
    contents |= {f"{VERSION_FOLDER}/{plan_name(capability)}": each.plan() for capability, each in sorted(plans.items())}
    for path, content in contents.items():
        (folder / path).write_bytes(content)
    files = tuple(file_record(path, content) for path, content in contents.items())
    manifest = manifest.model_copy(update={"files": files})
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _config(model: Model, head: str, max_batch: int, options: ProductionOptions) -> str:
    facts = model.manifest
    return (
        f'name: "{facts.name}"\n'
        f"{head}"
        f"max_batch_size: {max_batch}\n"
        f"input [\n{tensors(facts.inputs)}\n]\n"
        f"output [\n{tensors(facts.outputs)}\n]\n"
        "version_policy { latest { num_versions: 1 } }\n"
        f"instance_group [ {{ count: {options.instances} kind: KIND_GPU }} ]\n"
        + served_as(options.precision, model.sha256)
        + queue()
        + warmup(facts)
    )


def _accelerator(name: str, parameters: Mapping[str, str]) -> str:
    lines = "".join(f'      parameters {{ key: "{key}" value: "{value}" }}\n' for key, value in parameters.items())
    return f'    gpu_execution_accelerator {{\n      name: "{name}"\n{lines}    }}\n'


def _shapes(ranges: Sequence[InputRange], which: Literal["smallest", "usual", "largest"]) -> str:
    return ",".join(f"{each.name}:{'x'.join(map(str, getattr(each, which)))}" for each in ranges)
