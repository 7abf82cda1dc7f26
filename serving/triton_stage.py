"""What the server is shown: its backends, and a view of the model repository in which every file was checked.

The user's repository is never written to. A model is staged when its hashes are right: its `config.pbtxt` as it is, or
naming another precision, and links to its graphs.
"""

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from serving.triton_installation import Installation
from tocsin.errors import ModelInvalidError, ModelUnknownError, TocsinError
from tocsin.manifest import Precision
from tocsin.repository import MANIFEST, Model, list_models, load_model

BACKEND: Final = "onnxruntime"
CONFIG: Final = "config.pbtxt"


def lay_out_backends(folder: Path, installed: Installation) -> None:
    """Put the Python backend of the wheel and ours, which runs on it, into a folder.

    Copies of what is loaded: the server refuses a library that lies elsewhere.
    """
    python, own = folder / "python", folder / BACKEND
    python.mkdir(parents=True)
    own.mkdir()
    for path in (*installed.backend.glob("*.so"), *installed.backend.glob("*.py"), installed.stub):
        shutil.copy2(path, python / path.name)
    shutil.copy2(Path(__file__).parent / "backends" / BACKEND / "model.py", own / "model.py")


@dataclass
class Stage:
    """A view of a model repository.

    Attributes
    ----------
    folder : pathlib.Path
        Where the view lies.
    repository : pathlib.Path
        The user's models.
    precision : str
        Which graph of every model is served.
    models : dict of str to Model
        Staged models by name.
    refused : dict of str to str
        Why the others are not, by name.
    """

    folder: Path
    repository: Path
    precision: Precision = "fp32"
    models: dict[str, Model] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    _seen: dict[str, tuple[int, int]] = field(default_factory=dict, init=False)

    def refresh(self) -> tuple[str, ...]:
        """Stage what is new or has changed since; return the names of models that were looked at.

        What is away while an export puts another in its place is looked at the next time.
        """
        looked_at = []
        for name in self._names():
            try:
                stat = (self.repository / name / MANIFEST).stat()
            except OSError:
                continue
            key = (stat.st_mtime_ns, stat.st_size)
            if self._seen.get(name) == key:
                continue
            self._seen[name] = key
            looked_at.append(name)
            self.models.pop(name, None)
            self.refused.pop(name, None)
            try:
                self._stage(name)
            except TocsinError as error:
                self.refused[name] = str(error)
        return tuple(looked_at)

    def _names(self) -> tuple[str, ...]:
        try:
            return list_models(self.repository)
        except (OSError, TocsinError):
            if not self._seen:
                raise
            return ()

    def require_precision(self) -> None:
        """Refuse a precision that a model does not have.

        Raises
        ------
        ModelUnknownError
            Names every such model.
        """
        missing = [name for name in list_models(self.repository) if not self._has_precision(name)]
        if missing:
            raise ModelUnknownError(
                f"precision {self.precision}, which {', '.join(missing)} in {self.repository} has not",
                "a precision of every model",
                "see tocsin models, or give a --model-repository with the models that have it",
            )

    def _has_precision(self, name: str) -> bool:
        try:
            load_model(name, self.repository, self.precision)
        except ModelUnknownError:
            return False
        except ModelInvalidError:  # reported when it is staged
            return True
        return True

    def _stage(self, name: str) -> None:
        model = load_model(name, self.repository, self.precision)
        target = self.folder / name
        shutil.rmtree(target, ignore_errors=True)
        try:
            config = (model.folder / CONFIG).read_text(encoding="utf-8")
        except OSError as error:
            raise ModelInvalidError(
                f"{model.folder / CONFIG}, which cannot be read ({error.strerror})",
                "a configuration",
                f"run tocsin export config {name}",
            ) from error
        version = target / Path(model.artifact.path).parent
        version.mkdir(parents=True)
        (target / CONFIG).write_text(served_as(config, model), encoding="utf-8")
        (version / model.path.name).symlink_to(model.path)
        self.models[name] = model


def served_as(config: str, model: Model) -> str:
    """Return a configuration that names a model's graph, its precision and its hash.

    Raises
    ------
    ModelInvalidError
        It is not of the form that export writes.
    """
    for pattern, value in (
        (r'default_model_filename: "([^"]*)"', model.path.name),
        (r'parameters \{ key: "precision" value \{ string_value: "([^"]*)" \} \}', model.artifact.precision),
        (r'parameters \{ key: "graph_sha256" value \{ string_value: "([^"]*)" \} \}', model.sha256),
    ):
        match = re.search(pattern, config)
        if match is None:
            raise ModelInvalidError(
                f"{CONFIG} of model {model.manifest.name} without {pattern.partition(' value')[0]}",
                "a configuration as tocsin export writes it",
                f"run tocsin export config {model.manifest.name}",
            )
        config = config[: match.start(1)] + value + config[match.end(1) :]
    return config
