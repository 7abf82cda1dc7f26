"""Downloads: products with range requests, so that QGIS, GDAL and titiler read a COG in place."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from serving.border import answer
from tocsin.errors import NotFoundError, UsageError

COG: Final = "image/tiff; application=geotiff; profile=cloud-optimized"
MEDIA_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        ".tif": COG,
        ".geojson": "application/geo+json",
        ".json": "application/geo+json",
        ".png": "image/png",
        ".gpkg": "application/geopackage+sqlite3",
    }
)
"""By ending of a product; a STAC item is GeoJSON."""

_RANGES: Final = re.compile(
    r"bytes=\s*((?:\d{1,15}-\d{0,15}|-\d{1,15})(?:\s*,\s*(?:\d{1,15}-\d{0,15}|-\d{1,15}))*)\s*", re.ASCII
)


def product_response(request: Request, folder: Path, name: str) -> Response:
    """Return a product of a job, or the part of it that was asked for.

    Parameters
    ----------
    request
        GET or HEAD, with Range, If-Range and If-None-Match.
    folder
        Of the products.
    name
        Of the file.

    Raises
    ------
    NotFoundError
        The job has no such product.
    """
    path = folder / name
    # A name is looked up among those that are there and never joined to a path unseen.
    if name.startswith(".") or Path(name).suffix not in MEDIA_TYPES or name not in _names(folder):
        raise NotFoundError(f"the product {name}", "a product of this job", "take its links from the result")
    response = FileResponse(
        path,
        headers={"Cache-Control": "private, max-age=3600"},
        media_type=MEDIA_TYPES[path.suffix],
        filename=name,
        stat_result=path.stat(),
        content_disposition_type="inline",
    )
    if _is_known(request.headers.get("if-none-match"), response.headers["etag"]):
        kept = {key: response.headers[key] for key in ("etag", "cache-control", "last-modified")}
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=kept)
    if "range" in request.headers:
        size = path.stat().st_size
        asked = satisfiable(request.headers["range"], size)
        if asked == "":
            error = UsageError(f"the range {request.headers['range'][:80]}", f"a part of {size} bytes", "ask within")
            headers = {"Content-Range": f"bytes */{size}"}
            return answer(request.scope, error, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers)
        _ask_for(request, asked)
    return response


def satisfiable(header: str, size: int) -> str | None:
    """Return the ranges of a header that a file of `size` bytes has: "" when none, None when the header is no range.

    RFC 9110, section 14.2: what is no valid set of byte ranges is ignored, and ranges beyond the end are left out.
    """
    matched = _RANGES.fullmatch(header)
    if matched is None:
        return None
    kept = []
    for part in matched[1].split(","):
        first, _, last = part.strip().partition("-")
        if first and last and int(last) < int(first):
            return None
        if int(first) < size if first else int(last) > 0 and size > 0:
            kept.append(part.strip())
    return "bytes=" + ",".join(kept) if kept else ""


def _ask_for(request: Request, ranges: str | None) -> None:
    """Replace the header of a request by what can be answered."""
    headers = MutableHeaders(raw=list(Headers(scope=request.scope).raw))
    del headers["range"]
    if ranges:
        headers["range"] = ranges
    request.scope["headers"] = headers.raw


def _is_known(header: str | None, etag: str) -> bool:
    if header is None:
        return False
    return header.strip() == "*" or etag in {each.strip().removeprefix("W/") for each in header.split(",")}


def _names(folder: Path) -> set[str]:
    try:
        return {path.name for path in folder.iterdir() if path.is_file() and not path.is_symlink()}
    except FileNotFoundError:
        return set()
