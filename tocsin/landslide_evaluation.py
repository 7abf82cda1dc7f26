"""How right a landslide map is on real events: pixels told apart, beside the plain ratio of VH after and before.

Conventions, the same wherever a figure is printed: AUROC and average precision are over the pixels of the label where
the label, the mask and the ratio are all known; the ratio is that of the mean linear powers of VH over the same
acquisitions, in dB, with the sign that does better on these very pixels, which flatters it; a quiet pair has no
landslide, so that every cell called low or high there is a false alarm.
"""

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tocsin.detection_figures import Record, auroc, average_precision, shortcut
from tocsin.hazards.landslide import BANDS, MODEL
from tocsin.landslide_events import EventOptions, EventPair, find_pairs
from tocsin.raster import align, open_backscatter, open_raster
from tocsin.result import LandslideSummary

if TYPE_CHECKING:
    from tocsin.grid import Grid
    from tocsin.result import Result
    from tocsin.scoring import ScoringOptions

FloatArray = npt.NDArray[np.float32]

SLID: Final = 1
"""Label of a pixel that slid; 0 is one that did not."""

CONVENTIONS: Final = (
    "pixels of the label where label, mask and ratio are known; VH ratio: mean power after over before on the same "
    "acquisitions, the better sign on these very pixels; quiet: both sides lie before the event"
)


class PairReport(Record):
    """One series of one event, across the event or before it."""

    id: str = Field(description="path of the first acquisition after, relative to the data folder")
    event: str = Field(description="path of the event's folder, relative to the data folder")
    series: str
    quiet: bool = Field(description="whether nothing slid between the sides")
    before: int = Field(ge=1, description="acquisitions")
    after: int = Field(ge=1, description="acquisitions")
    label: int = Field(ge=0, le=1, description="predicted: 1 when any cell is low or high")
    score: float | None = Field(ge=0, le=1, description="highest P(low or high) of all cells; None: nothing was seen")
    slid: int = Field(ge=0, description="pixels that slid at the event, of those compared")
    pixels: int = Field(ge=0, description="pixels compared")
    auroc: float | None = Field(description="of the mask; None for a quiet pair")
    ratio_auroc: float | None = Field(description="of the VH ratio; None for a quiet pair")
    average_precision: float | None = Field(description="of the mask; None for a quiet pair")
    ratio_average_precision: float | None = Field(description="of the VH ratio; None for a quiet pair")
    mask_inside: float | None = Field(description="mean of the mask where the event's landslides are, 0-1")
    mask_outside: float | None = Field(description="mean of the mask elsewhere, 0-1")
    cells: int = Field(ge=0, description="cells judged")
    low_cells: int = Field(ge=0)
    high_cells: int = Field(ge=0)
    expected_landslides: float | None = Field(ge=0)


class LandslideReport(Record):
    """Every pair and what they add up to."""

    hazard: str = MODEL
    conventions: str = CONVENTIONS
    model: str = Field(description="name and version of the model")
    sha256: str = Field(description="of its graph")
    precision: str
    runtime: str
    device: str
    threshold: float = Field(description="probability from which a class is reached")
    learnt_from: tuple[str, ...] = Field(description="data sets that the model learnt from")
    pairs: tuple[PairReport, ...]
    mean_auroc: float | None = Field(description="over the pairs across events")
    mean_ratio_auroc: float | None
    worst_gain: float | None = Field(description="smallest AUROC of the mask less that of the ratio, over these pairs")
    quiet_cells: int = Field(ge=0, description="cells of all quiet pairs")
    quiet_low_share: float | None = Field(description="share of these that are called low")
    quiet_high_share: float | None = Field(description="share of these that are called high")


def evaluate_landslide(
    folder: Path, events: EventOptions, options: "ScoringOptions", on_pair: Callable[[], None]
) -> LandslideReport:
    """Score every pair below `folder` as `tocsin landslide` does, and compare its mask with the label.

    Parameters
    ----------
    folder
        Events, as `tocsin.landslide_events.find_pairs` reads them.
    events
        How they are read.
    options
        How to score.
    on_pair
        Called after every pair.

    Raises
    ------
    TocsinError
        There is no event, a file cannot be read or does not cover the label, or the model cannot be run.
    """
    from tocsin.repository import read_manifest
    from tocsin.scoring import score

    pairs = find_pairs(folder, events)
    reports, result = [], None
    for pair in pairs:
        with TemporaryDirectory(prefix="tocsin-evaluate-") as work:
            result = score(
                MODEL,
                pre=[str(path) for path in pair.pre],
                post=[str(path) for path in pair.post],
                dem=pair.dem,
                units=events.units,
                out=work,
                options=options,
            )
            reports.append(_judge(pair, folder, events, result))
        on_pair()
    assert result is not None, "find_pairs returns at least one pair"
    ran = result.provenance
    manifest = read_manifest(MODEL, options.model_repository)
    return LandslideReport(
        model=f"{ran.model} {ran.version}",
        sha256=ran.sha256,
        precision=ran.precision,
        runtime=ran.runtime,
        device=ran.device,
        threshold=ran.threshold,
        learnt_from=tuple(source.name for source in manifest.training.data),
        **summarise(reports),
    )


def summarise(pairs: Sequence[PairReport]) -> dict[str, Any]:
    """Return the fields of a `LandslideReport` that follow from its pairs."""
    both = [(pair.auroc, pair.ratio_auroc) for pair in pairs if pair.auroc is not None and pair.ratio_auroc is not None]
    quiet = [pair for pair in pairs if pair.quiet]
    cells = sum(pair.cells for pair in quiet)
    return {
        "pairs": tuple(pairs),
        "mean_auroc": _mean([own for own, _ in both]),
        "mean_ratio_auroc": _mean([ratio for _, ratio in both]),
        "worst_gain": min((own - ratio for own, ratio in both), default=None),
        "quiet_cells": cells,
        "quiet_low_share": sum(pair.low_cells for pair in quiet) / cells if cells else None,
        "quiet_high_share": sum(pair.high_cells for pair in quiet) / cells if cells else None,
    }


def vh_ratio_db(pre_db: FloatArray, post_db: FloatArray) -> FloatArray:
    """Return the ratio of mean VH power after over before, the plainest sign of a landslide.

    Parameters
    ----------
    pre_db, post_db
        float32 [acquisition, 2, row, col]: VV and VH, dB, NaN where missing.

    Returns
    -------
    numpy.ndarray
        float32 [row, col], dB; NaN where no acquisition of a side measured VH.
    """
    before, after = (_mean_power(side[:, BANDS.index("VH")]) for side in (pre_db, post_db))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(10 * np.log10(after / before), dtype=np.float32)


def write_predictions(path: Path, pairs: Iterable[PairReport]) -> None:
    """Write one row per pair: id, label (predicted: 1 when a cell is low or high), score (highest P of a cell)."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "label", "score"))
        for pair in pairs:
            writer.writerow((pair.id, pair.label, "" if pair.score is None else f"{pair.score:.6f}"))


def _judge(pair: EventPair, folder: Path, events: EventOptions, result: "Result") -> PairReport:
    summary = result.summary
    assert isinstance(summary, LandslideSummary), summary
    with open_raster(pair.label) as source:
        grid, label = source.grid, source.read(source.grid.window)[0]
    mask = _band_on(Path(result.products["mask"]), grid)
    ratio = vh_ratio_db(*(_stack_on(side, events, grid) for side in (pair.pre, pair.post)))
    compared = np.isfinite(label) & np.isfinite(mask) & np.isfinite(ratio)
    slid, said, plain = label[compared] == SLID, mask[compared], ratio[compared]
    found = {} if pair.quiet else _figures(said, plain, slid)
    with open_raster(result.products["probability"]) as source:
        likely = source.read(source.grid.window)[0]
    return PairReport(
        id=pair.post[0].relative_to(folder).as_posix(),
        event=pair.folder.relative_to(folder).as_posix(),
        series=pair.series,
        quiet=pair.quiet,
        before=len(pair.pre),
        after=len(pair.post),
        label=int(summary.low_cells + summary.high_cells > 0),
        score=float(np.nanmax(likely)) if np.isfinite(likely).any() else None,
        slid=int(slid.sum()),
        pixels=int(compared.sum()),
        mask_inside=_mean(said[slid]),
        mask_outside=_mean(said[~slid]),
        cells=summary.cells,
        low_cells=summary.low_cells,
        high_cells=summary.high_cells,
        expected_landslides=summary.expected_landslides,
        **{name: found.get(name) for name in FIGURES},
    )


FIGURES: Final = ("auroc", "ratio_auroc", "average_precision", "ratio_average_precision")


def _figures(said: FloatArray, ratio: FloatArray, slid: npt.NDArray[np.bool_]) -> dict[str, float | None]:
    plain = shortcut("VH ratio", ratio, slid)
    signed = ratio if plain.more_is_positive else -ratio
    values = auroc(said, slid), plain.auroc, average_precision(said, slid), average_precision(signed, slid)
    return dict(zip(FIGURES, values, strict=True))


def _band_on(path: Path, grid: "Grid") -> FloatArray:
    """Return the first band of a raster on a grid, the mean where pixels of the grid are larger."""
    with align(open_raster(path), grid, "bilinear") as source:
        band: FloatArray = source.read(grid.window)[0]
    return band


def _stack_on(paths: Sequence[Path], events: EventOptions, grid: "Grid") -> FloatArray:
    stack = []
    for path in paths:
        with open_backscatter(path, events.units) as source, align(source, grid, "power") as seen:
            stack.append(seen.read(grid.window))
    return np.stack(stack)


def _mean_power(vh_db: FloatArray) -> npt.NDArray[np.float64]:
    known = np.isfinite(vh_db)
    total = np.where(known, 10.0 ** (np.where(known, vh_db, 0.0) / 10), 0.0).sum(axis=0)
    count = known.sum(axis=0)
    mean = np.full(count.shape, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def _mean(values: Sequence[float] | FloatArray) -> float | None:
    return float(np.mean(values)) if len(values) else None
