"""Step 3: a model's folder in Triton's layout, written aside and renamed: whole, or not there.

::

    NAME/config.pbtxt
    NAME/manifest.json
    NAME/1/model.onnx
"""

import errno
import hashlib
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from export.triton_config import GRAPH_FILES, config_pbtxt
from tocsin.errors import ProductExistsError, StorageFullError, UsageError
from tocsin.manifest import Artifact, FileRecord, Manifest, ModelFacts, Parity, Precision
from tocsin.repository import MANIFEST, verify_model

VERSION_FOLDER: Final = "1"
"""Triton's version folder; the semantic version is in the manifest."""

CONFIG: Final = "config.pbtxt"


@dataclass(frozen=True)
class GraphFile:
    """One graph that passed its gate."""

    precision: Precision
    content: bytes
    opset: int
    parity: Parity
    layers: int | None = None
    kept_fp32: tuple[str, ...] = ()
    calibration_chips: tuple[str, ...] = ()


def write(repository: Path, facts: ModelFacts, graphs: Sequence[GraphFile], *, overwrite: bool = False) -> Manifest:
    """Write the model's folder and return its manifest.

    Parameters
    ----------
    repository
        Folder of models; made when missing.
    facts
        The manifest's facts.
    graphs
        One file per precision, the default first.
    overwrite
        Whether a model of that name is replaced.

    Raises
    ------
    ProductExistsError
        When it exists and `overwrite` is False.
    StorageFullError
        When the disk is full.
    UsageError
        When the folder cannot be written for another reason.
    """
    refuse_existing(repository, facts.name, overwrite=overwrite)
    try:
        return _write(repository, facts, graphs)
    except OSError as error:
        given = f"model repository {repository}, which cannot be written ({error.strerror})"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StorageFullError(given, "room for the model", "free some space") from error
        raise UsageError(given, "a folder that this user may write", "give another --model-repository") from error


def _write(repository: Path, facts: ModelFacts, graphs: Sequence[GraphFile]) -> Manifest:
    repository.mkdir(parents=True, exist_ok=True)
    # Names with a dot in front are models to neither tocsin nor Triton's explicit control.
    aside = repository / f".tocsin-{secrets.token_hex(4)}.part"
    try:
        (aside / VERSION_FOLDER).mkdir(parents=True)
        default = graphs[0]
        config = config_pbtxt(facts, hashlib.sha256(default.content).hexdigest(), default.precision).encode()
        (aside / CONFIG).write_bytes(config)
        artifacts = []
        for graph in graphs:
            path = f"{VERSION_FOLDER}/{GRAPH_FILES[graph.precision]}"
            (aside / path).write_bytes(graph.content)
            record = file_record(path, graph.content)
            said = {field: getattr(graph, field) for field in set(Artifact.model_fields) - set(FileRecord.model_fields)}
            artifacts.append(Artifact(**record.model_dump(), **said))
        manifest = Manifest(
            **{name: getattr(facts, name) for name in ModelFacts.model_fields},
            artifacts=tuple(artifacts),
            files=(file_record(CONFIG, config),),
        )
        (aside / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        put(aside, repository / facts.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return manifest


def rewrite_config(repository: Path, name: str) -> Manifest:
    """Write a model's `config.pbtxt` as this version writes it, and its hash into the manifest, which is returned.

    Raises
    ------
    ModelUnknownError, ModelInvalidError
        When there is no such model, or its files are not those of its manifest.
    """
    manifest = verify_model(name, repository)
    default, folder = manifest.artifacts[0], repository / name
    config = config_pbtxt(manifest, default.sha256, default.precision).encode()
    others = tuple(row for row in manifest.files if row.path != CONFIG)
    manifest = manifest.model_copy(update={"files": (file_record(CONFIG, config), *others)})
    for path, content in ((folder / CONFIG, config), (folder / MANIFEST, manifest.to_json().encode())):
        aside = path.with_name(f".{path.name}.part")
        aside.write_bytes(content)
        aside.replace(path)
    return manifest


def refuse_existing(repository: Path, name: str, *, overwrite: bool) -> None:
    """Raise ProductExistsError when `repository` holds a model `name` and `overwrite` is False."""
    if not overwrite and (repository / name).exists():
        raise ProductExistsError(
            f"model {name!r}, which exists in {repository}", "a name that is free", "pass --overwrite to replace it"
        )


def file_record(path: str, content: bytes) -> FileRecord:
    """Return the manifest's row of a file with that content."""
    return FileRecord(path=path, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def put(aside: Path, target: Path) -> None:
    """Rename folder `aside` to `target`; what was there goes away only once its successor is in place."""
    old = aside.with_name(f"{aside.name}-old")
    replaced = target.exists()
    if replaced:
        target.replace(old)
    try:
        aside.replace(target)
    except OSError:
        if replaced:
            old.replace(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
