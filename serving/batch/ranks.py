"""Scenes of a batch with their place in the order of `serving.batch.findings`, whatever the order in which they came.

What is known of a scene lies in a scratch file; in memory stay the figures by which it is ranked, 300 bytes a scene.
"""

import math
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from serving.batch.entry import Entry
from serving.batch.findings import Finding, finding_of, interleave
from tocsin.result import Hazard


@dataclass(frozen=True, slots=True)
class Ranked:
    """A scene with a place.

    Attributes
    ----------
    entry : Entry
        What the journal says.
    finding : Finding or None
        None when the scene failed.
    rank, hazard_rank : int or None
        Place among all scenes and among those of its hazard, from 1; None when nothing was found.
    """

    entry: Entry
    finding: Finding | None
    rank: int | None
    hazard_rank: int | None


@dataclass(frozen=True, slots=True)
class _Key:
    """What one scene is ranked by, and where it lies in the scratch file."""

    figures: tuple[float, ...]
    priority: float
    id: str
    offset: int


class RankedEntries(AbstractContextManager["RankedEntries"]):
    """The entries of a batch, read once, to be gone through again with their ranks; leaving the block forgets them.

    Parameters
    ----------
    entries : iterable of Entry
        Each scene once.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__, or here
        try:
            keys: dict[Hazard, list[_Key]] = defaultdict(list)
            for entry in entries:
                offset = self._file.tell()
                self._file.write(entry.model_dump_json().encode() + b"\n")
                finding = None if entry.result is None else finding_of(entry.result)
                if finding is not None and finding.tone == "found":
                    keys[entry.hazard].append(_Key(finding.figures, entry.priority, entry.id, offset))
        except BaseException:
            self._file.close()
            raise
        lists = [[key.offset for key in _in_order(keys[hazard], hazard)] for hazard in sorted(keys)]
        numbered = [list(enumerate(offsets, 1)) for offsets in lists]
        self._places = {
            offset: (rank, hazard_rank) for rank, (hazard_rank, offset) in enumerate(interleave(numbered), 1)
        }
        self.found = {hazard: len(keys[hazard]) for hazard in sorted(keys)}

    def __iter__(self) -> Iterator[Ranked]:
        """Yield every scene in the order in which they came."""
        offset = 0
        while True:
            self._file.seek(offset)
            line = self._file.readline()
            if not line:
                return
            yield self._ranked(line, offset)
            offset += len(line)

    def in_order(self) -> Iterator[Ranked]:
        """Yield the scenes with a finding, the first to go to first."""
        for offset in self._places:
            self._file.seek(offset)
            yield self._ranked(self._file.readline(), offset)

    def _ranked(self, line: bytes, offset: int) -> Ranked:
        entry = Entry.model_validate_json(line)
        rank, hazard_rank = self._places.get(offset, (None, None))
        return Ranked(entry, None if entry.result is None else finding_of(entry.result), rank, hazard_rank)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _in_order(keys: list[_Key], hazard: Hazard) -> list[_Key]:
    """Sort the scenes of one hazard, the first to go to first."""
    # An exact sum, so that no order of the journal changes a rank.
    totals = [math.fsum(amounts) or 1.0 for amounts in zip(*(key.figures for key in keys), strict=True)]

    def place(key: _Key) -> tuple[tuple[float, ...], float, str]:
        figures = key.figures
        if hazard == "landslide":
            figures = (max(part / total for part, total in zip(figures, totals, strict=True)),)
        return tuple(-figure for figure in figures), -key.priority, key.id

    return sorted(keys, key=place)
