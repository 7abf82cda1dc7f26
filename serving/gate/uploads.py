"""Multipart requests, streamed to files in a private folder.

The event loop only gathers bytes, 1 MiB at a time; parsing and writing happen in threads. So memory does not grow with
the upload, a slow disk slows the sender and nobody else, and a slow sender holds no thread.
"""

import errno
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Final, TypeVar

from anyio import CancelScope, CapacityLimiter, fail_after, to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from serving.gate.inputs import Accepted, place
from serving.settings import ServiceSettings
from tocsin.errors import (
    DeadlineExceededError,
    ForbiddenReferenceError,
    StorageFullError,
    TocsinError,
    TooLargeError,
    TruncatedError,
    UsageError,
)
from tocsin.raster.locating import REFERENCE

BLOCK_BYTES: Final = 1 << 20
"""What is gathered before a thread is asked to parse and write it."""
MOST_FIELDS: Final = 64
"""Text parts of one request."""
FIELD_BYTES: Final = 16 << 10
"""Longest text part."""
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

ReturnT = TypeVar("ReturnT")

DISK = CapacityLimiter(16)
"""Threads that write for clients at a time, apart from those of everybody else."""


@dataclass(frozen=True, slots=True)
class Received:
    """What a request brought.

    Attributes
    ----------
    files : dict
        Paths by input, in the order sent.
    fields : dict
        Texts by name; several parts of one name are a list.
    """

    files: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    fields: dict[str, str | list[str]] = field(default_factory=dict)


async def receive(request: Request, folder: Path, accepted: Accepted, settings: ServiceSettings) -> Received:
    """Stream a multipart request into a folder.

    Parameters
    ----------
    request
        Whose body nobody has read.
    folder
        Made here, for this user only; removed again when the request is refused.
    accepted
        Inputs and options that the request may hold.
    settings
        Limits on bytes and time.

    Raises
    ------
    UsageError
        No multipart request, a malformed one, an unknown name, or too many parts.
    ForbiddenReferenceError
        A path or an address in the place of a file.
    TooLargeError, StorageFullError
        More bytes than accepted, or than there is room for.
    DeadlineExceededError
        The sender stopped sending.
    TruncatedError
        The body ends early.
    starlette.requests.ClientDisconnect
        The sender went away.
    """
    sink = _Sink(folder, accepted, _boundary(request))
    announced = _announced(request, settings)
    try:
        await make_private(folder, announced)
        async for block in _blocks(request, settings):
            await to_thread.run_sync(on_disk, sink.feed, block, limiter=DISK)
        return await to_thread.run_sync(on_disk, sink.finish, limiter=DISK)
    except BaseException:
        with CancelScope(shield=True):
            await to_thread.run_sync(sink.close)
            await discard(folder)
        raise


async def make_private(folder: Path, expected_bytes: int = 0) -> None:
    """Make a folder that only this user can enter.

    Parameters
    ----------
    folder
        Not there yet, or empty.
    expected_bytes
        What will be written to it.

    Raises
    ------
    StorageFullError
        There is no room for so much.
    """

    def make() -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        if expected_bytes > shutil.disk_usage(folder).free:
            raise no_room(f"{expected_bytes} bytes")

    await to_thread.run_sync(on_disk, make)


def open_private(path: Path) -> FileIO:
    """Open a new file, in a folder that is there, that only this user can read."""
    return FileIO(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w")


def write_all(file: FileIO, block: bytes | memoryview) -> None:
    """Write a block to its end: one call may write less."""
    rest = memoryview(block)
    while rest:
        rest = rest[file.write(rest) :]


async def discard(folder: Path) -> None:
    """Remove a folder and all in it, whatever state it is in."""
    await to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))


def no_room(given: str) -> StorageFullError:
    """Return the error of a disk that is full."""
    return StorageFullError(given, "room on the disk of the service", "try again later, or tell who runs the service")


def too_many_bytes(given: str, limit: int) -> TooLargeError:
    """Return the error of a body over the limit."""
    return TooLargeError(given, f"at most {limit} bytes in one request", "cut the scene to the area of interest")


def on_disk(work: Callable[..., ReturnT], *arguments: object) -> ReturnT:
    """Run what writes; a full disk is an error of ours."""
    try:
        return work(*arguments)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise no_room("an upload for which the disk has no room") from error
        raise


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise UsageError(
            f"a body of type {kind.decode('latin-1')[:80] or 'unknown'}",
            "multipart/form-data with a boundary",
            "send files as a form: curl -F post=@scene.tif",
        )
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise UsageError(f"a body in Content-Encoding {encoding[:20]}", "a body as it is", "send it uncompressed")
    return boundary


def _announced(request: Request, settings: ServiceSettings) -> int:
    """Return the bytes that the header promises, 0 when it does not; refuse too many."""
    said = request.headers.get("content-length", "0")
    announced = int(said) if said.isdecimal() else 0
    if announced > settings.max_body_bytes:
        raise too_many_bytes(f"a body of {announced} bytes", settings.max_body_bytes)
    return announced


async def _blocks(request: Request, settings: ServiceSettings) -> AsyncIterator[bytes]:
    """Yield the body in blocks of at least `BLOCK_BYTES` but the last."""
    stream, gathered, size, total = request.stream(), list[bytes](), 0, 0
    while True:
        try:
            with fail_after(settings.upload_idle_s):
                chunk = await anext(stream, None)
        except TimeoutError as error:
            raise DeadlineExceededError(
                f"an upload that stood still for {settings.upload_idle_s:g} s after {total} bytes",
                "a body that keeps coming",
                "send it again over a better line",
            ) from error
        if chunk is None:
            break
        total += len(chunk)
        if total > settings.max_body_bytes:
            raise too_many_bytes(f"a body of {total} bytes and more", settings.max_body_bytes)
        gathered.append(chunk)
        size += len(chunk)
        if size >= BLOCK_BYTES:
            yield b"".join(gathered)
            gathered.clear()
            size = 0
    if gathered:
        yield b"".join(gathered)


class _Sink:
    """Takes a multipart body apart: files go to disk as they come, texts are kept. For one thread at a time."""

    def __init__(self, folder: Path, accepted: Accepted, boundary: bytes) -> None:
        self._folder = folder
        self._accepted = accepted
        self._files: dict[str, list[Path]] = {}
        self._fields: dict[str, list[str]] = {}
        self._ended = False
        self._forget_part()
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._forget_part,
                    "on_header_field": self._header_name,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._begin,
                    "on_part_data": self._data,
                    "on_part_end": self._end,
                    "on_end": self._all,
                },
            )
        except FormParserError as error:
            raise _malformed(error) from error

    def feed(self, block: bytes) -> None:
        """Parse and write one block."""
        try:
            self._parser.write(block)
        except FormParserError as error:
            raise _malformed(error) from error

    def finish(self) -> Received:
        """Return what came, after the last block."""
        self._parser.finalize()
        self.close()
        if not self._ended:
            raise TruncatedError("a form that ends before its last boundary", "a whole body", "send it again")
        fields: dict[str, str | list[str]] = {
            name: texts[0] if len(texts) == 1 else texts for name, texts in self._fields.items()
        }
        return Received({name: tuple(paths) for name, paths in self._files.items()}, fields)

    def close(self) -> None:
        """Close the file that is being written."""
        if self._file is not None:
            self._file.close()

    def _forget_part(self) -> None:
        self._header, self._value = b"", b""
        self._disposition: str | None = None
        self._file: FileIO | None = None
        self._name = ""
        self._text = bytearray()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value.decode("latin-1")
        self._header, self._value = b"", b""

    def _begin(self) -> None:
        """Open the file of a part, or expect a text."""
        kind, options = parse_options_header(self._disposition)
        name = _text_of(options.get(b"name", b""))
        if kind != b"form-data" or not name:
            raise UsageError("a part without a name", "parts with Content-Disposition: form-data; name=...", "name it")
        self._name = name
        if b"filename" in options:
            self._open(_text_of(options[b"filename"]))
        elif name not in self._accepted.fields and name not in self._accepted.files:
            known = ", ".join(sorted({*self._accepted.files, *self._accepted.fields}))
            raise UsageError(f"a part {name[:80]!r}", f"one of {known}", "use one of these names")
        elif sum(map(len, self._fields.values())) >= MOST_FIELDS:
            raise UsageError(f"more than {MOST_FIELDS} options", f"at most {MOST_FIELDS}", "leave some out")

    def _open(self, given: str) -> None:
        paths = self._files.setdefault(self._name, [])
        self._accepted.check_file(self._name, len(paths))
        path = place(self._folder, self._name, len(paths), given)
        path.parent.mkdir(mode=0o700)
        self._file = open_private(path)
        paths.append(path)

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is None:
            if len(self._text) + end - start > FIELD_BYTES:
                raise TooLargeError(f"{self._name}, a text of more than {FIELD_BYTES} bytes", "an option", "shorten it")
            self._text += data[start:end]
            return
        write_all(self._file, memoryview(data)[start:end])

    def _end(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            return
        try:
            text = self._text.decode()
        except UnicodeDecodeError as error:
            raise UsageError(f"{self._name}, a text that is not UTF-8", "UTF-8", "mend the encoding") from error
        if self._name in self._accepted.files:
            raise _text_for_file(self._name, text)
        self._fields.setdefault(self._name, []).append(text)

    def _all(self) -> None:
        self._ended = True


def _text_of(raw: bytes) -> str:
    """Return a parameter of a header as text: UTF-8, as every client sends it, else Latin-1."""
    with suppress(UnicodeDecodeError):
        return raw.decode("utf-8")
    return raw.decode("latin-1")


def _text_for_file(name: str, text: str) -> TocsinError:
    """Return the error of a text where a file was expected: nothing is opened by name here."""
    todo = f"send the file itself: curl -F {name}=@scene.tif; references go into a JSON body"
    if REFERENCE.match(text) or "/" in text or "\\" in text:
        return ForbiddenReferenceError(f"a path or an address as {name}", "the file itself", todo)
    return UsageError(f"a text as {name}", "the file itself", todo)


def _malformed(error: FormParserError) -> TocsinError:
    return UsageError(f"a malformed form ({error})", "multipart/form-data", "send it with a client library")
