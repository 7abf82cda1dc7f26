"""Find models on disk and load them, hashes checked.

A repository is a folder in Triton's layout, so that a server and this library read the same files::

    model_repository/NAME/config.pbtxt
    model_repository/NAME/manifest.json
    model_repository/NAME/1/model.onnx

Nothing here imports a runtime: a `Model` is a path whose bytes are those that the manifest was written for.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tocsin.errors import ModelInvalidError, ModelUnknownError
from tocsin.manifest import Artifact, FileRecord, Manifest, Precision

ENVIRONMENT = "TOCSIN_MODEL_REPOSITORY"
MANIFEST = "manifest.json"
MANIFEST_BYTES = 4 << 20
"""A manifest is tens of kilobytes; more is no manifest, and is not read."""


@dataclass(frozen=True)
class Model:
    """One precision of one model, its files found and their hashes checked.

    Attributes
    ----------
    manifest : Manifest
        Everything that is known about the model.
    folder : Path
        The model's folder, absolute.
    artifact : Artifact
        The manifest's row of the precision asked for.
    """

    manifest: Manifest
    folder: Path
    artifact: Artifact

    @property
    def path(self) -> Path:
        """The graph file, absolute."""
        return self.folder / self.artifact.path

    @property
    def sha256(self) -> str:
        """SHA-256 of the graph file, hexadecimal: the weights' identity in provenance."""
        return self.artifact.sha256


def find_repository(path: str | Path | None = None) -> Path:
    """Return the folder that holds the models: `path`, else TOCSIN_MODEL_REPOSITORY, else the one shipped.

    The one shipped lies beside the package, in a checkout as in an installed wheel.

    Raises
    ------
    ModelUnknownError
        When that folder does not exist.
    """
    environment = os.environ.get(ENVIRONMENT)
    shipped = Path(__file__).resolve().parent.parent / "model_repository"
    if path is not None:
        found, origin = Path(path), "--model-repository"
    elif environment:
        found, origin = Path(environment), ENVIRONMENT
    else:
        found, origin = shipped, "the package's own folder"
    if not found.is_dir():
        raise ModelUnknownError(
            f"model repository {found} ({origin}), which is no folder",
            "a folder with one sub-folder per model",
            f"give --model-repository or set {ENVIRONMENT} to such a folder; the shipped one is {shipped}",
        )
    return found.resolve()


def list_models(repository: str | Path | None = None) -> tuple[str, ...]:
    """Return the names of the models in `repository` (found as by `find_repository`), sorted."""
    return _names(find_repository(repository))


def read_manifest(name: str, repository: str | Path | None = None) -> Manifest:
    """Return the manifest of model `name` without looking at its other files.

    Raises
    ------
    ModelUnknownError
        When there is no such model; the message lists those that exist.
    ModelInvalidError
        When `manifest.json` is not a manifest, or is one of another model.
    """
    return _read_manifest(_folder(name, find_repository(repository)))


def load_model(name: str, repository: str | Path | None = None, precision: Precision = "fp32") -> Model:
    """Return model `name` in `precision`, after checking the sha256 of its graph and of the files beside it.

    Other precisions are not read: `verify_model` checks them all.

    Raises
    ------
    ModelUnknownError
        When there is no such model or precision; the message lists those that exist.
    ModelInvalidError
        When the manifest is broken, or a file is missing or is not the one that the manifest was written for.
    """
    folder = _folder(name, find_repository(repository))
    manifest = _read_manifest(folder)
    artifact = next((row for row in manifest.artifacts if row.precision == precision), None)
    if artifact is None:
        raise ModelUnknownError(
            f"precision {precision!r} of model {name!r}",
            f"one of {', '.join(manifest.precisions)}",
            "choose one of these with --precision, or export the missing one",
        )
    for row in (artifact, *manifest.files):
        _check(folder, row)
    return Model(manifest=manifest, folder=folder, artifact=artifact)


def verify_model(name: str, repository: str | Path | None = None) -> Manifest:
    """Return the manifest of model `name` after checking the sha256 of every file that it lists.

    Raises
    ------
    ModelUnknownError, ModelInvalidError
        As `load_model`.
    """
    folder = _folder(name, find_repository(repository))
    manifest = _read_manifest(folder)
    for row in (*manifest.artifacts, *manifest.files):
        _check(folder, row)
    return manifest


def _names(repository: Path) -> tuple[str, ...]:
    folders = (path for path in repository.iterdir() if not path.name.startswith("."))
    return tuple(sorted(path.name for path in folders if (path / MANIFEST).is_file()))


def _folder(name: str, repository: Path) -> Path:
    # A name is looked up among those listed and never joined to a path: "../x" finds nothing.
    names = _names(repository)
    if name not in names:
        raise ModelUnknownError(
            f"model {name!r}",
            f"one of {', '.join(names)}" if names else "a repository with at least one model",
            f"choose one that exists in {repository}, or give another --model-repository",
        )
    return repository / name


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    try:
        with path.open("rb") as file:
            text = file.read(MANIFEST_BYTES + 1)
    except OSError as error:
        raise _invalid(f"{path}, which cannot be read ({error.strerror})", "a readable manifest") from error
    if len(text) > MANIFEST_BYTES:
        raise _invalid(f"{path} of {path.stat().st_size} bytes", f"a manifest of at most {MANIFEST_BYTES} bytes")
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise _invalid(f"{path}, where {where}: {first['msg']}", "a manifest as this version writes it") from error
    if manifest.name != folder.name:
        raise _invalid(f"{path} of model {manifest.name!r}", f"the manifest of {folder.name!r}, as its folder says")
    return manifest


def _check(folder: Path, row: FileRecord) -> None:
    path = folder / row.path
    try:
        size = path.stat().st_size
        # The size is compared first: hashing a wrong file of many gigabytes would take minutes to say no.
        if size != row.bytes:
            raise _invalid(f"{path} of {size} bytes", f"{row.bytes} bytes, as {MANIFEST} says")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _invalid(f"{path}, which cannot be read ({error.strerror})", f"the file that {MANIFEST} lists") from error
    if digest != row.sha256:
        raise _invalid(f"{path} with sha256 {digest}", f"sha256 {row.sha256}, as {MANIFEST} says")


def _invalid(given: str, expected: str) -> ModelInvalidError:
    return ModelInvalidError(given, expected, "restore the model's folder, or export the model again")
