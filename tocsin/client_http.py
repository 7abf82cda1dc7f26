"""What both faces of a client share on the side of httpx: settings, requests, files that are sent and saved."""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO, Any, Final, Self
from urllib.parse import urlsplit

import httpx

import tocsin
from tocsin.client_wire import Answer, Call, Form, Lost, Watch, address
from tocsin.errors import UsageError

TOKEN: Final = "TOCSIN_TOKEN"
CONNECT_S: Final = 10.0

logger = logging.getLogger("tocsin.client")


class _Read:
    """A file that is sent, and whose reading is told; httpx needs no more of it than this."""

    def __init__(self, file: IO[bytes], told: "_Told") -> None:
        self._file, self._told = file, told

    def read(self, size: int = -1) -> bytes:
        """Return the next block."""
        block = self._file.read(size)
        self._told.add(len(block))
        return block

    def fileno(self) -> int:
        """Return the descriptor, by which the size is known before anything is read."""
        return self._file.fileno()

    def __iter__(self) -> Iterator[bytes]:
        """Yield what is left."""
        yield from iter(lambda: self.read(1 << 16), b"")


class _Told:
    """Adds blocks up for `Call.watch`."""

    def __init__(self, watch: Watch | None, total: int, done: int = 0) -> None:
        self._watch, self._total, self._done = watch, total, done

    def add(self, size: int) -> None:
        """Tell of a block."""
        self._done += size
        if self._watch is not None and size:
            self._watch(self._done, self._total)


class _Saving:
    """A file that is fetched: a part is appended to what is there, anything else replaces it."""

    def __init__(self, file: IO[bytes], told: _Told) -> None:
        self._file, self._told = file, told

    def write(self, block: bytes) -> None:
        """Write the next block."""
        self._file.write(block)
        self._told.add(len(block))

    def __enter__(self) -> Self:
        """Return the file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self._file.close()


def saving(call: Call, response: httpx.Response) -> _Saving:
    """Open the file of a call; the rest of one when the answer is a part."""
    assert call.save is not None, "asked for"
    part = response.status_code == httpx.codes.PARTIAL_CONTENT
    have = call.save.stat().st_size if part else 0
    total = have + int(response.headers.get("content-length", "0"))
    return _Saving(call.save.open("ab" if part else "wb"), _Told(call.watch, total, have))


def settings(service: str, token: str | None) -> dict[str, Any]:
    """Return how a client of httpx is made."""
    where, secret = address(service), os.environ.get(TOKEN, "") if token is None else token
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        raise UsageError(
            f"a token of {len(secret)} characters", "printable ASCII without blanks", f"check it, or {TOKEN}"
        )
    parts = urlsplit(where)
    if secret and parts.scheme == "http" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
        logger.warning("the token goes to %s in clear text: use https://", parts.hostname)
    headers = {"User-Agent": f"tocsin/{tocsin.__version__}", "Accept": "application/json, application/problem+json"}
    if secret:
        headers["Authorization"] = f"Bearer {secret}"
    return {"base_url": where, "headers": headers, "follow_redirects": False}


def sent(call: Call, stack: ExitStack) -> dict[str, Any]:
    """Return what a request of httpx is made of; files stay open as long as the stack."""
    made: dict[str, Any] = {"headers": dict(call.headers), "timeout": httpx.Timeout(call.timeout_s, connect=CONNECT_S)}
    if isinstance(call.body, Form):
        told = _Told(call.watch, call.body.size)
        texts: dict[str, list[str]] = {}
        for name, text in call.body.texts:
            texts.setdefault(name, []).append(text)
        files = [
            (name, (path.name, _Read(stack.enter_context(path.open("rb")), told))) for name, path in call.body.files
        ]
        made |= {"data": texts, "files": files}
    elif call.body is not None:
        made["json"] = call.body
    return made


def answer_of(response: httpx.Response, body: bytes) -> Answer:
    """Return what was answered."""
    return Answer(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)


def lost(error: httpx.RequestError, etag: str | None) -> Lost:
    """Return a failure of the connection."""
    return Lost(f"{type(error).__name__}: {error}", etag)
