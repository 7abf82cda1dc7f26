"""The key of a scoring: over what is read, the model and the options. Another key means another scoring."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from serving.batch.places import away, filesystem, is_remote
from serving.batch.scenes import PATH_COLUMNS, Scene
from tocsin.errors import UsageError
from tocsin.scoring_job import ScoringOptions

DECIDING: Final = ("device", "precision", "overlap", "threshold", "aoi", "datetime", "gpkg")
"""Options that can change a product; threads, chips a run, deadlines and where a server is cannot."""
KEPT: Final = 256
"""Hashes that a worker remembers: a DEM that a thousand scenes share is hashed once."""
FOLDER_RASTERS: Final = frozenset({".tif", ".tiff"})


class Hashes:
    """SHA-256 of files, remembered while size and time of change stay."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int, int], str] = {}

    def of(self, href: str) -> list[list[str]]:
        """Return name and hash of a file, or of the files behind a folder or a shapefile.

        An object in a bucket is known by what the bucket says of it (its entity tag, size and time): to hash it would
        be to download it.

        Raises
        ------
        UsageError
            It is not there or cannot be read.
        RuntimeUnavailableError
            Its bucket does not answer.
        """
        if is_remote(href):
            return [[href.rsplit("/", 1)[-1], _tag(href)]]
        try:
            return [[path.name, self._file(path)] for path in _behind(Path(href))]
        except OSError as error:
            raise UsageError(
                f"{href} ({error.strerror})", "a file that can be read", "check the path, and whether it was moved"
            ) from error

    def _file(self, path: Path) -> str:
        facts = path.stat()
        known = str(path), facts.st_size, facts.st_ctime_ns, facts.st_ino
        if known not in self._known:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if len(self._known) >= KEPT:
                del self._known[next(iter(self._known))]
            self._known[known] = digest
        return self._known[known]


def _behind(path: Path) -> Iterable[Path]:
    if path.is_dir():
        return sorted(each for each in path.iterdir() if each.suffix.lower() in FOLDER_RASTERS)
    if path.suffix.lower() == ".shp":
        return sorted(path.parent.glob(f"{path.stem}.*"))
    return [path]


def _tag(url: str) -> str:
    from obstore.exceptions import BaseError

    system, name = filesystem(url)
    try:
        system.invalidate_cache()
        return str(system.ukey(name))
    except FileNotFoundError as error:
        raise UsageError(f"{url}, which does not exist", "an object that can be read", "check the URL") from error
    except (OSError, BaseError) as error:
        raise away(url, error) from error


def scene_key(scene: Scene, options: ScoringOptions, model: str, hashes: Hashes) -> str:
    """Return the key of a scoring, hexadecimal.

    Parameters
    ----------
    scene
        Its inputs count by name and content, wherever they lie.
    options
        With the scene's own.
    model
        SHA-256 of the graph.
    hashes
        Of files.

    Raises
    ------
    UsageError, RuntimeUnavailableError
        As `Hashes.of`.
    """
    chosen: dict[str, Any] = {name: getattr(options, name) for name in DECIDING}
    chosen["datetime"] = options.datetime.isoformat() if options.datetime else None
    chosen["runtime"] = options.runtime.partition("://")[0]
    if options.aoi is not None:
        chosen["aoi"] = hashes.of(os.fspath(options.aoi))
    said = {
        "hazard": scene.hazard,
        "model": model,
        "options": chosen,
        "inputs": {name: _content(name, value, hashes) for name, value in scene.inputs.items()},
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _content(name: str, value: Any, hashes: Hashes) -> Any:  # noqa: ANN401 - a field of the hazard's inputs
    if name not in PATH_COLUMNS:
        return value
    acquisitions = [value] if isinstance(value, str) else value
    return [[hashes.of(part) for part in one.split(";")] for one in acquisitions]
