"""From what a user names to a local file that may be opened; nothing is opened by GDAL here."""

import re
from pathlib import Path

from tocsin.errors import ForbiddenReferenceError, NotARasterError, TruncatedError, UsageError
from tocsin.raster.tiff import MAGIC

# Every other GDAL driver stays shut: VRT, WMS and their kind open what a file tells them to.
RASTER_DRIVERS = ("GTiff", "SRTMHGT")
# SRTM tiles have no header: side of 1201 (3") or 3601 (1") int16 samples, or 1" x 3" above 50 degrees north.
HGT_BYTES = {1201 * 1201 * 2, 3601 * 3601 * 2, 1801 * 3601 * 2}
# "vrt://", "https://", "s3://", "/vsicurl/", "NETCDF:", "GTIFF_DIR:1:", inline XML and inline JSON.
REFERENCE = re.compile(r"^\s*(?:[A-Za-z][A-Za-z0-9+.\-]*://|/vsi|[A-Za-z][A-Za-z0-9_]+:|<|\{)", re.IGNORECASE)


def locate(href: str | Path) -> Path:
    """Return the absolute path of a local file or folder.

    Raises
    ------
    ForbiddenReferenceError
        For a URL, a GDAL virtual path or an inline document.
    UsageError
        When nothing is there, or it is neither a regular file nor a folder.
    """
    text = str(href)
    if not text.strip() or "\0" in text:
        raise UsageError(repr(text), "the path of a file", "pass the path of a local file")
    path = Path(text).expanduser()
    if not _exists(path):
        if REFERENCE.match(text):
            raise ForbiddenReferenceError(
                text[:200],
                "the path of a local file; nothing is fetched or derived",
                "download the file, pass its path",
            )
        raise UsageError(f"{text}, which does not exist", "the path of a file", "check the path for a typing mistake")
    if not (path.is_file() or path.is_dir()):
        raise UsageError(f"{text}, which is a device or a pipe", "a regular file", "copy the data into a file first")
    return path.absolute()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # A name that is too long for the file system names nothing.
        return False


def first_bytes(path: Path, count: int = 512) -> bytes:
    """Return the first bytes of a file."""
    try:
        with path.open("rb") as file:
            return file.read(count)
    except PermissionError as error:
        raise UsageError(f"{path}, which may not be read", "a readable file", "change its permissions") from error


def raster_driver(path: Path, name: str) -> str:
    """Return the GDAL driver for a file, judged by its first bytes and never by trying.

    Raises
    ------
    NotARasterError, TruncatedError
        For everything that is no GeoTIFF and no SRTM tile; XML documents (VRT, WMS, tile indices) hold no pixels but
        names of other files or servers, and are told so.
    """
    head = first_bytes(path)
    if not head:
        raise TruncatedError(f"{name}, which is empty", "a whole file", "copy or download the file again")
    if head[:4] in MAGIC:
        return "GTiff"
    if is_markup(head):
        raise NotARasterError(
            f"{name}, an XML document (VRT, WMS or the like), which would open other files or servers",
            "a GeoTIFF that holds its own pixels",
            f"gdal_translate {path.name} scene.tif, then pass scene.tif",
        )
    if path.suffix.lower() == ".hgt":
        if path.stat().st_size not in HGT_BYTES:
            raise TruncatedError(
                f"{name} of {path.stat().st_size} bytes", f"one of {sorted(HGT_BYTES)} bytes", "download the tile again"
            )
        return "SRTMHGT"
    raise NotARasterError(
        f"{name}, which starts with {head[:8]!r}",
        "a GeoTIFF, a COG or an SRTM .hgt tile",
        "convert it with gdal_translate, or check that the download is no error page",
    )


def is_markup(head: bytes) -> bool:
    """Whether a file starts like XML, in UTF-8 or UTF-16; an HTML error page does not count."""
    for encoding in ("utf-8-sig", "utf-16"):
        text = head.decode(encoding, errors="ignore").lstrip()
        if text.startswith("<") and not text.lower().startswith(("<!doctype html", "<html")):
            return True
    return False
