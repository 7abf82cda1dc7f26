"""Large archives by their published layouts: M3LEO and BigEarthNet.

M3LEO (Allen et al. 2024): one folder a region, in it one folder a data set, in it one file a tile, named by its id::

    REGION/REGION_partitions_..._splits_60bands_angle15_60-20-20.csv     identifier, split: train, val or test
    REGION/s1grd-YEAR/ID.tif      16 bands, dB: season by season VV and VH, each ascending and descending
    REGION/gssic/ID.nc            NetCDF-4, coherence (season, deltadays, y, x)
    REGION/s2rgbm-YEAR/ID.tif     pictures, 0-255, bands described as MONTH_red, MONTH_green, MONTH_blue
    REGION/srtmdem/ID.tif         height, m

Bands of one season and pass are named as such: ``VV_winter_asc``, ``coherence_summer_36``, ``B04_06``. The splits of
the table are bands on the ground, so that neighbours do not leak from one split into another.

BigEarthNet (Sumbul et al. 2021; Clasen et al. 2024): one folder a patch, one file a band::

    BigEarthNet-S1[-v1.0]/**/PATCH/PATCH_{VV,VH}.tif      dB, 120 x 120 px of 10 m
    BigEarthNet[-S2|-v1.0]/**/PATCH/PATCH_{B01..B12}.tif  reflectance in 1e-4, 120, 60 or 20 px

Patches of both sensors are paired by ``corresponding_s2_patch`` of the first release's PATCH_labels_metadata.json;
without it each is a chip of its own, of which the other modality is missing.
"""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from tocsin.errors import UsageError, WrongBandsError
from tocsin.raster import open_raster
from tocsin.raster.units import check_values, to_db
from training.bands import S2
from training.datasets.unlabelled import UnlabelledChip
from training.datasets.unlabelled_sar import read_band

SEASONS: Final = ("winter", "spring", "summer", "fall")
S1GRD: Final = tuple(
    f"{polarisation}_{season}_{direction}"
    for season in SEASONS
    for polarisation in ("VV", "VH")
    for direction in ("asc", "des")
)
"""Bands of an s1grd file, in order."""

MONTHLY_RGB: Final = {
    f"{month:02d}_{colour}": f"{band}_{month:02d}"
    for month in range(1, 13)
    for colour, band in (("red", "B04"), ("green", "B03"), ("blue", "B02"))
}
"""Band by its description in an s2rgbm file: pictures, whose 255 is no known reflectance."""

S2_SCALE: Final = 1e-4
PATCH_PX: Final = 120
SPLIT_TABLE: Final = re.compile(r".*_splits_.*\.csv")

Split = Literal["train", "val", "test"]
Layers = dict[str, NDArray[np.float32]]


def m3leo(folder: Path, split: Split = "train") -> Iterator[UnlabelledChip]:
    """Yield every tile of a split with the modalities that it has; the place is the region.

    Parameters
    ----------
    folder
        One region, or a folder of regions.
    split
        Of the region's own table.

    Raises
    ------
    UsageError
        When there is no table of splits, or it names no tile that is there.
    """
    tables = sorted(path for path in folder.rglob("*.csv") if SPLIT_TABLE.fullmatch(path.name))
    if not tables:
        raise UsageError(
            f"{folder} without a table of splits",
            "REGION/..._splits_60bands_angle15_60-20-20.csv beside the folders of tiles",
            "pass the folder of a region as it was downloaded",
        )
    found = 0
    for table in tables:
        files = _by_dataset(table.parent)
        for name in _identifiers(table, split):
            layers = _m3leo_layers(name, files)
            if layers:
                found += 1
                yield UnlabelledChip(name, table.parent.name, layers)
    if not found:
        raise UsageError(
            f"{folder}, which holds no tile of split {split!r}",
            "s1grd-YEAR/ID.tif, gssic/ID.nc or s2rgbm-YEAR/ID.tif of the ids in the table",
            "unpack the tiles beside the table",
        )


def big_earth_net(folder: Path) -> Iterator[UnlabelledChip]:
    """Yield every patch of Sentinel-1, with that of Sentinel-2 where they are paired, then unpaired ones of Sentinel-2.

    Raises
    ------
    UsageError
        When there is no patch.
    """
    s1 = {path.parent.name: path.parent for path in folder.rglob("*_VV.tif")}
    s2 = {path.parent.name: path.parent for path in folder.rglob("*_B02.tif")}
    if not s1 and not s2:
        raise UsageError(
            f"{folder} without a patch", "PATCH/PATCH_VV.tif or PATCH/PATCH_B02.tif", "pass the unpacked archive"
        )
    paired = set()
    for name, patch in sorted(s1.items()):
        layers = {base: read_band(patch / f"{name}_{base}.tif") for base in ("VV", "VH")}
        partner = _partner(patch / f"{name}_labels_metadata.json")
        if partner in s2:
            paired.add(partner)
            layers |= _reflectance(s2[partner])
        yield UnlabelledChip(name, _scene(name), layers)
    for name in sorted(s2.keys() - paired):
        yield UnlabelledChip(name, _scene(name), _reflectance(s2[name]))


def _by_dataset(region: Path) -> dict[str, Path]:
    """Return the folders of tiles by the data set's name without its year."""
    return {path.name.partition("-")[0]: path for path in sorted(region.iterdir()) if path.is_dir()}


def _identifiers(table: Path, split: Split) -> tuple[str, ...]:
    with table.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if not {"identifier", "split"} <= set(rows.fieldnames or ()):
            raise UsageError(f"{table} without identifier and split", "a table of splits", "download the table again")
        return tuple(sorted(row["identifier"] for row in rows if row["split"] == split))


def _m3leo_layers(name: str, files: dict[str, Path]) -> Layers:
    """Return all layers of a tile on the grid of its backscatter, else of the first that is there."""
    layers: Layers = {}
    for dataset, read in (("s1grd", _backscatter), ("s2rgbm", _pictures), ("srtmdem", _heights)):
        path = files.get(dataset, Path()) / f"{name}.tif"
        if path.is_file():
            layers |= _on_grid(read(path), layers)
    cube = files.get("gssic", Path()) / f"{name}.nc"
    if cube.is_file():
        layers |= _on_grid(_coherence(cube), layers)
    return layers


def _backscatter(path: Path) -> Layers:
    with open_raster(path) as raster:
        if raster.count != len(S1GRD):
            raise WrongBandsError(f"{path} with {raster.count} bands", f"{len(S1GRD)}: {', '.join(S1GRD)}", "check it")
        stored = raster.read(raster.grid.window)
    check_values(str(path), stored, "db")
    return dict(zip(S1GRD, to_db(stored, "db"), strict=True))


def _pictures(path: Path) -> Layers:
    with open_raster(path) as raster:
        described, stored = raster.descriptions, raster.read(raster.grid.window)
    known = [(MONTHLY_RGB[text], values) for text, values in zip(described, stored, strict=True) if text in MONTHLY_RGB]
    if not known:
        raise WrongBandsError(f"{path} with bands {', '.join(described)}", "bands such as 06_red", "check the file")
    return {name: values / np.float32(255) for name, values in known}


def _heights(path: Path) -> Layers:
    return {"height": read_band(path)}


def _coherence(path: Path) -> Layers:
    """Return coherence by season and days between acquisitions."""
    import h5py

    with h5py.File(path, "r") as file:
        if not {"coherence", "season", "deltadays"} <= set(file):
            raise WrongBandsError(f"{path} with {', '.join(file)}", "coherence, season and deltadays", "check the file")
        seasons = [each.decode() if isinstance(each, bytes) else str(each) for each in file["season"][:]]
        days = [int(each) for each in file["deltadays"][:]]
        values = np.asarray(file["coherence"][:], np.float32)
    if values.shape[:2] != (len(seasons), len(days)):
        raise WrongBandsError(f"{path} with coherence of shape {values.shape}", "(season, deltadays, y, x)", "check it")
    return {f"coherence_{s}_{d}": values[i, j] for i, s in enumerate(seasons) for j, d in enumerate(days)}


def _on_grid(layers: Layers, others: Layers) -> Layers:
    """Return layers brought to the shape of those already there: files of a tile cover the same ground."""
    if not others:
        return layers
    shape = next(iter(others.values())).shape
    return {name: _to_shape(values, (shape[0], shape[1])) for name, values in layers.items()}


def _to_shape(values: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the nearest pixel at each place: nothing is averaged, so nothing spreads and no wrap is crossed."""
    rows, cols = (
        np.minimum(((np.arange(size) + 0.5) * old / size).astype(np.intp), old - 1)
        for size, old in zip(shape, values.shape, strict=True)
    )
    return np.ascontiguousarray(values[rows[:, None], cols[None]])


def _partner(path: Path) -> str | None:
    """Return the Sentinel-2 patch that a Sentinel-1 patch names, None without its file."""
    if not path.is_file():
        return None
    try:
        said = json.loads(path.read_text(encoding="utf-8")).get("corresponding_s2_patch")
    except (UnicodeDecodeError, json.JSONDecodeError, AttributeError) as error:
        raise UsageError(f"{path} ({error})", "labels_metadata.json of BigEarthNet", "unpack it again") from error
    return None if said is None else str(said)


def _reflectance(patch: Path) -> Layers:
    """Return all bands of a patch on its 10 m grid."""
    layers = {}
    for band in S2:
        path = patch / f"{patch.name}_{band}.tif"
        if path.is_file():
            stored = read_band(path)
            reflectance = np.where(stored == 0, np.nan, stored * np.float32(S2_SCALE)).astype(np.float32)
            layers[band] = _to_shape(reflectance, (PATCH_PX, PATCH_PX))
    return layers


def _scene(name: str) -> str:
    """Return the scene of a patch: its name without row and column."""
    return "_".join(name.split("_")[:-2])
