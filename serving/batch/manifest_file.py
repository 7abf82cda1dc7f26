"""Read a manifest: a table (CSV, Parquet, GeoJSON), a STAC catalog, a folder or a glob."""

import csv
import glob
import json
import os
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from serving.batch.places import filesystem, is_remote
from serving.batch.scenes import COLUMNS, Row
from tocsin.errors import UsageError
from tocsin.result import Hazard

MAIN_INPUT: Final[Mapping[Hazard, str]] = {"flood": "post", "landslide": "post", "volcano": "interferogram"}
RASTERS: Final = frozenset({".tif", ".tiff"})
PAIRED: Final = re.compile(r"[_\-. ](VV|VH)(?=\.[A-Za-z]+$)", re.IGNORECASE)
CATALOG: Final = "catalog.json"


@contextmanager
def read_manifest(manifest: str, hazard: Hazard | None) -> Generator[tuple[Iterable[Row], str]]:
    """Lend the rows of a manifest, and the folder or URL that their relative paths are relative to.

    Parameters
    ----------
    manifest
        Path or URL.
    hazard
        Of scenes for which the manifest does not say it; a folder or glob never does.

    Raises
    ------
    UsageError
        Nothing is there, it is no manifest, or its columns are not those of one.
    """
    if any(letter in manifest for letter in "*?["):
        yield _found(_matching(manifest), manifest, hazard), ""
    elif is_remote(manifest):
        with TemporaryDirectory() as folder:
            yield _table(_fetched(manifest, Path(folder)), hazard), manifest.rsplit("/", 1)[0]
    else:
        path = Path(manifest).expanduser().absolute()
        if path.is_dir() and not (path / CATALOG).is_file():
            yield _found(_listed(path), manifest, hazard), str(path)
        else:
            path = path / CATALOG if path.is_dir() else path
            yield _table(path, hazard), str(path.parent)


def _fetched(url: str, folder: Path) -> Path:
    system, name = filesystem(url)
    here = folder / Path(name).name
    try:
        system.get_file(name, str(here))
    except OSError as error:
        raise UsageError(f"{url} ({error})", "a manifest that can be read", "check the URL") from error
    return here


def _table(path: Path, hazard: Hazard | None) -> Iterable[Row]:
    suffix = path.suffix.lower()
    try:
        if suffix == ".csv":
            return list(_csv_rows(path))
        if suffix in {".parquet", ".pq"}:
            return list(_parquet_rows(path))
        if suffix in {".json", ".geojson"}:
            return list(_json_rows(path, hazard))
    except (OSError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{path} ({error})", "a manifest that can be read", "check the file") from error
    raise UsageError(
        f"{path}",
        "a .csv, .parquet, .geojson or .json table or STAC catalog, a folder or a glob",
        "choose one of these as the manifest",
    )


def _csv_rows(path: Path) -> Iterator[Row]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        try:
            head = [name.strip() for name in next(reader, [])]
            check_columns(path, head)
            for cells in reader:
                where = f"line {reader.line_num} of {path.name}"
                if len(cells) > len(head):
                    raise UsageError(f"{where} with {len(cells)} cells", f"{len(head)}, as the head says", "mend it")
                if any(cells):
                    yield Row(where, _cells(zip(head, cells, strict=False)))
        except csv.Error as error:
            raise UsageError(f"line {reader.line_num} of {path} ({error})", "a CSV table", "mend it") from error


def _parquet_rows(path: Path) -> Iterator[Row]:
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(path) as file:
            check_columns(path, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches():
                for cells in batch.to_pylist():
                    number += 1
                    yield Row(f"row {number} of {path.name}", _cells(cells.items()))
    except ArrowException as error:
        raise UsageError(f"{path} ({error})", "a Parquet table", "write it again") from error


def _json_rows(path: Path, hazard: Hazard | None) -> Iterator[Row]:
    content = json.loads(path.read_text(encoding="utf-8"))
    kind = content.get("type") if isinstance(content, dict) else None
    features = content.get("features", []) if kind == "FeatureCollection" else []
    if kind in {"Catalog", "Collection", "Feature"} or any("stac_version" in each for each in features):
        from serving.batch.stac_manifest import stac_rows

        yield from stac_rows(path, content, hazard)
        return
    if kind != "FeatureCollection":
        raise UsageError(f"{path} of type {kind!r}", "a GeoJSON FeatureCollection or a STAC catalog", "check the file")
    for number, feature in enumerate(features, 1):
        properties = feature.get("properties") or {}
        check_columns(path, properties)
        yield Row(f"feature {number} of {path.name}", _cells(properties.items()))


def check_columns(path: Path, names: Iterable[str]) -> None:
    """Refuse a table without a column of scenes, or with columns that nothing reads: a typing mistake is one of these.

    Raises
    ------
    UsageError
        A column is missing, twice or unknown.
    """
    names = list(names)
    known, mains = f"some of {', '.join(COLUMNS)}", sorted(set(MAIN_INPUT.values()))
    unknown = [name for name in names if name not in COLUMNS]
    if unknown:
        raise UsageError(f"{path} with columns {', '.join(map(repr, unknown))}", known, "rename or remove them")
    if len(set(names)) < len(names):
        raise UsageError(f"{path} with a column twice", known, "remove one of them")
    if not set(mains) & set(names):
        raise UsageError(f"{path} without a column {' or '.join(mains)}", known, "add the column of the scenes")


def _cells(pairs: Iterable[tuple[str, Any]]) -> dict[str, str]:
    texts = ((name, _text(value)) for name, value in pairs)
    return {name: text for name, text in texts if text}


def _text(value: object) -> str:
    """Return a cell as a table of text holds it; lists are acquisitions."""
    if isinstance(value, (list, tuple)):
        return "|".join(_text(each) for each in value)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    # A number that is not itself is a missing value of a table.
    return "" if value is None or value != value else str(value).strip()  # noqa: PLR0124


def _found(names: Iterable[str], manifest: str, hazard: Hazard | None) -> Iterator[Row]:
    if hazard is None:
        raise UsageError(f"{manifest}, a folder or pattern of scenes", "their hazard", "pass --hazard flood or volcano")
    if hazard == "landslide":
        raise UsageError(
            f"{manifest}, a folder or pattern, for landslides",
            "a table: a landslide needs acquisitions before and after",
            "write a CSV with the columns hazard, pre, post",
        )
    pairs: dict[str, list[str]] = {}
    for name in sorted(names):
        pairs.setdefault(PAIRED.sub("", name) if hazard == "flood" else name, []).append(name)
    for files in pairs.values():
        yield Row(files[0], {MAIN_INPUT[hazard]: ";".join(files)})


def _matching(pattern: str) -> Iterator[str]:
    if not is_remote(pattern):
        yield from (os.path.abspath(name) for name in glob.iglob(os.path.expanduser(pattern), recursive=True))  # noqa: PTH100, PTH111, PTH207 - a pattern is no path
        return
    system, name = filesystem(pattern)
    yield from (system.unstrip_protocol(each) for each in system.glob(name))


def _listed(folder: Path) -> Iterator[str]:
    """Rasters of a folder, and sub-folders that hold some: acquisitions in the layout of OPERA or HyP3."""
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if any(each.suffix.lower() in RASTERS for each in path.iterdir()):
                yield str(path)
        elif path.suffix.lower() in RASTERS:
            yield str(path)
