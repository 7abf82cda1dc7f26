"""How one process wakes others at once: a named pipe per listener in one folder, into which a job's id is written.

A pipe without a reader refuses to be opened, so that a bell whose process was killed is found and taken down by whoever
rings next. What is rung is a hint: a listener looks into the store itself, and looks every second in any case.
"""

import errno
import os
import secrets
import select
from collections.abc import Generator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, Self

from serving.jobs.job import JOB_ID

_LINE: Final = 34
"""Bytes of a line: an id and a newline; less than the system writes in one piece."""


class Bell:
    """A listener.

    Parameters
    ----------
    folder
        Of the bells that are rung together.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside, self._path = folder / f".{secrets.token_hex(8)}", folder / secrets.token_hex(8)
        os.mkfifo(aside, 0o600)
        # Open for both, so that it never ends when the last one who rang has gone; named when it can be rung.
        self._descriptor = os.open(aside, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        aside.rename(self._path)

    def listen(self, timeout_s: float) -> list[str]:
        """Wait until it is rung, and return the ids of all that rang; empty when time has run out."""
        if not select.select([self._descriptor], [], [], timeout_s)[0]:
            return []
        try:
            heard = os.read(self._descriptor, _LINE * 4096)
        except BlockingIOError:
            return []
        return [line for line in heard.decode("ascii", "replace").split("\n") if JOB_ID.fullmatch(line)]

    def wake(self) -> None:
        """Let a `listen` of this process return, with nothing; safe in a signal handler."""
        with suppress(BlockingIOError):
            os.write(self._descriptor, b"\n")

    def close(self) -> None:
        """Take it down."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        """Return the bell, to be taken down at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def ring(folder: Path, job_id: str) -> None:
    """Wake every listener of a folder.

    Parameters
    ----------
    folder
        Of the bells; may be missing.
    job_id
        What it is about.
    """
    for descriptor in _bells(folder):
        # A full pipe has plenty to tell already.
        with suppress(BlockingIOError):
            os.write(descriptor, f"{job_id}\n".encode("ascii"))


def is_heard(folder: Path) -> bool:
    """Say whether a living process listens in a folder."""
    with closing(_bells(folder)) as bells:
        return next(bells, None) is not None


def _bells(folder: Path) -> Generator[int]:
    """Open every bell of a folder that somebody listens to; those of dead processes are taken down."""
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]  # noqa: PTH208 - names only, often
    except FileNotFoundError:
        return
    for name in names:
        path = folder / name
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ENXIO:
                path.unlink(missing_ok=True)
            elif error.errno != errno.ENOENT:
                raise
            continue
        try:
            yield descriptor
        finally:
            os.close(descriptor)
