"""The journal of a batch: one line a scene, appended and synced before the next scene counts.

Of several lines about one scene the last one holds. A line that a kill cut short is cut off. In a bucket, where nothing
can be appended to, lines go up as numbered segments; the end of a batch joins them.
"""

import io
import logging
import os
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from pydantic import ValidationError

from serving.batch.entry import Entry
from serving.batch.storage import STATE, BatchTarget, LocalTarget, RemoteTarget
from tocsin.result import Hazard

FILE: Final = f"{STATE}/journal.jsonl"
SEGMENTS: Final = f"{STATE}/journal"
SEGMENT_S: Final = 2.0
"""How long lines wait for others before they go to a bucket together."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Noted:
    """What the journal knows of a scene: where its line begins, and what decides whether it is done again."""

    at: int
    key: str | None
    code: str | None


class Upstream(Protocol):
    """Where lines go beside the local file."""

    def send(self, lines: bytes) -> None:
        """Keep these lines."""

    def join(self, file: io.BufferedRandom) -> None:
        """Keep the whole file in place of its lines."""


class Journal:
    """Lines in a local file, and where each scene's last line begins. Made by `open_journal`.

    Parameters
    ----------
    file
        Open for reading and writing; read to its end.
    upstream
        Where lines go as well.
    """

    def __init__(self, file: io.BufferedRandom, upstream: Upstream | None = None) -> None:
        self._file = file
        self._upstream = upstream
        self._waiting = bytearray()
        self._sent_at = time.monotonic()
        self._noted: dict[tuple[Hazard, str], Noted] = {}
        self._read()

    def noted(self, name: tuple[Hazard, str]) -> Noted | None:
        """Return what is known of a scene."""
        return self._noted.get(name)

    def append(self, entry: Entry) -> None:
        """Write a line; when this returns, it survives a kill."""
        line = entry.model_dump_json().encode() + b"\n"
        at = self._file.seek(0, os.SEEK_END)
        self._file.write(line)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._note(at, entry)
        if self._upstream is not None:
            self._waiting += line
            if time.monotonic() - self._sent_at >= SEGMENT_S:
                self.send()

    def send(self) -> None:
        """Send the lines that wait, where there is somewhere to send them."""
        if self._upstream is not None and self._waiting:
            self._upstream.send(bytes(self._waiting))
            self._waiting.clear()
            self._sent_at = time.monotonic()

    def join(self) -> None:
        """End a batch."""
        self.send()
        if self._upstream is not None:
            self._file.seek(0)
            self._upstream.join(self._file)

    def entry(self, name: tuple[Hazard, str]) -> Entry:
        """Return the last line about a scene."""
        self._file.seek(self._noted[name].at)
        return Entry.model_validate_json(self._file.readline())

    def entries(self, names: Iterable[tuple[Hazard, str]]) -> Iterator[Entry]:
        """Return the last line about each of these scenes, in their order; one that has none is left out."""
        return (self.entry(name) for name in names if name in self._noted)

    def _note(self, at: int, entry: Entry) -> None:
        code = entry.error.code if entry.error else None
        self._noted[entry.hazard, entry.id] = Noted(at, entry.key, code)

    def _read(self) -> None:
        self._file.seek(0)
        at = 0
        while line := self._file.readline():
            if not line.endswith(b"\n"):
                self._file.truncate(at)
                break
            try:
                self._note(at, Entry.model_validate_json(line))
            except ValidationError:
                logger.warning("the journal's line at byte %d cannot be read: its scene is done again", at)
            at += len(line)


@contextmanager
def open_journal(target: BatchTarget) -> Generator[Journal]:
    """Open the journal of a target, or begin one."""
    if isinstance(target, LocalTarget):
        path = target.folder / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        with path.open("r+b") as file:
            yield Journal(file)
        return
    with target.aside() as folder, (folder / "journal").open("w+b") as file:
        bucket = _Bucket(target)
        for name in bucket.names():
            with target.local(name) as segment:
                file.write(segment.read_bytes())
        journal = Journal(file, bucket)
        try:
            yield journal
        finally:
            journal.send()


class _Bucket:
    """Segments of a journal in a bucket."""

    def __init__(self, target: RemoteTarget) -> None:
        self._target = target
        self._segments = target.names(SEGMENTS)

    def names(self) -> list[str]:
        """Return the objects that hold the journal so far, oldest first."""
        whole = FILE in self._target.names(STATE)
        return [*([FILE] if whole else []), *self._segments]

    def send(self, lines: bytes) -> None:
        """Keep lines as a segment of their own."""
        last = int(self._segments[-1].rsplit("/", 1)[1].removesuffix(".jsonl")) if self._segments else 0
        name = f"{SEGMENTS}/{last + 1:08d}.jsonl"
        with self._target.open_whole(name) as file:
            file.write(lines)
        self._segments.append(name)

    def join(self, file: io.BufferedRandom) -> None:
        """Keep one file; segments go after it is there."""
        with self._target.open_whole(FILE) as whole:
            for block in iter(lambda: file.read(1 << 20), b""):
                whole.write(block)
        while self._segments:
            self._target.remove(self._segments.pop(0))
