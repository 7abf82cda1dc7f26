"""Landslide chips that parity is measured on: simulated always, real backscatter where the data sets are at hand.

Each case is there because a graph can fail on it alone: a batch frozen at its traced size, a place for an acquisition
that is empty, a band or a side that is missing, a NaN that spreads, heights that are none.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from export.parity import ParityChips
from tocsin.hazards.landslide import ACQUISITIONS, BANDS, CHIP, GSD_M
from tocsin.simulate import LandslideSettings, NumpyRandom, landslide_pair
from training.datasets.opera_rtc import POLARISATIONS, BurstFiles, BurstSeries, OperaRtc

FloatArray = npt.NDArray[np.float32]
Chip = Mapping[str, FloatArray]
"""`pre` and `post` [3, 2, rows, cols] in dB, `dem` [1, rows, cols] in m."""

BATCHES: Final = (1, 3, 8)
"""Batches of simulated cases; none is the one that the graph was traced with."""

OPERA: Final = Path("opera_rtc")
"""Series of OPERA RTC-S1 under a data folder."""


def landslide_chips(data: Path | None, seed: int = 40_000_000, size_px: int = CHIP) -> Iterator[ParityChips]:
    """Yield batches under the input names `pre`, `post` and `dem`.

    Parameters
    ----------
    data
        Folder of the data sets (TOCSIN_DATA), or None: simulated chips only.
    seed
        Of the simulated chips.
    size_px
        Rows and columns of a chip.
    """
    for number, batch in enumerate(BATCHES):
        drawn = [simulated(seed + 10 * number + one, size_px) for one in range(batch)]
        yield _case(f"simulated, batch of {batch}", drawn)
    chip = simulated(seed + 100, size_px, LandslideSettings(landslide_share=1.0, acquisitions=(3, 3)))
    for name, changed in _altered(chip, np.random.default_rng(seed)):
        yield _case(name, [changed])
    nothing = {name: np.full_like(values, np.nan) for name, values in chip.items()}
    yield _case("nothing but NaN beside a valid chip", [nothing, chip])
    if data is not None and (data / OPERA).is_dir():
        yield from _real(data / OPERA, size_px)


def simulated(seed: int, size_px: int, settings: LandslideSettings | None = None) -> Chip:
    """Return one simulated chip with its heights; places without an acquisition are NaN."""
    pair = landslide_pair(NumpyRandom(seed), (size_px, size_px), settings)
    return {"pre": three(pair.pre_db), "post": three(pair.post_db), "dem": pair.dem[None]}


def three(acquisitions_db: FloatArray) -> FloatArray:
    """Return up to three acquisitions [n, 2, rows, cols] in the three places of the graph, NaN where there is none."""
    out = np.full((ACQUISITIONS, *acquisitions_db.shape[1:]), np.nan, np.float32)
    out[: len(acquisitions_db)] = acquisitions_db
    return out


def _altered(chip: Chip, random: np.random.Generator) -> Iterator[tuple[str, Chip]]:
    """Yield the chip with one thing missing or wrong at a time."""
    nan = np.float32(np.nan)
    yield "heights absent", _with(chip, dem=np.full_like(chip["dem"], nan))
    yield "heights with holes", _with(chip, dem=_holed(chip["dem"], random))
    for band, name in enumerate(BANDS):
        missing = {side: chip[side].copy() for side in ("pre", "post")}
        for values in missing.values():
            values[:, band] = nan
        yield f"{name} missing", _with(chip, **missing)
    crossed = {side: chip[side].copy() for side in ("pre", "post")}
    crossed["pre"][:, 0], crossed["post"][:, 1] = nan, nan
    yield "VH alone before, VV alone after", _with(chip, **crossed)
    for places in ((0,), (2,), (0, 2)):
        kept = {side: _kept(chip[side], places) for side in ("pre", "post")}
        yield f"acquisitions in places {', '.join(str(place + 1) for place in places)} alone", _with(chip, **kept)
    yield "holes of NaN, others in each band", _with(chip, **{s: _holed(chip[s], random) for s in ("pre", "post")})
    half = chip["post"].copy()
    half[..., : half.shape[-1] // 2] = nan
    yield "left half not seen after", _with(chip, post=half)
    for side in ("pre", "post"):
        yield f"nothing in {side}", _with(chip, **{side: np.full_like(chip[side], nan)})
    single = {side: np.full_like(chip[side], nan) for side in ("pre", "post")}
    for values in single.values():
        values[0, 1, 40, 17] = -14.0
    yield "one measured pixel", _with(chip, **single)
    yield "nothing changed", _with(chip, post=chip["pre"])
    extremes = np.array([np.inf, -np.inf, -9999.0, 1e30, -60.4, 36.8], np.float32)
    wild = {side: _holed(chip[side], random, extremes) for side in ("pre", "post")}
    yield "values out of range: infinite, -9999, -60 to 37 dB", _with(chip, **wild)
    odd = np.array([np.inf, -np.inf, -32768.0, -9999.0, 8848.0], np.float32)
    yield "heights out of range: infinite, -32768, -9999", _with(chip, dem=_holed(chip["dem"], random, odd))


def _with(chip: Chip, **changed: FloatArray) -> Chip:
    return {**chip, **changed}


def _kept(side: FloatArray, places: tuple[int, ...]) -> FloatArray:
    out = np.full_like(side, np.nan)
    out[list(places)] = side[list(places)]
    return out


def _holed(values: FloatArray, random: np.random.Generator, fill: FloatArray | None = None) -> FloatArray:
    """Return the values with a twentieth of them, and a block, replaced by NaN or by what is given in turn."""
    out, places = values.copy(), random.random(values.shape) < 0.05
    rows, cols = values.shape[-2:]
    places[..., rows // 2 : rows // 2 + rows // 8, cols // 4 : cols // 2] = True
    out[places] = np.resize(np.array([np.nan], np.float32) if fill is None else fill, np.count_nonzero(places))
    return out


def _real(folder: Path, size_px: int) -> Iterator[ParityChips]:
    """Yield the middle chip of every burst, three acquisitions on each side of its middle, without heights."""
    for series in OperaRtc(folder).series:
        middle = len(series.acquisitions) // 2
        sides = {"pre": slice(middle - ACQUISITIONS, middle), "post": slice(middle, middle + ACQUISITIONS)}
        chip = {
            side: three(np.stack([_resampled(series, each, size_px) for each in series.acquisitions[places]]))
            for side, places in sides.items()
        }
        chip["dem"] = np.full((1, size_px, size_px), np.nan, np.float32)
        yield _case(f"real, {series.burst} {series.variant}".strip(), [chip])


def _resampled(series: BurstSeries, acquisition: BurstFiles, size_px: int) -> FloatArray:
    """Return VV and VH [2, size, size], dB, on pixels of the model's size, resampled as a scoring does."""
    from tocsin.grid import Window
    from tocsin.raster import align, open_raster
    from tocsin.raster.units import to_db
    from tocsin.scene_files import model_grid_of

    grid = model_grid_of(series.grid(), (GSD_M, GSD_M), GSD_M)
    middle = Window((grid.height - size_px) // 2, (grid.width - size_px) // 2, size_px, size_px)
    out = np.full((len(POLARISATIONS), size_px, size_px), np.nan, np.float32)
    for polarisation, path in acquisition.files.items():
        # The files hold linear power: between it and a mean in linear power there is nothing to convert.
        with align(open_raster(path), grid, "bilinear") as source:
            power = source.read(middle)[0]
        out[POLARISATIONS.index(polarisation)] = to_db(power, "linear")
    return out


def _case(case: str, chips: list[Chip]) -> ParityChips:
    return ParityChips(case, {name: np.stack([chip[name] for chip in chips]) for name in ("pre", "post", "dem")})
