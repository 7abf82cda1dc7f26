"""Names of files and folders, on disk or in a bucket, and the file systems behind them."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from tocsin.errors import RuntimeUnavailableError, UsageError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")
STORES: Final = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl")
"""Schemes of buckets that obstore speaks; every other scheme is looked up by fsspec."""
CUT_LINK: Final = "the connection to the bucket"


def is_remote(href: str) -> bool:
    """Say whether a name is a URL rather than a path."""
    return URL.match(href) is not None


def resolve(href: str, base: str) -> str:
    """Return a name as an absolute path or a URL; a relative one is relative to `base`."""
    if not href:
        return ""
    if urlsplit(href).scheme == "file":
        return unquote(urlsplit(href).path)
    if is_remote(href) or Path(href).is_absolute():
        return href
    return f"{base.rstrip('/')}/{href}" if is_remote(base) else str(Path(base, href))


def filesystem(url: str) -> "tuple[AbstractFileSystem, str]":
    """Return the file system of a URL, and the name that it has there.

    Credentials, region and end point come from the environment, as AWS_* and the like say.

    Raises
    ------
    UsageError
        Nothing reads this scheme.
    """
    import fsspec

    scheme = url.partition("://")[0].lower()
    if scheme in STORES:
        import obstore.fsspec

        obstore.fsspec.register(scheme)
    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise UsageError(f"{url} ({error})", f"a path, or a URL of {', '.join(STORES)}", "check the URL") from error
    return found


def away(url: str, error: Exception) -> RuntimeUnavailableError:
    """Return what to raise when a bucket does not answer as it should, which can pass."""
    return RuntimeUnavailableError(
        f"{url} ({type(error).__name__}: {str(error)[:300]})",
        "a bucket that answers",
        "check name, end point (AWS_ENDPOINT_URL) and credentials, then run it again",
    )
