"""From rows of a manifest to scenes in the order of their scoring; what can be known to be wrong is refused here."""

import math
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from serving.batch.places import is_remote, resolve
from tocsin.errors import UsageError
from tocsin.hazards.flood import FloodInputs
from tocsin.hazards.landslide import LandslideInputs
from tocsin.hazards.volcano import VolcanoInputs
from tocsin.raster.backscatter import acquisition_name
from tocsin.result import Hazard
from tocsin.scoring_job import ScoringOptions

INPUTS: Final[Mapping[Hazard, type[BaseModel]]] = {
    "flood": FloodInputs,
    "landslide": LandslideInputs,
    "volcano": VolcanoInputs,
}
OPTION_COLUMNS: Final = ("aoi", "datetime", "threshold")
"""Options of a scoring that a row may give for its scene; they come before those of the command."""
PATH_COLUMNS: Final = frozenset(
    {"post", "pre", "reference_water", "dem", "exclude", "interferogram", "coherence", OPTION_COLUMNS[0]}
)
SERIES_COLUMNS: Final = frozenset({"pre", "post"})
"""Columns that may hold several acquisitions, for a landslide."""
OWN_COLUMNS: Final = ("hazard", "id", "priority")
COLUMNS: Final = (
    *OWN_COLUMNS,
    *dict.fromkeys(name for inputs in INPUTS.values() for name in inputs.model_fields),
    *OPTION_COLUMNS,
)
SAFE_ID: Final = re.compile(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]{0,199}")
SHOWN: Final = 5
"""Problems that a refusal names one by one."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a manifest: where it stands, for messages, and its cells that are not empty, by column."""

    where: str
    cells: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Scene:
    """One scene to score.

    Attributes
    ----------
    id, hazard
        Products go to ``DIR/HAZARD/ID``.
    inputs
        Fields of the hazard's inputs; every path absolute, or a URL.
    options
        Fields of `ScoringOptions` that this scene has its own.
    priority
        Larger is sooner.
    size
        Bytes of the main input, 0 when unknown; of two scenes of one priority the larger is scored first, so that the
        last workers to finish are busy for seconds and not for an hour.
    """

    id: str
    hazard: Hazard
    inputs: Mapping[str, Any]
    options: Mapping[str, Any]
    priority: float = 0.0
    size: int = 0

    @property
    def name(self) -> tuple[Hazard, str]:
        """What tells scenes of a batch apart."""
        return self.hazard, self.id


def plan_scenes(rows: Iterable[Row], base: str, hazard: Hazard | None = None) -> list[Scene]:
    """Return the scenes of a manifest in the order of their scoring.

    Parameters
    ----------
    rows
        Of the manifest.
    base
        Folder or URL that relative paths are relative to.
    hazard
        Of rows that do not say it.

    Raises
    ------
    UsageError
        No row; or rows that are wrong, of which the first few are named.
    """
    scenes: list[Scene] = []
    problems: list[str] = []
    taken: dict[tuple[Hazard, str], tuple[str, str]] = {}
    for row in rows:
        try:
            scene = _scene(row, base, hazard)
        except _WrongRowError as wrong:
            problems.append(f"{row.where}: {wrong}")
            continue
        # Names that differ in case or composition only are one name on the disks of many desks.
        plain = (scene.hazard, unicodedata.normalize("NFC", scene.id).casefold())
        first, where = taken.setdefault(plain, (scene.id, row.where))
        if where != row.where:
            how = (
                f"id {scene.id!r} is that of" if first == scene.id else f"id {scene.id!r} would overwrite {first!r} of"
            )
            problems.append(f"{row.where}: {how} {where}, for {scene.hazard}")
        scenes.append(scene)
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise UsageError("; ".join(problems[:SHOWN]) + more, "rows that can all be scored", "mend the manifest")
    if not scenes:
        raise UsageError("a manifest without a scene", "at least one", "check the manifest, or the folder or pattern")
    return sorted(scenes, key=lambda scene: (-scene.priority, -scene.size, scene.hazard, scene.id))


class _WrongRowError(ValueError):
    """A row that cannot be scored; says why in half a sentence."""


def _scene(row: Row, base: str, default: Hazard | None) -> Scene:
    hazard = _hazard(row.cells.get("hazard"), default)
    model = INPUTS[hazard]
    cells = {name: value for name, value in row.cells.items() if name not in OWN_COLUMNS}
    foreign = sorted(set(cells) - set(model.model_fields) - set(OPTION_COLUMNS))
    if foreign:
        raise _WrongRowError(f"{', '.join(foreign)} is no input of {hazard}")
    values = {name: _value(hazard, name, text, base) for name, text in cells.items()}
    options: dict[str, Any] = {name: values.pop(name) for name in OPTION_COLUMNS if name in values}
    try:
        inputs = model(**values).model_dump(exclude_defaults=True)
        ScoringOptions(**options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _WrongRowError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    main = next(iter(model.model_fields))
    first_file = inputs[main] if isinstance(inputs[main], str) else inputs[main][0]
    scene_id = row.cells.get("id") or default_id(first_file)
    if not SAFE_ID.fullmatch(scene_id):
        raise _WrongRowError(
            f"id {scene_id!r} is no name of a folder: no slash, no leading dot, at most 200 characters"
        )
    return Scene(scene_id, hazard, inputs, options, _priority(row.cells.get("priority")), _size(first_file))


def _hazard(text: str | None, default: Hazard | None) -> Hazard:
    if text is None and default is not None:
        return default
    for known in INPUTS:
        if text == known:
            return known
    said = "no hazard" if text is None else f"hazard {text!r}"
    raise _WrongRowError(f"{said}, which is none of {', '.join(INPUTS)}")


def _value(hazard: Hazard, name: str, text: str, base: str) -> Any:  # noqa: ANN401 - a cell; the model of the hazard checks it
    if name not in PATH_COLUMNS:
        return text
    acquisitions = [";".join(resolve(part.strip(), base) for part in one.split(";")) for one in text.split("|")]
    if any(not part for one in acquisitions for part in one.split(";")):
        raise _WrongRowError(f"{name} {text!r} names an empty path")
    if len(acquisitions) == 1:
        return acquisitions[0]
    if hazard != "landslide" or name not in SERIES_COLUMNS:
        raise _WrongRowError(f"{name} of {hazard} holds {len(acquisitions)} acquisitions, and one is read")
    return tuple(acquisitions)


def _priority(text: str | None) -> float:
    try:
        value = float(text or 0)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _WrongRowError(f"priority {text!r} is no number")
    return value


def default_id(href: str) -> str:
    """Return the id of a scene whose row gives none: the stem of its file, or the name of its folder."""
    return Path(href).name if not is_remote(href) and Path(href).is_dir() else acquisition_name(href)


def _size(href: str) -> int:
    try:
        return sum(_bytes(Path(part)) for part in href.split(";") if not is_remote(part))
    except OSError:
        return 0


def _bytes(path: Path) -> int:
    return sum(entry.stat().st_size for entry in _files(path))


def _files(path: Path) -> Iterator[os.DirEntry[str] | Path]:
    if path.is_dir():
        with os.scandir(path) as found:
            yield from (entry for entry in found if entry.is_file())
    else:
        yield path
