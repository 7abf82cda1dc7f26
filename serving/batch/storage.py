"""Where a batch writes: a folder, or a prefix in a bucket. A scene's products appear whole or not at all.

Products are written aside first. In a folder they then appear by one rename; in a bucket, which has none, the class
raster is uploaded last and taken away first: where it is, the others are whole.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, Final

from serving.batch.places import away, filesystem, is_remote
from tocsin.errors import StorageFullError, UsageError

STATE: Final = ".tocsin"
"""Folder of the journal and of what is being written, below the target."""
RECEIPT: Final = ".entry.json"
"""What a worker says of a scene, beside its products until the journal says it."""
CLASS_SUFFIX: Final = "_class.tif"


def open_target(out: str) -> "BatchTarget":
    """Return the target behind a path or URL; nothing is touched yet."""
    return RemoteTarget(out) if is_remote(out) else LocalTarget(Path(out))


class LocalTarget:
    """A folder.

    Parameters
    ----------
    folder
        Its path.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().absolute()
        self.state = self.folder / STATE
        self._work = self.state / "work"

    def path(self, name: str) -> str:
        """Return the path of a name."""
        return str(self.folder / name)

    def prepare(self) -> None:
        """Make the folder, and clear what a batch that was killed left half written.

        Raises
        ------
        UsageError
            It is no folder, or cannot be written to.
        """
        with self._writable():
            self.state.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self._work, ignore_errors=True)
            self._work.mkdir(exist_ok=True)
            with self.aside() as folder:
                (folder / "probe").write_bytes(b"")

    @contextmanager
    def _writable(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise UsageError(
                f"-o {self.folder} ({error.strerror})",
                "a folder that can be written to",
                "choose another -o, or change its permissions",
            ) from error

    @contextmanager
    def lock(self) -> Generator[None]:
        """Keep any other batch away from this folder for the block.

        Raises
        ------
        UsageError
            Another batch is writing to it, or nobody can.
        """
        with ExitStack() as stack:
            with self._writable():
                self.state.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context((self.state / "lock").open("wb"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UsageError(
                    f"-o {self.folder}, to which another batch is writing",
                    "one batch at a time",
                    "wait for it or choose another -o",
                ) from error
            yield

    @contextmanager
    def aside(self) -> Generator[Path]:
        """Lend a folder on the same disk."""
        folder = self._work / secrets.token_hex(8)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, made: Path, name: str) -> None:
        """Rename a folder into place."""
        final = self.folder / name
        with _full(str(final)), self.aside() as old:
            final.parent.mkdir(parents=True, exist_ok=True)
            if final.exists():
                final.rename(old / "old")
            made.rename(final)

    def withdraw(self, name: str) -> None:
        """Take a scene's folder away, whole."""
        if (self.folder / name).exists():
            with _full(self.path(name)), self.aside() as old:
                (self.folder / name).rename(old / "old")

    def has(self, names: Iterable[str]) -> bool:
        """Say whether all of these are there."""
        return all((self.folder / name).is_file() for name in names)

    def receipt(self, name: str) -> bytes | None:
        """Return what a worker left about a scene that it finished."""
        try:
            return (self.folder / name / RECEIPT).read_bytes()
        except OSError:
            return None

    def forget_receipt(self, name: str) -> None:
        """Take it away; its folder then holds products only."""
        (self.folder / name / RECEIPT).unlink(missing_ok=True)

    @contextmanager
    def open_whole(self, name: str) -> Generator[BinaryIO]:
        """Open a file aside, and rename it into place."""
        final = self.folder / name
        with _full(str(final)), self.aside() as folder:
            final.parent.mkdir(parents=True, exist_ok=True)
            with (folder / final.name).open("w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            (folder / final.name).replace(final)

    @contextmanager
    def local(self, name: str) -> Generator[Path]:
        """Lend the file itself."""
        yield self.folder / name


class RemoteTarget:
    """A prefix in a bucket.

    Parameters
    ----------
    url
        As ``s3://bucket/prefix``.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._system, self._root = filesystem(self.url)

    def path(self, name: str) -> str:
        """Return the URL of a name."""
        return f"{self.url}/{name}"

    def prepare(self) -> None:
        """Write an object and remove it.

        Raises
        ------
        RuntimeUnavailableError
            That failed.
        """
        probe = self._name(f"{STATE}/probe-{secrets.token_hex(4)}")
        with _answering(self.url):
            self._system.pipe_file(probe, b"")
            self._system.rm_file(probe)

    @contextmanager
    def lock(self) -> Generator[None]:
        """Yield: a bucket cannot be locked."""
        yield

    @contextmanager
    def aside(self) -> Generator[Path]:
        """Lend a folder of this machine."""
        with TemporaryDirectory(prefix="tocsin-") as folder:
            yield Path(folder)

    def publish(self, made: Path, name: str) -> None:
        """Upload the files of a folder, the class raster last; an older one goes first."""
        files = sorted(path for path in made.iterdir() if path.name != RECEIPT)
        files.sort(key=lambda path: path.name.endswith(CLASS_SUFFIX))
        self.withdraw(name)
        with _answering(self.path(name)):
            for path in files:
                self._system.put_file(str(path), self._name(f"{name}/{path.name}"))

    def withdraw(self, name: str) -> None:
        """Remove a scene's objects, the class raster first."""
        for old in sorted(self.names(name), key=lambda each: not each.endswith(CLASS_SUFFIX)):
            self.remove(old)

    def has(self, names: Iterable[str]) -> bool:
        """Say whether all of these are there."""
        with _answering(self.url):
            self._system.invalidate_cache()
            return all(self._system.exists(self._name(name)) for name in names)

    def receipt(self, name: str) -> bytes | None:
        """Return nothing: what a bucket holds is in the journal or is scored again."""
        del name
        return None

    def forget_receipt(self, name: str) -> None:
        """Do nothing."""

    @contextmanager
    def open_whole(self, name: str) -> Generator[BinaryIO]:
        """Open a file of this machine, and upload it when the block ends."""
        with self.aside() as folder:
            here = folder / Path(name).name
            with here.open("w+b") as file:
                yield file
            with _answering(self.path(name)):
                self._system.put_file(str(here), self._name(name))

    @contextmanager
    def local(self, name: str) -> Generator[Path]:
        """Download a file for the block."""
        with self.aside() as folder:
            here = folder / Path(name).name
            self._system.get_file(self._name(name), str(here))
            yield here

    def names(self, folder: str) -> list[str]:
        """Return the names of the objects in a folder, sorted."""
        found: list[str] = []
        with _answering(self.path(folder)):
            self._system.invalidate_cache()
            if self._system.exists(self._name(folder)):
                found = [Path(str(each)).name for each in self._system.ls(self._name(folder), detail=False)]
        return sorted(f"{folder}/{name}" for name in found)

    def remove(self, name: str) -> None:
        """Remove an object."""
        with _answering(self.path(name)):
            self._system.rm_file(self._name(name))

    def _name(self, name: str) -> str:
        return f"{self._root}/{name}"


BatchTarget = LocalTarget | RemoteTarget
"""The place of a batch: every name is relative to it, with slashes."""


@contextmanager
def _full(where: str) -> Generator[None]:
    """Say of a disk that fails why it does."""
    try:
        yield
    except OSError as error:
        raise StorageFullError(
            f"{where} ({error.strerror or error})", "room for the products", "free some space or choose another -o"
        ) from error


@contextmanager
def _answering(url: str) -> Generator[None]:
    """Say of a bucket that fails that it may pass: obstore raises a dozen types, below OSError and below its own."""
    from obstore.exceptions import BaseError

    try:
        yield
    except (OSError, BaseError) as error:
        raise away(url, error) from error
