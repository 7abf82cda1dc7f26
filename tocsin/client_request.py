"""What a scoring request to a service holds: files that are sent, or references that it fetches, and values."""

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from tocsin.client_wire import Form
from tocsin.errors import UsageError
from tocsin.result import Hazard

FILES: Final[Mapping[Hazard, tuple[str, ...]]] = MappingProxyType(
    {
        "flood": ("post", "pre", "reference_water", "dem", "exclude", "aoi"),
        "landslide": ("pre", "post", "dem", "exclude", "aoi"),
        "volcano": ("interferogram", "coherence", "aoi"),
    }
)
"""Inputs of each hazard that are files."""
ACQUISITIONS: Final = frozenset({"pre", "post"})
SCHEMES: Final = ("https://", "http://", "s3://")
"""What is no file of this machine: the service fetches it, if its operator allows the host."""


def known_hazard(hazard: str) -> Hazard:
    """Return the hazard.

    Raises
    ------
    UsageError
        There is no such hazard.
    """
    for known in FILES:
        if known == hazard:
            return known
    raise UsageError(f"hazard {hazard!r}", f"one of {', '.join(FILES)}", "choose one of these")


def body_of(hazard: Hazard, named: Mapping[str, Any]) -> Form | dict[str, object]:
    """Return the body of a request: a form when files are given, JSON when references are.

    Parameters
    ----------
    hazard
        flood, landslide or volcano.
    named
        Inputs and options by name; None is left out. What is no file goes as it is: the service knows its fields.

    Raises
    ------
    UsageError
        A file is not there, or files and references are mixed.
    """
    given = {name: value for name, value in named.items() if value is not None}
    hrefs = {name: _listed(given[name]) for name in FILES[hazard] if name in given}
    values = {name: value for name, value in given.items() if name not in hrefs}
    every = [href for group in hrefs.values() for href in group]
    references = [href for href in every if href.startswith(SCHEMES)]
    if references and len(references) < len(every):
        raise UsageError(
            f"{references[0]} beside files of this machine", "one of both", "download it first, and give its path"
        )
    if references:
        alone = {name: group if isinstance(given[name], list | tuple) else group[0] for name, group in hrefs.items()}
        return {**alone, **{name: _plain(value) for name, value in values.items()}}
    files = [(name, path) for name, group in hrefs.items() for href in group for path in _files(name, href)]
    return Form(tuple(files), tuple((name, _text(value)) for name, value in values.items()))


def scene_id(body: Form | dict[str, object]) -> str | None:
    """Return what product names will begin with, None when only the service can tell."""
    files = body.files if isinstance(body, Form) else ()
    scenes = [path for name, path in files if name in {"post", "interferogram"}]
    return scenes[0].stem if len(scenes) == 1 else None


def _listed(value: object) -> list[str]:
    return [os.fspath(each) for each in value] if isinstance(value, list | tuple) else [os.fspath(value)]  # type: ignore[call-overload] # what is no path raises TypeError


def _files(name: str, href: str) -> tuple[Path, ...]:
    """Return the files behind an input: of an acquisition also a folder or a pair."""
    from tocsin.raster import acquisition_files, locate

    found = acquisition_files(href) if name in ACQUISITIONS else (locate(href),)
    for path in found:
        if not path.is_file():
            raise UsageError(f"{path}, which is a folder", "a file", "give the file itself")
    return found


def _plain(value: object) -> object:
    return _text(value) if isinstance(value, datetime | os.PathLike) else value


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, datetime) else str(value)
