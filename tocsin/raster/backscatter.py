"""Sentinel-1 backscatter as one source of two bands, VV and VH, in dB."""

import re
from pathlib import Path

import numpy as np

from tocsin.errors import WrongBandsError
from tocsin.grid import Grid, Window
from tocsin.raster.acquired import Acquired
from tocsin.raster.locating import locate
from tocsin.raster.opening import Raster, open_raster
from tocsin.raster.sampling import check_same_grid, sample_windows
from tocsin.raster.source import BandArray, ClosingSource, Limits
from tocsin.raster.units import Units, check_name, check_values, to_db

POLARISATIONS = ("VV", "VH")
POLARISATION = re.compile(r"(?<![A-Za-z])(VV|VH|HH|HV)(?![A-Za-z])", re.IGNORECASE)

Band = tuple[Raster, int]


class Backscatter(ClosingSource):
    """An acquisition: a `Source` of [VV, VH] in dB. Made by `open_backscatter`.

    Attributes
    ----------
    href
        What the caller passed.
    files
        The rasters behind it (one or two), for provenance: ``href``, ``path``, ``sha256()``.
    grid
        Where the pixels lie.
    units
        Unit of the files; what is read is dB.
    scene_id
        Name of the scene, from the file or folder name without the polarisation.
    missing
        Polarisations that no file holds; they are NaN.
    """

    def __init__(self, href: str, scene_id: str, bands: tuple[Band | None, Band | None], units: Units) -> None:
        self.href = href
        self.scene_id = scene_id
        self.units = units
        self._bands = bands
        self.missing = tuple(name for name, band in zip(POLARISATIONS, bands, strict=True) if band is None)
        self.files: tuple[Raster, ...] = tuple(dict.fromkeys(band[0] for band in bands if band is not None))
        self.grid: Grid = self.files[0].grid
        self._judged = [False, False]
        self._judge_by_sample()

    @property
    def acquired(self) -> Acquired | None:
        """Acquisition time, None when unknown."""
        return next((file.acquired for file in self.files if file.acquired), None)

    def read(self, window: Window) -> BandArray:
        """Return the backscatter of a window.

        Returns
        -------
        ndarray
            float32 [2, row, col]: VV, VH in dB, NaN where invalid or outside the scene.

        Raises
        ------
        TruncatedError
            When a file's body is damaged.
        WrongUnitsError
            When the first valid pixels appear only now and contradict the stated units.
        """
        stored = self._stored(window)
        self._judge(stored)
        return to_db(stored, self.units)

    def close(self) -> None:
        """Release the files."""
        for file in self.files:
            file.close()

    def _stored(self, window: Window) -> BandArray:
        first, second = self._bands
        if first is not None and second is not None and first[0] is second[0]:
            return first[0].read(window, (first[1], second[1]))
        nothing = np.full((1, *window.shape), np.nan, dtype=np.float32)
        return np.concatenate([nothing if band is None else band[0].read(window, (band[1],)) for band in self._bands])

    def _judge(self, stored: BandArray) -> None:
        for index, polarisation in enumerate(POLARISATIONS):
            if not self._judged[index]:
                self._judged[index] = check_values(f"{self.href} ({polarisation})", stored[index], self.units)

    def _judge_by_sample(self) -> None:
        """Judge the unit by a sample of bounded size; where it holds too few valid values, reading judges."""
        windows = sample_windows(self.grid.shape, self.files[0].block_shape)
        self._judge(np.concatenate([self._stored(window).reshape(2, -1) for window in windows], axis=1))


def open_backscatter(
    spec: str | Path, units: Units = "db", limits: Limits | None = None, *, one_band: bool = False
) -> Backscatter:
    """Open an acquisition given as one file, a folder or two files.

    Parameters
    ----------
    spec
        One raster with both bands; a folder in OPERA RTC-S1 or HyP3 layout (one ``*_VV.tif`` and one ``*_VH.tif``); or
        ``VV.tif;VH.tif``. Bands are found by description or file name, else they are [VV, VH] in order.
    units
        Unit of the files: ``db`` or ``linear`` power.
    limits
        Largest raster accepted.
    one_band
        Take a file of a single band as well, if its description or name says which polarisation it is.

    Raises
    ------
    WrongBandsError
        A polarisation is missing, double or cannot be told.
    WrongUnitsError
        The values contradict ``units``, or are uncalibrated.
    GridMismatchError
        The two files lie on different grids.
    TocsinError
        And whatever `open_raster` raises.
    """
    href = str(spec)
    paths = [part.strip() for part in href.split(";")]
    if len(paths) > 2:
        raise WrongBandsError(f"{len(paths)} files in {href}", "VV.tif;VH.tif", "pass one acquisition at a time")
    if len(paths) == 1 and locate(href).is_dir():
        folder = locate(href)
        check_name(folder.name, units)
        files = [_find_in(folder, href, polarisation) for polarisation in POLARISATIONS]
        return _open(href, folder.name, files, (units, limits))
    return _open(href, acquisition_name(href), [Path(path) for path in paths], (units, limits), one_band=one_band)


def acquisition_name(spec: str) -> str:
    """Return the name of an acquisition of one file, or of two (``VV.tif;VH.tif``) without the polarisation."""
    first, *others = spec.split(";")
    stem = Path(first.strip()).stem
    return _without_polarisation(stem) if others else stem


def acquisition_files(spec: str | Path) -> tuple[Path, ...]:
    """Return the files of an acquisition, given as for `open_backscatter`, without opening any.

    Raises
    ------
    WrongBandsError
        A folder does not hold one file of each polarisation.
    TocsinError
        And whatever `locate` raises.
    """
    located = [locate(part.strip()) for part in str(spec).split(";")]
    if len(located) == 1 and located[0].is_dir():
        return tuple(_find_in(located[0], str(spec), polarisation) for polarisation in POLARISATIONS)
    return tuple(located)


def _open(
    href: str, scene_id: str, paths: list[Path], how: tuple[Units, Limits | None], *, one_band: bool = False
) -> Backscatter:
    units, limits = how
    rasters: list[Raster] = []
    try:
        for path in paths:
            check_name(path.name, units)
            rasters.append(open_raster(path, limits))
        bands: tuple[Band | None, Band | None]
        if len(rasters) == 2:
            bands = _bands_of_two(rasters[0], rasters[1])
        else:
            bands = (_one_band(rasters[0]) if one_band else None) or _bands_of_one(rasters[0])
        return Backscatter(href, scene_id, bands, units)
    except BaseException:
        for raster in rasters:
            raster.close()
        raise


def _find_in(folder: Path, href: str, polarisation: str) -> Path:
    rasters = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in {".tif", ".tiff"} and path.is_file()]
    # A last token decides: HyP3 and OPERA names may hold other letters before it, and masks carry none.
    found = [path for path in rasters if _polarisations(path.stem)[-1:] == [polarisation]]
    if len(found) != 1:
        raise WrongBandsError(
            f"{href}, a folder with {len(found)} {polarisation} files among {len(rasters)} TIFFs",
            "one *_VV.tif and one *_VH.tif (OPERA RTC-S1, HyP3)",
            "pass the two files of one acquisition as 'VV.tif;VH.tif'",
        )
    return found[0]


def _one_band(raster: Raster) -> tuple[Band | None, Band | None] | None:
    """Return the only band of a file in its place beside a missing one; None when it is not one, or not named."""
    if raster.count != 1:
        return None
    named = _polarisations(raster.descriptions[0]) or _polarisations(raster.path.stem)[-1:]
    if named == ["VV"]:
        return (raster, 0), None
    return (None, (raster, 0)) if named == ["VH"] else None


def _bands_of_one(raster: Raster) -> tuple[Band, Band]:
    named = [_polarisations(text) for text in raster.descriptions]
    if any(named):
        places = [[index for index, names in enumerate(named) if names == [pol]] for pol in POLARISATIONS]
        if any(len(place) != 1 for place in places):
            raise _wrong_bands(raster)
        return (raster, places[0][0]), (raster, places[1][0])
    if raster.count != 2:
        raise _wrong_bands(raster)
    return (raster, 0), (raster, 1)


def _bands_of_two(first: Raster, second: Raster) -> tuple[Band, Band]:
    for raster in (first, second):
        if raster.count != 1:
            raise WrongBandsError(
                f"{raster.href} with {raster.count} bands", "one band in each of VV.tif;VH.tif", "pass one band a file"
            )
    names = [
        _polarisations(raster.descriptions[0]) or _polarisations(raster.path.stem)[-1:] for raster in (first, second)
    ]
    if names == [["VH"], ["VV"]]:
        first, second = second, first
    elif names not in ([["VV"], ["VH"]], [[], []], [["VV"], []], [[], ["VH"]]):
        raise WrongBandsError(
            f"{first.href};{second.href}, named {names[0]} and {names[1]}", "VV and VH", "pass 'VV.tif;VH.tif'"
        )
    check_same_grid(first, second, "VV and VH")
    return (first, 0), (second, 0)


def _polarisations(text: str) -> list[str]:
    return [found.upper() for found in POLARISATION.findall(text)]


def _without_polarisation(stem: str) -> str:
    short = re.sub(r"[_\-. ]+(VV|VH)(?![A-Za-z])", "", stem, flags=re.IGNORECASE)
    return short or stem


def _wrong_bands(raster: Raster) -> WrongBandsError:
    named = ", ".join(text or "unnamed" for text in raster.descriptions)
    return WrongBandsError(
        f"{raster.href} with {raster.count} bands ({named})",
        "VV and VH, by description or as the only two bands in this order",
        "pass a file with both polarisations, or 'VV.tif;VH.tif'",
    )
