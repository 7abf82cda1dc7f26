"""Sen12Landslides (Höhn et al. 2025, Scientific Data): Sentinel-1 patches by their published layout.

``{s1asc,s1dsc}/REGION_{s1asc,s1dsc}_NUMBER.nc``, NetCDF-4: variables VV and VH (dB), the same MASK and DEM at each of
15 times, over dimensions time, y and x of 128 px of 10 m; attributes ``crs``, ``event_date``, ``date_confidence`` and
``annotated`` as texts. What the release does not say is handled here:

- dimensions come in the order (time, y, x) or (time, x, y), by their names: axes are turned to rows and columns;
- x and y hold the upper left corner of each pixel, not its centre;
- a short series is filled up with copies of its own acquisitions: a time counts once;
- several landslides of other days may share a patch: before is before the first, after is after the last of them;
- gaps were filled from neighbours before publication, which cannot be undone.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from tocsin.errors import GridMismatchError, NotARasterError, UsageError, WrongBandsError, WrongDatesError
from tocsin.grid import Grid
from tocsin.hazards.landslide import ACQUISITIONS, BANDS
from tocsin.raster.units import check_values, to_db

SENSORS: Final = ("s1asc", "s1dsc")
NAME: Final = re.compile(r"(?P<region>.+)_(?P<sensor>s1asc|s1dsc)_(?P<number>\d+)")
HDF5: Final = b"\x89HDF\r\n\x1a\n"
SINCE: Final = re.compile(r"(?P<unit>\w+?)s? since (?P<start>\S+(?: \S+)?)")
UNITS_S: Final = {
    "day": 86400.0,
    "hour": 3600.0,
    "minute": 60.0,
    "second": 1.0,
    "millisecond": 1e-3,
    "microsecond": 1e-6,
    "nanosecond": 1e-9,
}


@dataclass(frozen=True)
class LandslidePatch:
    """One patch.

    Attributes
    ----------
    name
        Without folder and suffix.
    region
        The unit by which data are split; what is drawn from one region is never independent.
    orbit_pass
        ``ascending`` or ``descending``.
    grid
        Where the pixels lie.
    times
        UTC, ascending, each once.
    s1_db
        float32 [time, 2, row, col] VV, VH in dB, NaN where missing.
    dem_m
        float32 [row, col], m, NaN when the patch has none; the release clips it at 0 from below.
    mask
        bool [row, col]: landslide.
    event_dates
        Days of the landslides, ascending; empty when unknown or without landslides.
    date_confidence
        Lowest confidence of these days, 0-1; None when not stated.
    annotated
        Whether somebody looked for landslides and drew them; a patch may be annotated and still have none.
    """

    name: str
    region: str
    orbit_pass: str
    grid: Grid
    times: tuple[datetime, ...]
    s1_db: NDArray[np.float32]
    dem_m: NDArray[np.float32]
    mask: NDArray[np.bool_]
    event_dates: tuple[date, ...]
    date_confidence: float | None
    annotated: bool

    def around(self, first: date, last: date) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the closest acquisitions before `first` and after `last`; what was taken on these days is neither.

        Returns
        -------
        tuple of numpy.ndarray
            pre, post: float32 [3, 2, row, col] each, VV, VH in dB in the order of time; NaN where there are fewer.
        """
        days = np.array([time.date() for time in self.times])
        before = np.flatnonzero(days < first)[-ACQUISITIONS:]
        after = np.flatnonzero(days > last)[:ACQUISITIONS]
        sides = []
        for chosen in (before, after):
            side = np.full((ACQUISITIONS, *self.s1_db.shape[1:]), np.nan, dtype=np.float32)
            side[: len(chosen)] = self.s1_db[chosen]
            sides.append(side)
        return sides[0], sides[1]

    def around_events(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Return `around` the landslides of the patch, None when their days are unknown or one side is empty."""
        if not self.event_dates:
            return None
        pre, post = self.around(self.event_dates[0], self.event_dates[-1])
        return (pre, post) if np.isfinite(pre).any() and np.isfinite(post).any() else None


class Sen12Landslides:
    """The Sentinel-1 patches below a folder.

    Parameters
    ----------
    folder
        Holds ``REGION_s1asc_NUMBER.nc`` or ``REGION_s1dsc_NUMBER.nc`` at any depth, archives unpacked.

    Raises
    ------
    UsageError
        When there is none.
    """

    def __init__(self, folder: str | Path) -> None:
        found = sorted(Path(folder).rglob("*.nc"))
        self._paths = {path.stem: path for path in found if NAME.fullmatch(path.stem)}
        if not self._paths:
            raise UsageError(
                f"{folder} without Sentinel-1 patches",
                "files named REGION_s1asc_NUMBER.nc or REGION_s1dsc_NUMBER.nc",
                "unpack the archives of the release, and pass their folder",
            )

    def names(self, sensor: str | None = None) -> tuple[str, ...]:
        """Return the names of all patches, sorted; those of ``s1asc`` or ``s1dsc`` when asked.

        Raises
        ------
        UsageError
            For another sensor.
        """
        if sensor is not None and sensor not in SENSORS:
            raise UsageError(f"sensor {sensor!r}", f"one of {', '.join(SENSORS)}", "name one of these")
        return tuple(name for name in sorted(self._paths) if sensor is None or f"_{sensor}_" in name)

    def regions(self) -> tuple[str, ...]:
        """Return the regions, sorted: the unit by which data are split."""
        return tuple(sorted({_parts(name)["region"] for name in self._paths}))

    def read(self, name: str) -> LandslidePatch:
        """Read one patch.

        Raises
        ------
        UsageError
            When there is no such patch.
        NotARasterError
            When the file is no NetCDF-4.
        WrongBandsError, WrongDatesError, WrongUnitsError, GridMismatchError
            When a variable or the days are missing or cannot be read, backscatter is not in dB, or north is not up.
        """
        import h5py

        if name not in self._paths:
            raise UsageError(f"patch {name!r}", f"one of {len(self._paths)}", "ask names() for them")
        path = self._paths[name]
        with path.open("rb") as file:
            if file.read(len(HDF5)) != HDF5:
                raise NotARasterError(f"{path}", "a NetCDF-4 file of the release", "unpack or download it again")
        with h5py.File(path, "r") as stored:
            return _patch(name, path, stored)

    def patches(self, sensor: str | None = None) -> Iterator[LandslidePatch]:
        """Read the patches in the order of their names."""
        for name in self.names(sensor):
            yield self.read(name)


def _parts(name: str) -> re.Match[str]:
    found = NAME.fullmatch(name)
    assert found is not None
    return found


def _patch(name: str, path: Path, stored: Any) -> LandslidePatch:  # noqa: ANN401 - h5py has no types
    missing = [key for key in (*BANDS, "MASK", "time", "y", "x") if key not in stored]
    if missing:
        raise WrongBandsError(f"{path} without {', '.join(missing)}", "a Sentinel-1 patch of the release", "check it")
    times = _times(path, stored["time"])
    order = [index for index, time in enumerate(times) if time not in times[:index]]
    order.sort(key=lambda index: times[index])
    s1_db = np.stack([_values(stored[band]) for band in BANDS], axis=1)[order]
    for band, values in zip(BANDS, np.moveaxis(s1_db, 1, 0), strict=True):
        check_values(f"{path} ({band})", values, "db")
    flat = (s1_db.shape[-2], s1_db.shape[-1])
    parts = _parts(name)
    return LandslidePatch(
        name=name,
        region=parts["region"],
        orbit_pass="ascending" if parts["sensor"] == "s1asc" else "descending",
        grid=_grid(stored, flat),
        times=tuple(times[index] for index in order),
        s1_db=to_db(s1_db, "db"),
        dem_m=_values(stored["DEM"])[0] if "DEM" in stored else np.full(flat, np.nan, dtype=np.float32),
        mask=(_values(stored["MASK"]) > 0).any(axis=0),
        event_dates=_days(path, _text(stored, "event_date")),
        date_confidence=min((float(each) for each in _items(_text(stored, "date_confidence"))), default=None),
        annotated=_text(stored, "annotated").strip().lower() in {"true", "1"},
    )


def _values(variable: Any) -> NDArray[np.float32]:  # noqa: ANN401 - h5py has no types
    """Return a variable as float32 [time, row, col], NaN where it holds its fill value."""
    values = np.asarray(variable[()])
    filled = variable.attrs.get("_FillValue")
    out = values.astype(np.float32)
    if filled is not None:
        out[values == np.ravel(filled)[0]] = np.nan
    named = [_dimension(variable, axis) for axis in range(values.ndim)]
    return out.transpose(0, 2, 1) if named[1:] == ["x", "y"] else out


def _dimension(variable: Any, axis: int) -> str:  # noqa: ANN401 - h5py has no types
    scales = list(variable.dims[axis].values())
    return str(scales[0].name).rpartition("/")[2] if scales else ""


def _grid(stored: Any, shape: tuple[int, int]) -> Grid:  # noqa: ANN401 - h5py has no types
    x, y = (np.asarray(stored[axis][()], dtype=np.float64) for axis in ("x", "y"))
    if not (x[1] > x[0] and y[1] < y[0]):
        raise GridMismatchError(
            f"{stored.filename} with x from {x[0]} and y from {y[0]}", "x growing and y falling", "download it again"
        )
    # float() keeps numpy's scalars out of the transform, whose tests and repr expect plain numbers.
    at = Affine(float(x[1] - x[0]), 0.0, float(x[0]), 0.0, float(y[1] - y[0]), float(y[0]))
    return Grid(CRS.from_user_input(_text(stored, "crs")), at, *shape)


def _times(path: Path, variable: Any) -> list[datetime]:  # noqa: ANN401 - h5py has no types
    """Decode times by the CF conventions (section 4.4): a count of units since a start."""
    found = SINCE.fullmatch(_decoded(variable.attrs.get("units", "")))
    start = None
    if found and found["unit"] in UNITS_S:
        try:
            start = datetime.fromisoformat(found["start"])
        except ValueError:
            start = None
    if found is None or start is None:
        raise WrongDatesError(f"{path}, whose times have no unit", "days (or less) since a day", "download it again")
    step_s = UNITS_S[found["unit"]]
    return [start.replace(tzinfo=UTC) + timedelta(seconds=float(count) * step_s) for count in variable[()]]


def _days(path: Path, text: str) -> tuple[date, ...]:
    try:
        return tuple(sorted({date.fromisoformat(each[:10]) for each in _items(text)}))
    except ValueError as error:
        raise WrongDatesError(f"{path} with events of {text}", "days YYYY-MM-DD", "check the file") from error


def _items(text: str) -> list[str]:
    """Return the parts of a list that is stored as text; the release writes None for what is unknown."""
    return [each.strip() for each in text.split(",") if each.strip() not in {"", "None", "nan", "NaT"}]


def _text(stored: Any, name: str) -> str:  # noqa: ANN401 - h5py has no types
    return _decoded(stored.attrs.get(name, ""))


def _decoded(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
