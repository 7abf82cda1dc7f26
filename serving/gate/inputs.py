"""Which inputs of a hazard are files, how they may be called, and how files become the names that a scoring takes."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tocsin.errors import UsageError
from tocsin.result import Hazard

ACQUISITIONS: Final = frozenset({"pre", "post"})
"""Inputs that are SAR acquisitions: one file, or one for each polarisation."""

FILES: Final[Mapping[Hazard, Mapping[str, int]]] = MappingProxyType(
    {
        "flood": MappingProxyType({"post": 2, "pre": 2, "reference_water": 1, "dem": 1, "exclude": 1, "aoi": 1}),
        "landslide": MappingProxyType({"pre": 6, "post": 6, "dem": 1, "exclude": 1, "aoi": 1}),
        "volcano": MappingProxyType({"interferogram": 1, "coherence": 1, "aoi": 1}),
    }
)
"""Inputs of each hazard that are files, with the most files of each: two polarisations of each acquisition."""

NAME_LENGTH: Final = 120
"""Longest name of a file, characters: product names begin with it."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_POLARISATION = re.compile(r"[_\-. ]*(?<![A-Za-z])(VV|VH)(?![A-Za-z])", re.IGNORECASE)

Files = Mapping[str, Sequence[Path]]


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a request may hold.

    Attributes
    ----------
    hazard : str
        flood, landslide or volcano.
    fields : frozenset of str
        Names of parts that are text: options.
    """

    hazard: Hazard
    fields: frozenset[str] = field(default_factory=frozenset)

    @property
    def files(self) -> Mapping[str, int]:
        """Names of parts that are files, with the most of each."""
        return FILES[self.hazard]

    def check_file(self, name: str, already: int) -> None:
        """Refuse a file that nothing takes.

        Parameters
        ----------
        name
            Of the input.
        already
            Files of that name so far.

        Raises
        ------
        UsageError
            No such input, or too many files of it.
        """
        most = self.files.get(name)
        if most is None:
            known = ", ".join(self.files)
            raise UsageError(f"a file {name[:80]!r}", f"files of {self.hazard}: {known}", "use one of these names")
        if already >= most:
            raise UsageError(f"more than {most} files {name}", f"at most {most}", "leave the others out")


def safe_name(given: str) -> str:
    """Return the name under which a file is kept: its last part, in letters, digits, dot, dash and underscore.

    Acquisition time, polarisation and the id of the scene are read from it, so that it stays as it is where it can.

    Raises
    ------
    UsageError
        Nothing is left of it, or it is too long.
    """
    last = re.split(r"[/\\]", given)[-1]
    name = _UNSAFE.sub("_", last).lstrip(".-_ ")
    if not name.rstrip("._-"):
        raise UsageError(f"a file called {last[:80]!r}", "a name with letters or digits", "name the file")
    if len(name) > NAME_LENGTH:
        raise UsageError(f"a file name of {len(name)} characters", f"at most {NAME_LENGTH}", "shorten the name")
    return name


def place(folder: Path, name: str, index: int, given: str) -> Path:
    """Return where a file is kept: in a folder of its own, so that two files may have the same name.

    Parameters
    ----------
    folder
        Of the job's inputs.
    name
        Of the input.
    index
        Files of that name before it.
    given
        What the client calls the file.
    """
    return folder / f"{name}-{index}" / safe_name(given)


def scoring_inputs(hazard: Hazard, files: Files) -> dict[str, str | tuple[str, ...]]:
    """Return files as the inputs that `tocsin.score` takes by name; ``aoi``, an option of it, is among them.

    Two files whose names differ by VV and VH only are one acquisition.

    Parameters
    ----------
    hazard
        flood, landslide or volcano.
    files
        By input, in the order given.

    Raises
    ------
    UsageError
        Several acquisitions where one is taken.
    """
    inputs: dict[str, str | tuple[str, ...]] = {}
    for name, paths in files.items():
        hrefs = _acquisitions(paths) if name in ACQUISITIONS else tuple(map(str, paths))
        if hazard == "landslide" and name in ACQUISITIONS:
            inputs[name] = hrefs
        elif len(hrefs) == 1:
            inputs[name] = hrefs[0]
        else:
            names = ", ".join(path.name for path in paths)
            raise UsageError(
                f"{len(hrefs)} acquisitions as {name} ({names})",
                "one file with VV and VH, or two whose names differ by VV and VH only",
                "send one acquisition",
            )
    return inputs


def _acquisitions(paths: Sequence[Path]) -> tuple[str, ...]:
    """Join the polarisations of each acquisition, in the order in which acquisitions first appear."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        groups[_POLARISATION.sub("", path.stem).lower()].append(path)
    hrefs: list[str] = []
    for group in groups.values():
        by_polarisation = {_polarisation(path): str(path) for path in group}
        if len(group) == 2 and by_polarisation.keys() == {"VV", "VH"}:
            hrefs.append(f"{by_polarisation['VV']};{by_polarisation['VH']}")
        else:
            hrefs.extend(map(str, group))
    return tuple(hrefs)


def _polarisation(path: Path) -> str:
    """Return the last polarisation that a name holds, which decides; empty without one."""
    return "".join(_POLARISATION.findall(path.stem)[-1:]).upper()
