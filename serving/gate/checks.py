"""What a request would cost, found out before it is accepted: by headers alone, in a process of its own.

Files of strangers are first looked at by tocsin's own reader of TIFF directories, which allocates nothing by what a
header promises; only what passes is opened by GDAL, and by the drivers GTiff and SRTMHGT alone. That process has a
bounded memory, is killed when it takes too long, and takes nobody with it when a file ends it.
"""

import json
import resource
import shutil
import struct
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from anyio import BrokenWorkerProcess, CapacityLimiter, fail_after, sleep, to_process, to_thread

from serving.gate.inputs import FILES
from serving.gate.uploads import no_room
from serving.settings import ServiceSettings
from tocsin.errors import (
    DeadlineExceededError,
    NotARasterError,
    RuntimeUnavailableError,
    TooLargeError,
    TruncatedError,
)
from tocsin.raster import Limits
from tocsin.raster.locating import first_bytes, raster_driver
from tocsin.raster.picture import PNG
from tocsin.raster.tiff import (
    BITS,
    COMPRESSION,
    HEIGHT,
    SAMPLES,
    STRIP_COUNTS,
    STRIP_OFFSETS,
    TILE_COUNTS,
    TILE_OFFSETS,
    TYPE_BYTES,
    WIDTH,
    Directory,
    TiffFile,
    check_tiff,
)
from tocsin.result import Hazard, Result, ScoringPlan
from tocsin.scoring_job import ScoringOptions

CODECS: Final = frozenset({1, 5, 8, 32773, 32946, 34887, 50000})
"""TIFF compressions that are decoded: none, LZW, deflate (two numbers), PackBits, LERC, ZSTD."""
METADATA_BYTES: Final = 4 << 20
"""Most bytes of one tag that is no list of strips: GDAL reads tags whole."""
POLYGON_BYTES: Final = 16 << 20
"""Most bytes of a file of polygons: it is held in memory, some ten times as large."""
MOST_PICTURE_PIXELS: Final = 16_000_000
"""A picture of an interferogram is decoded whole, at some 30 bytes a pixel."""
ALWAYS_FINE_BYTES: Final = 64 << 20
"""Decoded size up to which any compression ratio is let pass: a scene of no data alone is tiny, and no attack."""
PROCESS_BYTES: Final = 2 << 30
"""Memory of the process that looks."""
VECTORS: Final = frozenset({"aoi", "exclude"})
"""Inputs that may be polygons; `exclude` may be a raster too."""
PICTURES: Final = frozenset({"interferogram"})
"""Inputs that may be a PNG."""

IDLE_S: Final = 120.0
"""How often an idle process is asked, which anyio would end after five minutes."""

MOST_STARTS: Final = 3
"""Starts that may fail in a row: a machine under load may take too long for one."""

PROCESSES = CapacityLimiter(2)
"""Processes that look at files at a time; they are kept, with the models' manifests read."""

_scorer: Any = None


async def inspect(
    hazard: Hazard, inputs: Mapping[str, Any], options: ScoringOptions, settings: ServiceSettings
) -> Result:
    """Say what scoring would do, after everything in the headers was checked.

    Parameters
    ----------
    hazard
        flood, landslide or volcano.
    inputs
        Of the hazard, by name, with files that lie here.
    options
        Of the scoring.
    settings
        Limits.

    Returns
    -------
    Result
        That of a dry run: its summary is a `ScoringPlan`.

    Raises
    ------
    TocsinError
        What is wrong with a file; `too_large` when its scoring would need more memory than a worker has,
        `storage_full` when its products have no room.
    """
    planned = None
    for attempt in range(2):
        try:
            with fail_after(settings.inspect_timeout_s):
                planned = await to_process.run_sync(
                    look, hazard, dict(inputs), options, settings, cancellable=True, limiter=PROCESSES
                )
            break
        except TimeoutError as error:
            raise DeadlineExceededError(
                f"files whose headers took more than {settings.inspect_timeout_s:g} s to read",
                "headers that are read at once",
                "write the files again as COG (gdal_translate -of COG)",
            ) from error
        except BrokenWorkerProcess as error:
            # Once may be the machine's fault; the second process was a new one.
            if attempt:
                raise TruncatedError(
                    "files that ended the process which looked at them", "undamaged files", "write the files again"
                ) from error
    assert planned is not None
    summary = planned.summary
    assert isinstance(summary, ScoringPlan)
    free = await to_thread.run_sync(lambda: shutil.disk_usage(settings.state).free)
    if summary.bytes_to_write > free:
        raise no_room(f"products of up to {summary.bytes_to_write} bytes")
    return planned


async def keep_ready() -> None:
    """Keep a process that looks at files at hand, as long as this is awaited: to start one takes seconds.

    Raises
    ------
    RuntimeUnavailableError
        None can be started, several times in a row; no file is to blame.
    """
    failed = 0
    while True:
        try:
            await to_process.run_sync(prepare, cancellable=True, limiter=PROCESSES)
            failed = 0
        except BrokenWorkerProcess as error:
            failed += 1
            if failed == MOST_STARTS:
                raise RuntimeUnavailableError(
                    f"a service that cannot start processes ({error})",
                    "a main module that may be imported, and room for a process",
                    "start it with tocsin serve",
                ) from error
        await sleep(0 if failed else IDLE_S)


def prepare() -> None:
    """Import what looking at files of any hazard needs."""
    for hazard in FILES:
        import_module(f"tocsin.{hazard}_scoring")


def look(hazard: Hazard, inputs: Mapping[str, Any], options: ScoringOptions, settings: ServiceSettings) -> Result:
    """Check files and plan their scoring, in a process of its own; see `inspect`."""
    global _scorer  # noqa: PLW0603 - one per process: it keeps what was read of the models
    from tocsin.scoring import Scorer

    _bound_memory()
    named = {**inputs, **({"aoi": str(options.aoi)} if options.aoi is not None else {})}
    try:
        for name, path in _files(named):
            check_file(name, path, settings)
        _scorer = _scorer or Scorer()
        # A folder in which nothing lies: products are not looked for here, but where the job will put them.
        planned: Result = _scorer.score(
            hazard, out=settings.state / "nowhere", options=options.model_copy(update={"dry_run": True}), **inputs
        )
    except MemoryError as error:
        raise TooLargeError(
            f"files whose headers need more than {PROCESS_BYTES} bytes", "ordinary headers", "write the files again"
        ) from error
    check_memory(planned, settings)
    return planned


def check_file(name: str, path: Path, settings: ServiceSettings) -> None:
    """Refuse a file by its bytes, before any library opens it.

    Parameters
    ----------
    name
        Of the input that it is.
    path
        Where it lies.
    settings
        Limits.

    Raises
    ------
    TocsinError
        Its children for hostile files: see the module.
    """
    head = first_bytes(path, 32)
    if name in PICTURES and head.startswith(PNG):
        _check_picture(path, head, settings)
    elif name in VECTORS and head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        _check_polygons(path)
    elif raster_driver(path, path.name) == "GTiff":
        check_tiff(path, path.name, Limits(max_pixels=settings.max_pixels, max_bands=settings.max_bands))
        with path.open("rb") as file:
            tiff = TiffFile(file, path.name)
            for directory in _directories(tiff):
                _check_directory(tiff, directory, settings)


def check_memory(planned: Result, settings: ServiceSettings) -> None:
    """Refuse a scoring that needs more memory than a worker has.

    Raises
    ------
    TooLargeError
        By the estimate of the plan.
    """
    from serving.jobs.worker import machine_memory_bytes

    assert isinstance(planned.summary, ScoringPlan)
    needed = planned.summary.expected_peak_bytes
    limit = settings.worker_memory_bytes or machine_memory_bytes() * 3 // 4 // settings.workers
    if needed > limit:
        raise TooLargeError(
            f"a scene whose scoring needs {needed} bytes of memory",
            f"at most {limit}",
            "cut the scene into parts that are less wide",
        )


def _files(inputs: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Yield every file of the inputs, with the name of its input; values that name no file are left out."""
    known = {name for names in FILES.values() for name in names}
    for name, value in inputs.items():
        if name in known and value is not None:
            for href in [value] if isinstance(value, str) else value:
                for part in href.split(";"):
                    yield name, Path(part)


def _directories(tiff: TiffFile) -> Iterator[Directory]:
    """Yield the directories of a TIFF whose chain was checked before."""
    offset = tiff.first
    while offset:
        directory = tiff.directory(offset)
        yield directory
        offset = directory.after


def _check_directory(tiff: TiffFile, directory: Directory, settings: ServiceSettings) -> None:
    codec = tiff.number(directory, COMPRESSION, 1)
    if codec not in CODECS:
        raise NotARasterError(
            f"{tiff.name}, a TIFF in compression {codec}",
            "none, LZW, deflate, PackBits, LERC or ZSTD",
            "gdal_translate -of COG -co COMPRESS=DEFLATE, then send the result",
        )
    lists = {STRIP_OFFSETS, STRIP_COUNTS, TILE_OFFSETS, TILE_COUNTS}
    largest = max(
        (field.count * TYPE_BYTES.get(field.kind, 1) for tag, field in directory.fields.items() if tag not in lists),
        default=0,
    )
    if largest > METADATA_BYTES:
        raise TooLargeError(
            f"{tiff.name} with a tag of {largest} bytes", f"at most {METADATA_BYTES}", "write the file without it"
        )
    pixels = tiff.number(directory, WIDTH, 0) * tiff.number(directory, HEIGHT, 0)
    decoded = pixels * tiff.number(directory, SAMPLES, 1) * tiff.number(directory, BITS, 1) // 8
    counts = directory.fields.get(TILE_COUNTS) or directory.fields.get(STRIP_COUNTS)
    stored = tiff.size if counts is None else int(tiff.values(counts).sum(dtype="u8"))
    _check_ratio(tiff.name, decoded, min(stored, tiff.size), settings)


def _check_ratio(name: str, decoded: int, stored: int, settings: ServiceSettings) -> None:
    if decoded > ALWAYS_FINE_BYTES and decoded > stored * settings.max_compression_ratio:
        raise TooLargeError(
            f"{name}, {stored} bytes that become {decoded}",
            f"at most {settings.max_compression_ratio:g} times as many",
            "cut off what holds no data",
        )


def _check_picture(path: Path, head: bytes, settings: ServiceSettings) -> None:
    """Refuse a PNG by its header: it is decoded whole."""
    if len(head) < 26 or head[12:16] != b"IHDR":
        raise TruncatedError(f"{path.name}, a PNG without a header", "a whole file", "copy it again")
    width, height = struct.unpack(">II", head[16:24])
    limit = min(MOST_PICTURE_PIXELS, settings.max_pixels)
    if width * height > limit:
        raise TooLargeError(f"{path.name}: {width} x {height} pixels", f"at most {limit} of a picture", "cut it")


def _check_polygons(path: Path) -> None:
    """Refuse polygons that are too many to hold, or that are no JSON."""
    size = path.stat().st_size
    if size > POLYGON_BYTES:
        raise TooLargeError(f"{path.name}, polygons of {size} bytes", f"at most {POLYGON_BYTES}", "simplify them")
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise NotARasterError(f"{path.name}, which is no JSON", "GeoJSON", "write it again with ogr2ogr") from error


def _bound_memory() -> None:
    """Bound what this process may allocate."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (min(PROCESS_BYTES, hard) if hard > 0 else PROCESS_BYTES, hard))
