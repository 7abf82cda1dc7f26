"""One file from another server: bounded in bytes, time and redirects, and judged again at every step."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import httpx
from anyio import to_thread

from serving.gate.addresses import CONNECT_S, SILENT_S, PinnedTransport, Resolve, resolve
from serving.gate.uploads import BLOCK_BYTES, DISK, on_disk, open_private, too_many_bytes, write_all
from serving.settings import ServiceSettings
from tocsin.errors import DeadlineExceededError, TruncatedError, UsageError

MOST_REDIRECTS: Final = 5
DOCUMENT_BYTES: Final = 4 << 20
"""A STAC item is kilobytes; more is none, and is not read."""


class Place(Protocol):
    """Where something lies, and where else it may lead."""

    @property
    def shown(self) -> str:
        """The reference without what may be secret in it, for messages."""

    def next(self, location: httpx.URL) -> "Place":
        """Return where a redirect leads; refuse where it may not."""


@dataclass(frozen=True, slots=True)
class Target:
    """A place with the address that is asked for it.

    Attributes
    ----------
    place : Place
        What may be fetched.
    url : httpx.URL
        Perhaps signed: never to be shown.
    """

    place: Place
    url: httpx.URL = field(repr=False)


class Downloader:
    """Fetches the files of one request, which together may not have more bytes than an upload.

    Parameters
    ----------
    settings
        Limits, and networks that are trusted.
    resolver
        What gives the addresses of a name.
    """

    def __init__(self, settings: ServiceSettings, resolver: Resolve = resolve) -> None:
        self._left = settings.max_body_bytes
        self._limit = settings.max_body_bytes
        self._client = httpx.AsyncClient(
            transport=PinnedTransport(settings, resolver),
            timeout=httpx.Timeout(SILENT_S, connect=CONNECT_S),
            follow_redirects=False,
            # A proxy or credentials of the environment would lead round every check.
            trust_env=False,
            headers={"User-Agent": "tocsin", "Accept-Encoding": "identity"},
        )

    async def __aenter__(self) -> Self:
        """Return this, to be closed at the end of the block."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def to_file(self, target: Target, path: Path) -> None:
        """Stream a file to the disk.

        Raises
        ------
        TocsinError
            It is not there, too large, forbidden, or does not come whole.
        """
        await to_thread.run_sync(lambda: path.parent.mkdir(mode=0o700, parents=True, exist_ok=True))
        async with self._answer(target) as response:
            with open_private(path) as file:
                async for block in self._blocks(target, response, self._left):
                    await to_thread.run_sync(on_disk, write_all, file, block, limiter=DISK)

    async def to_document(self, target: Target) -> Any:  # noqa: ANN401 - JSON of any shape
        """Return a small JSON document.

        Raises
        ------
        TocsinError
            As `to_file`; or it is no JSON.
        """
        async with self._answer(target) as response:
            text = b"".join([block async for block in self._blocks(target, response, DOCUMENT_BYTES)])
        try:
            return await to_thread.run_sync(json.loads, text)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{target.place.shown}, which is no JSON", "a STAC item", "check the reference") from error

    @asynccontextmanager
    async def _answer(self, target: Target) -> AsyncGenerator[httpx.Response]:
        """Yield the answer behind all redirects; every error of the network is one of ours."""
        shown, begun = target.place.shown, False
        try:
            for _ in range(MOST_REDIRECTS + 1):
                async with self._client.stream("GET", target.url) as response:
                    if not response.has_redirect_location:
                        _check_answer(shown, response)
                        begun = True
                        yield response
                        return
                    location = target.url.join(response.headers["location"])
                    target = Target(target.place.next(location), location)
        except httpx.TimeoutException as error:
            raise DeadlineExceededError(f"{shown}, whose server is silent", "an answer", "try again later") from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            if begun:
                raise _cut(shown) from error
            raise UsageError(
                f"{shown}, which cannot be reached ({type(error).__name__})",
                "a server that answers over https",
                "check the reference, or send the file itself",
            ) from error
        raise UsageError(f"{shown} with more than {MOST_REDIRECTS} redirects", "a direct reference", "name its end")

    async def _blocks(self, target: Target, response: httpx.Response, most: int) -> AsyncGenerator[bytes]:
        """Yield the bytes of an answer, as long as they are within the limit."""
        limit = min(most, self._left)
        said = response.headers.get("content-length", "")
        announced = int(said) if said.isdecimal() else None
        if announced is not None and announced > limit:
            raise too_many_bytes(f"{target.place.shown} of {announced} bytes", min(most, self._limit))
        received = 0
        async for block in response.aiter_raw(BLOCK_BYTES):
            received += len(block)
            if received > limit:
                raise too_many_bytes(f"{target.place.shown}, over {received} bytes", min(most, self._limit))
            yield block
        self._left -= received
        if announced is not None and received < announced:
            raise _cut(target.place.shown)


def _check_answer(shown: str, response: httpx.Response) -> None:
    if response.status_code != HTTPStatus.OK:
        raise UsageError(
            f"{shown}, to which its server answers {response.status_code}",
            "200",
            "check that the reference is there and may be read",
        )
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise UsageError(f"{shown}, sent in Content-Encoding {encoding[:20]}", "the file as it is", "store it as it is")


def _cut(shown: str) -> TruncatedError:
    return TruncatedError(f"{shown}, whose bytes end early", "a whole file", "try again, or send the file itself")
