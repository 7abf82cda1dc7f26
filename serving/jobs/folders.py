"""The state folder: a folder per job, and a file per open job whose lock says which process works on it.

The kernel frees the lock of a process that was killed, at once and in every case. So nobody guesses from the age of a
heartbeat whether a worker still lives, and a worker that was only slow never loses its job to another one.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from serving.jobs.job import JOB_ID

PARTIAL: Final = "out.partial-"
RESULT: Final = ".result.json"
"""Beside the products: a worker that was killed before it told the store is told by it."""


class Lease:
    """One open job, held by this process until it is given back, ended, or the process dies."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor: int | None = descriptor

    def give_back(self) -> None:
        """Let another one hold the job; calling it again does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def end(self) -> None:
        """Take the job off the open ones."""
        self._path.unlink(missing_ok=True)
        self.give_back()


class Folders:
    """Paths below the state folder.

    Parameters
    ----------
    state
        Made when missing, for this user only.
    """

    def __init__(self, state: Path) -> None:
        self.state = state.absolute()
        self.jobs = self.state / "jobs"
        self.open = self.state / "open"
        self.hooks = self.state / "webhooks"
        self.work_bells = self.state / "bells" / "work"
        self.ended_bells = self.state / "bells" / "ended"
        for folder in (self.state, self.jobs, self.open, self.hooks, self.work_bells, self.ended_bells):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def job(self, job_id: str) -> Path:
        """Return the folder of a job, which may not be there."""
        return self.jobs / job_id

    def out(self, job_id: str) -> Path:
        """Return the folder of a job's products, which appears whole."""
        return self.jobs / job_id / "out"

    def make(self, job_id: str) -> Path:
        """Make the folder of a job to come, and return it."""
        (self.job(job_id) / "in").mkdir(mode=0o700, parents=True)
        return self.job(job_id)

    def remove(self, job_id: str) -> None:
        """Remove the folder of a job, so that its products vanish at once."""
        gone = self.state / f".gone-{job_id}"
        with suppress(FileNotFoundError):
            self.job(job_id).rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def remove_gone(self) -> None:
        """Finish what a removal that was killed has left."""
        for path in self.state.glob(".gone-*"):
            shutil.rmtree(path, ignore_errors=True)

    def untouched_s(self, job_id: str) -> float:
        """Seconds since anything in a job's folder or its `in` was written to."""
        changed = 0.0
        folder = self.job(job_id)
        for path in (folder, *folder.glob("in"), *folder.glob("in/*")):
            with suppress(FileNotFoundError):
                changed = max(changed, path.stat().st_mtime)
        return time.time() - changed

    def ids(self) -> list[str]:
        """Return the jobs that have a folder, newest first."""
        return sorted(filter(JOB_ID.fullmatch, os.listdir(self.jobs)), reverse=True)  # noqa: PTH208 - ten thousand names, no paths

    def open_ids(self) -> list[str]:
        """Return the jobs that were accepted and have not ended, oldest first."""
        return sorted(filter(JOB_ID.fullmatch, os.listdir(self.open)))  # noqa: PTH208 - same

    def open_one(self, job_id: str) -> None:
        """Count a job among the open ones."""
        (self.open / job_id).touch(mode=0o600)

    def close_one(self, job_id: str) -> None:
        """Take a job off the open ones that nobody holds."""
        (self.open / job_id).unlink(missing_ok=True)

    def is_open(self, job_id: str) -> bool:
        """Say whether a job was accepted and has not ended."""
        return (self.open / job_id).exists()

    def opened_s(self, job_id: str) -> float:
        """Seconds since a job was opened; 0 when it is not."""
        with suppress(FileNotFoundError):
            return max(time.time() - (self.open / job_id).stat().st_mtime, 0.0)
        return 0.0

    def hold(self, job_id: str) -> Lease | None:
        """Hold an open job, unless a living process does or it has ended."""
        path = self.open / job_id
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            if _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB) and _is_file_of(path, descriptor):
                return Lease(path, descriptor)
            os.close(descriptor)
        return None

    @contextmanager
    def alone(self, name: str) -> Generator[None]:
        """Keep every other process out of the block of this name."""
        descriptor = self._lock_file(name)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def first(self, name: str) -> int | None:
        """Return a descriptor that keeps every other process from having one of this name, None if another has it."""
        descriptor = self._lock_file(name)
        if _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):
            return descriptor
        os.close(descriptor)
        return None

    def _lock_file(self, name: str) -> int:
        return os.open(self.state / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def partial(self, job_id: str, attempt: int) -> Path:
        """Return where an attempt writes its products before they appear."""
        return self.job(job_id) / f"{PARTIAL}{attempt}"

    def hook(self, job_id: str) -> Path:
        """Return the file that says that somebody is to be told of a job's end."""
        return self.hooks / job_id

    def hooked_ids(self) -> list[str]:
        """Return the jobs of whose end somebody is to be told."""
        return sorted(filter(JOB_ID.fullmatch, os.listdir(self.hooks)))  # noqa: PTH208 - names only

    def clear_partial(self, job_id: str) -> None:
        """Remove what attempts left that did not end."""
        for path in self._partials(job_id):
            shutil.rmtree(path, ignore_errors=True)

    def clear(self, job_id: str) -> None:
        """Remove all that a job which is over needs no more: what was uploaded, and what attempts left."""
        self.clear_partial(job_id)
        shutil.rmtree(self.job(job_id) / "in", ignore_errors=True)

    def _partials(self, job_id: str) -> Iterator[Path]:
        return self.job(job_id).glob(f"{PARTIAL}*")


def _lock(descriptor: int, how: int) -> bool:
    """Lock a file; say whether it worked."""
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        return False
    return True


def _is_file_of(path: Path, descriptor: int) -> bool:
    """Say whether a path still is the file of a descriptor: another process may have removed it before the lock."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
