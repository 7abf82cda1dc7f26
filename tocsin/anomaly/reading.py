"""One interferogram to score, as motion in metres on the grid of the series that was fitted."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, time
from datetime import date as calendar_day
from pathlib import Path
from typing import Final, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from rasterio.crs import CRS

from tocsin.anomaly.manifest import SeriesFacts
from tocsin.errors import (
    GridMismatchError,
    NotCoveringError,
    UsageError,
    WrongBandsError,
    WrongDatesError,
    WrongUnitsError,
)
from tocsin.grid import Grid, Window
from tocsin.phase import RAD_PER_METRE
from tocsin.raster import Raster, open_raster
from tocsin.raster.phase_files import acquired_pair, check_name, check_phase, kind_of, zero_is_missing
from tocsin.series import read_series

SLACK_PX: Final = 0.25
"""Shift of pixel centres that still counts as the same grid."""
SIZE_SLACK: Final = 1e-3
"""Relative difference of pixel sizes that still counts as the same."""


class AnomalyInputs(BaseModel):
    """What an anomaly scoring reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    interferogram: str = Field(min_length=1, description="GeoTIFF of unwrapped phase or of motion, or a series as npz")
    date: calendar_day | None = Field(None, description="epoch of a series")
    units: Literal["rad", "m"] = Field("rad", description="of a GeoTIFF; a series is in metres")


@dataclass(frozen=True)
class Motion:
    """What is scored.

    Attributes
    ----------
    id
        File stem, with the day where a series holds many.
    metres
        float32 [row, col] on the grid of the fitted series, toward the satellite, NaN where missing.
    grid
        That grid.
    acquired
        Time of the later acquisition, UTC, None when unknown.
    sha256
        Of the file.
    day_only
        Whether 00:00 stands for an unknown time of that day.
    """

    id: str
    metres: NDArray[np.float32]
    grid: Grid
    acquired: datetime | None
    sha256: str
    day_only: bool


def grid_of(facts: SeriesFacts) -> Grid:
    """Return the grid of a series: WGS 84, north up."""
    rows, cols = facts.shape
    down = (facts.lat_deg[1] - facts.lat_deg[0]) / (rows - 1)
    right = (facts.lon_deg[1] - facts.lon_deg[0]) / (cols - 1)
    corner = facts.lon_deg[0] - right / 2, facts.lat_deg[0] - down / 2
    return Grid(CRS.from_epsg(4326), Affine(right, 0.0, corner[0], 0.0, down, corner[1]), rows, cols)


def read_motion(inputs: AnomalyInputs, facts: SeriesFacts) -> Motion:
    """Read what is to be scored.

    Raises
    ------
    UsageError
        A series without a date, or a date without a series.
    WrongDatesError
        No epoch has that date.
    GridMismatchError, NotCoveringError
        It does not lie on the fitted grid.
    WrongUnitsError, WrongBandsError
        It is not one band of unwrapped phase or motion.
    """
    if Path(inputs.interferogram).suffix.lower() == ".npz":
        return _of_series(inputs, facts)
    if inputs.date is not None:
        raise UsageError("--date with a raster", "--date with a series (.npz)", "leave out --date")
    check_name(Path(inputs.interferogram).name, inputs.units)
    with open_raster(inputs.interferogram) as raster:
        return _of_raster(raster, inputs, facts)


def _of_series(inputs: AnomalyInputs, facts: SeriesFacts) -> Motion:
    path = Path(inputs.interferogram)
    if inputs.date is None:
        raise UsageError(f"{path}, a series, without --date", "the day of one epoch", "pass --date YYYY-MM-DD")
    series = read_series(path)
    if inputs.date not in series.dates:
        raise WrongDatesError(
            f"--date {inputs.date}", f"an epoch of {path.name}: {series.dates[0]} to {series.dates[-1]}", "choose one"
        )
    ends = series.lats[0], series.lats[-1], series.lons[0], series.lons[-1]
    step = abs(facts.lat_deg[1] - facts.lat_deg[0]) / (facts.shape[0] - 1)
    apart = np.abs(np.subtract(ends, (*facts.lat_deg, *facts.lon_deg)))
    if series.increments_m.shape[1:] != facts.shape or float(apart.max()) > SLACK_PX * step:
        raise GridMismatchError(
            f"{path.name} of {series.increments_m.shape[1:]} px at {ends[0]:.4f}, {ends[2]:.4f}",
            f"the fitted grid, {facts.shape} px at {facts.lat_deg[0]:.4f}, {facts.lon_deg[0]:.4f}",
            "pass an epoch of the series that was fitted, or fit this one",
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    acquired = datetime.combine(inputs.date, time(), UTC)
    metres = series.increments_m[series.dates.index(inputs.date)]
    return Motion(f"{path.stem}_{inputs.date}", metres, grid_of(facts), acquired, digest, day_only=True)


def _of_raster(raster: Raster, inputs: AnomalyInputs, facts: SeriesFacts) -> Motion:
    if raster.count != 1:
        raise WrongBandsError(f"{raster.href} with {raster.count} bands", "one band", "pass the phase alone")
    if inputs.units == "rad" and kind_of(raster.path.name, raster.descriptions) == "wrapped":
        raise WrongUnitsError(
            f"{raster.href}, which is wrapped phase", "unwrapped phase, or motion in metres", "pass the .geo.unw.tif"
        )
    grid = grid_of(facts)
    stored = raster.read(_window(raster, grid))[0]
    if zero_is_missing(raster.path.name):
        stored = np.where(stored == 0, np.float32(np.nan), stored)
    check_phase(raster.href, stored[None], "unwrapped", inputs.units)
    pair = acquired_pair(str(raster.path), raster.tags)
    metres = stored if inputs.units == "m" else -stored / np.float32(RAD_PER_METRE)
    return Motion(raster.path.stem, metres, grid, pair.secondary, raster.sha256(), day_only=pair.day_only)


def _window(raster: Raster, grid: Grid) -> Window:
    """Return where the fitted grid lies in a raster of the same pixels."""
    here, there = raster.grid.transform, grid.transform
    sizes = abs(here.a / there.a - 1), abs(here.e / there.e - 1)
    if raster.grid.crs != grid.crs or max(sizes) > SIZE_SLACK:
        raise GridMismatchError(
            f"{raster.href} in {raster.grid.crs_name} with pixels of {here.a:g} x {abs(here.e):g}",
            f"{grid.crs_name} with pixels of {there.a:g} x {abs(there.e):g}, as fitted",
            "pass an interferogram of the same product, or resample it",
        )
    row, col = (there.f - here.f) / here.e, (there.c - here.c) / here.a
    if max(abs(row - round(row)), abs(col - round(col))) > SLACK_PX:
        raise GridMismatchError(
            f"{raster.href}, shifted by {row % 1:.2f}, {col % 1:.2f} px", "the fitted grid", "resample it to that grid"
        )
    window = Window(round(row), round(col), grid.height, grid.width)
    if window.intersection(raster.grid.window) is None:
        raise NotCoveringError(f"{raster.href}, elsewhere", f"the volcano at {grid.bounds}", "pass its interferogram")
    return window
