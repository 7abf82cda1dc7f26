"""Files that a request names instead of sending: https, s3 or the assets of a STAC item, from where it is allowed only.

An allow-list entry is a host (`data.example.org`, perhaps with a port), a bucket, or a root: the beginning of a URL
(`https://data.example.org/rtc/`, `s3://bucket/rtc/`). Without an entry nothing is fetched.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote, unquote

import httpx
from anyio import fail_after

from serving.gate.addresses import Resolve, resolve
from serving.gate.download import Downloader, Target
from serving.gate.inputs import Accepted, place
from serving.gate.stac_items import assets_of_acquisition, assets_of_hazard, read_item
from serving.gate.uploads import discard, make_private
from serving.settings import ServiceSettings
from tocsin.errors import DeadlineExceededError, ForbiddenReferenceError, RuntimeUnavailableError, UsageError
from tocsin.result import Hazard

ITEM: Final = "item"
"""Name under which a request gives one STAC item for all inputs."""
ITEM_SUFFIXES: Final = (".json", ".geojson")
ACQUIRED: Final = frozenset({"pre", "post", "interferogram"})
"""Inputs that may be a STAC item each; of others a JSON file is polygons."""
LONGEST: Final = 4096
SIGNED_FOR: Final = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Reference:
    """An https or s3 reference that is on the allow-list.

    Attributes
    ----------
    href : str
        As given; its query may be a secret.
    settings : ServiceSettings
        With the allow-list.
    """

    href: str
    settings: ServiceSettings

    @classmethod
    def of(cls, href: object, settings: ServiceSettings) -> Self:
        """Return a reference that is allowed.

        Raises
        ------
        UsageError
            No text, or one that is far too long.
        ForbiddenReferenceError
            Another scheme, a path of the server, or a place that is not on the allow-list.
        """
        if not isinstance(href, str) or not 0 < len(href) <= LONGEST or not href.isprintable():
            given = f"a reference of {len(href)} characters" if isinstance(href, str) else type(href).__name__
            raise UsageError(given, f"a URL as plain text of at most {LONGEST}", "name the file by its URL")
        reference = cls(href, settings)
        reference.check()
        return reference

    @property
    def url(self) -> httpx.URL:
        """What is asked for, read by the client that asks: no second parser may see another host."""
        return httpx.URL(self.href)

    @property
    def is_s3(self) -> bool:
        """Whether it names an object of a bucket."""
        return self.url.scheme == "s3"

    @property
    def shown(self) -> str:
        """The reference without user, password and query."""
        url = self.url
        return f"{url.scheme}://{where(url)}{url.path}"[:300]

    @property
    def name(self) -> str:
        """Last part of its path."""
        return self.url.path.rpartition("/")[2]

    @property
    def is_json(self) -> bool:
        """Whether its name is that of a STAC item or of polygons."""
        return self.name.lower().endswith(ITEM_SUFFIXES)

    def next(self, location: httpx.URL) -> "Reference":
        """Return where a redirect leads, as allowed as any other reference; s3 leads nowhere else."""
        if self.is_s3:
            raise UsageError(
                f"{self.shown}, which its region does not hold", "a bucket of AWS_REGION", "set AWS_REGION"
            )
        return Reference.of(str(location), self.settings)

    async def target(self) -> Target:
        """Return the address that is asked for it; that of s3 is signed with the operator's credentials."""
        return Target(self, await _signed(self) if self.is_s3 else self.url)

    def check(self) -> None:
        """Refuse what is not on the allow-list."""
        url = _parsed(self.href)
        if url is None or url.scheme not in {"https", "s3"} or not url.host:
            raise ForbiddenReferenceError(
                f"{self.href.partition('?')[0][:200]!r}",
                "https:// or s3:// on an allowed host, bucket or root",
                "name the file by such a URL, or send it as a form",
            )
        steps = set(unquote(url.path).replace("\\", "/").split("/"))
        if url.userinfo or {".", ".."} & steps or (self.is_s3 and url.query):
            raise ForbiddenReferenceError(
                self.shown,
                "a URL without user, password and steps such as .., and without a query on s3",
                "write it out plainly",
            )
        if not _is_listed(url, self.settings):
            raise ForbiddenReferenceError(
                self.shown,
                f"a {'bucket' if self.is_s3 else 'host'} or root on the allow-list of this service",
                "send the file itself, or ask who runs the service (TOCSIN_ALLOWED_HOSTS, _BUCKETS, _ROOTS)",
            )


def where(url: httpx.URL) -> str:
    """Return host and port as allow-lists name them: the port only where it is unusual."""
    return url.host if url.port is None else f"{url.host}:{url.port}"


def _is_listed(url: httpx.URL, settings: ServiceSettings) -> bool:
    entries = settings.allowed_buckets if url.scheme == "s3" else settings.allowed_hosts
    if where(url) in {entry.lower() for entry in entries}:
        return True
    for root in filter(None, map(_parsed, settings.allowed_roots)):
        beginning = root.raw_path.rstrip(b"/") + b"/"
        if (root.scheme, where(root)) == (url.scheme, where(url)) and url.raw_path.startswith(beginning):
            return True
    return False


def _parsed(href: str) -> httpx.URL | None:
    try:
        return httpx.URL(href)
    except (httpx.InvalidURL, ValueError):
        return None


async def fetch(
    hazard: Hazard, asked: Mapping[str, object], folder: Path, settings: ServiceSettings, resolver: Resolve = resolve
) -> dict[str, tuple[Path, ...]]:
    """Fetch what a request names.

    Parameters
    ----------
    hazard
        flood, landslide or volcano.
    asked
        By input, a URL or several; `item`, a STAC item whose assets are inputs by role or band.
    folder
        Made here, for this user only; removed again when anything is refused.
    settings
        Allow-list and limits.
    resolver
        What gives the addresses of a name.

    Returns
    -------
    dict
        Paths by input, in the order asked for.

    Raises
    ------
    UsageError
        An unknown name, or a reference that does not answer.
    ForbiddenReferenceError
        A place that is not allowed, itself, behind a redirect, or by its address.
    TooLargeError, StorageFullError
        Too many bytes.
    DeadlineExceededError
        It took too long.
    """
    accepted = Accepted(hazard)
    given = {name: _checked(name, value, accepted, settings) for name, value in asked.items()}
    await make_private(folder)
    try:
        async with Downloader(settings, resolver) as downloader:
            with fail_after(settings.fetch_timeout_s):
                named = await _with_items(hazard, given, downloader)
                return {
                    name: tuple(
                        [await _file(reference, name, at, folder, downloader) for at, reference in enumerate(each)]
                    )
                    for name, each in named.items()
                }
    except TimeoutError as error:
        await discard(folder)
        raise DeadlineExceededError(
            f"references that took more than {settings.fetch_timeout_s:g} s",
            "files that come in time",
            "send the files themselves",
        ) from error
    except BaseException:
        await discard(folder)
        raise


def _checked(name: str, value: object, accepted: Accepted, settings: ServiceSettings) -> list[Reference]:
    """Return the references of an input, all allowed; nothing was asked of anybody yet."""
    several = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if name == ITEM and len(several) != 1:
        raise UsageError(f"{len(several)} values of {ITEM}", "one", "name the items by input: pre, post")
    if name != ITEM:
        accepted.check_file(name, len(several) - 1)
    if not several:
        raise UsageError(f"{name} without a reference", "a URL", "name a file, or leave it out")
    return [Reference.of(each, settings) for each in several]


async def _with_items(
    hazard: Hazard, given: Mapping[str, list[Reference]], downloader: Downloader
) -> dict[str, list[Reference]]:
    """Return references to files by input: every STAC item is replaced by its assets."""
    named: dict[str, list[Reference]] = {}
    for name, references in given.items():
        for reference in references:
            if name == ITEM:
                item = read_item(await downloader.to_document(await reference.target()), reference.href)
                found = assets_of_hazard(hazard, item)
            elif name in ACQUIRED and reference.is_json:
                item = read_item(await downloader.to_document(await reference.target()), reference.href)
                found = {name: assets_of_acquisition(hazard, item)}
            else:
                named.setdefault(name, []).append(reference)
                continue
            for input_name, hrefs in found.items():
                if name != ITEM or input_name not in given:
                    named.setdefault(input_name, []).extend(Reference.of(href, reference.settings) for href in hrefs)
    for name, references in named.items():
        Accepted(hazard).check_file(name, len(references) - 1)
    return named


async def _file(reference: Reference, name: str, index: int, folder: Path, downloader: Downloader) -> Path:
    path = place(folder, name, index, reference.name)
    await downloader.to_file(await reference.target(), path)
    return path


async def _signed(reference: Reference) -> httpx.URL:
    """Return the address of an object of a bucket; signed unless AWS_SKIP_SIGNATURE says that it is public."""
    from obstore import sign_async
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    bucket, key = reference.url.host, reference.url.path.lstrip("/")
    if os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in {"1", "true"}:
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        base = (endpoint or f"https://s3.{region}.amazonaws.com").rstrip("/")
        return httpx.URL(f"{base}/{bucket}/{quote(key)}")
    try:
        store = S3Store(
            bucket,
            client_options={"allow_http": True},
            retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=5)},
        )
        return httpx.URL(await sign_async(store, "GET", key, SIGNED_FOR))
    except (BaseError, ValueError) as error:
        raise RuntimeUnavailableError(
            f"{reference.shown}, for which the service has no credentials",
            "credentials for S3 in the environment of the service",
            "ask who runs the service (AWS_ACCESS_KEY_ID, or AWS_SKIP_SIGNATURE for public buckets)",
        ) from error
