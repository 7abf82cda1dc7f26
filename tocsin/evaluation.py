"""How right a flood map is: intersection over union of water, beside a threshold that needs no model.

Conventions, the same wherever a figure is printed: pixels labelled -1 and pixels without data in a band of the scene
are left out; *pooled* adds intersections and unions over all chips before dividing; *per chip* is the mean over chips
whose label holds water; chips without water have no IoU of their own and are reported by the share called water by
mistake (their false water still counts in the pooled union).
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from tocsin.errors import NotCoveringError, UsageError
from tocsin.grid import Window
from tocsin.hazards.flood import NOT_OBSERVABLE, WATER_CLASSES
from tocsin.raster import open_backscatter, open_raster

if TYPE_CHECKING:
    from tocsin.scoring import ScoringOptions

UNLABELLED = -1
"""Label of a pixel that nobody judged."""

OTSU_BINS = 256
SCENE_SUFFIX = "_S1Hand.tif"
LABEL_SUFFIX = "_LabelHand.tif"

CONVENTIONS = (
    "IoU of water; label -1 and pixels without data left out; pooled over pixels; "
    "per chip: mean over chips with water; chips without water apart"
)


class Record(BaseModel):
    """A part of a report."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class WaterCounts(Record):
    """Judged pixels of one map against one label, or of many added up."""

    both: int = Field(ge=0, description="water in map and label, pixels")
    either: int = Field(ge=0, description="water in map or label, pixels")
    labelled: int = Field(ge=0, description="water in the label, pixels")
    judged: int = Field(ge=0, description="pixels with a label and data")

    @property
    def iou(self) -> float | None:
        """Intersection over union, 0-1; None when neither map nor label holds water."""
        return self.both / self.either if self.either else None


class ChipReport(Record):
    """One chip."""

    id: str = Field(description="path of the scene relative to the data folder")
    counts: WaterCounts
    otsu: WaterCounts
    iou: float | None = Field(description="None when the label holds no water")
    otsu_iou: float | None = Field(description="None when the label holds no water")
    water_share: float = Field(ge=0, le=1, description="share of the pixels with data that the map calls water")


class FloodReport(Record):
    """Every chip and what they add up to."""

    hazard: str = "flood"
    conventions: str = CONVENTIONS
    chips: tuple[ChipReport, ...]
    pooled_iou: float | None
    otsu_pooled_iou: float | None
    mean_chip_iou: float | None = Field(description="mean over chips whose label holds water")
    otsu_mean_chip_iou: float | None
    dry_chips: int = Field(ge=0, description="chips whose label holds no water")
    dry_false_water: float | None = Field(description="share of the judged pixels of dry chips that is called water")
    otsu_dry_false_water: float | None
    learnt_from: tuple[str, ...] = Field(
        default=(), description="data sets that the model learnt from: figures on its own training chips prove nothing"
    )


@dataclass(frozen=True)
class ChipPaths:
    """Files of one chip."""

    id: str
    scene: Path
    label: Path


def otsu_threshold(values: npt.NDArray[np.float32]) -> float:
    """Return the value that splits a histogram best in two (Otsu 1979, equation 12).

    Parameters
    ----------
    values : numpy.ndarray
        float32, any shape and unit; NaN is left out.

    Returns
    -------
    float
        Centre of the bin with the largest variance between classes, unit of `values`; NaN without a finite value.
    """
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return float("nan")
    counts, edges = np.histogram(finite, OTSU_BINS)
    centres = (edges[1:] + edges[:-1]) / 2
    weight, moment = np.cumsum(counts), np.cumsum(counts * centres)
    total, mean = weight[-1], moment[-1] / weight[-1]
    between = (mean * weight - moment) ** 2 / np.maximum(weight * (total - weight), 1)
    return float(centres[np.argmax(between)])


def count_water(
    water: npt.NDArray[np.bool_], label: npt.NDArray[np.int16], valid: npt.NDArray[np.bool_]
) -> WaterCounts:
    """Count agreement of a water map with a label.

    Parameters
    ----------
    water : numpy.ndarray
        bool [row, col]: the map says water.
    label : numpy.ndarray
        int16 [row, col]: 1 water, 0 none, -1 not judged.
    valid : numpy.ndarray
        bool [row, col]: the scene has data.
    """
    judged = valid & (label != UNLABELLED)
    truth = label == 1
    return WaterCounts(
        both=int((water & truth & judged).sum()),
        either=int(((water | truth) & judged).sum()),
        labelled=int((truth & judged).sum()),
        judged=int(judged.sum()),
    )


def add_counts(counts: Sequence[WaterCounts]) -> WaterCounts:
    """Add up counts, for pooled figures."""
    return WaterCounts(
        both=sum(each.both for each in counts),
        either=sum(each.either for each in counts),
        labelled=sum(each.labelled for each in counts),
        judged=sum(each.judged for each in counts),
    )


def report_chip(identifier: str, counts: WaterCounts, otsu: WaterCounts, water_share: float) -> ChipReport:
    """Return the report of one chip; `water_share` is 0-1 of the pixels with data."""
    has_water = counts.labelled > 0
    return ChipReport(
        id=identifier,
        counts=counts,
        otsu=otsu,
        iou=counts.iou if has_water else None,
        otsu_iou=otsu.iou if has_water else None,
        water_share=water_share,
    )


def report_flood(chips: Sequence[ChipReport], learnt_from: tuple[str, ...] = ()) -> FloodReport:
    """Return the figures that chips add up to, and which data sets the model learnt from."""
    dry = [chip for chip in chips if chip.counts.labelled == 0]
    return FloodReport(
        chips=tuple(chips),
        pooled_iou=add_counts([chip.counts for chip in chips]).iou,
        otsu_pooled_iou=add_counts([chip.otsu for chip in chips]).iou,
        mean_chip_iou=_mean([chip.iou for chip in chips if chip.iou is not None]),
        otsu_mean_chip_iou=_mean([chip.otsu_iou for chip in chips if chip.otsu_iou is not None]),
        dry_chips=len(dry),
        dry_false_water=_share([chip.counts for chip in dry]),
        otsu_dry_false_water=_share([chip.otsu for chip in dry]),
        learnt_from=learnt_from,
    )


def find_chips(folder: Path) -> list[ChipPaths]:
    """Return the chips below `folder`: every ``S1Hand/*_S1Hand.tif`` that has its ``LabelHand/*_LabelHand.tif``.

    Raises
    ------
    UsageError
        There is none, or a scene has no label.
    """
    scenes = sorted(folder.rglob(f"S1Hand/*{SCENE_SUFFIX}"))
    if not scenes:
        raise UsageError(f"--data {folder}", f"a folder with S1Hand/*{SCENE_SUFFIX}", "name the folder above S1Hand")
    chips = []
    for scene in scenes:
        label = scene.parent.parent / "LabelHand" / scene.name.replace(SCENE_SUFFIX, LABEL_SUFFIX)
        if not label.is_file():
            raise UsageError(f"{scene} without {label}", "a label for every scene", "add the label or remove the scene")
        chips.append(ChipPaths(scene.relative_to(folder).as_posix(), scene, label))
    return chips


def evaluate_flood(folder: Path, options: "ScoringOptions", on_chip: Callable[[str], None]) -> FloodReport:
    """Score every chip below `folder` as `tocsin flood` does, and compare its class raster with the label.

    Parameters
    ----------
    folder : Path
        Data set, as `find_chips` reads it.
    options : ScoringOptions
        How to score.
    on_chip : callable
        Told the id of every chip that is done.

    Raises
    ------
    UsageError
        There is no chip.
    NotCoveringError
        A label does not have its scene's shape.
    """
    from tocsin.repository import read_manifest
    from tocsin.scoring import score

    learnt_from = tuple(source.name for source in read_manifest("flood", options.model_repository).training.data)
    reports = []
    for chip in find_chips(folder):
        with TemporaryDirectory(prefix="tocsin-evaluate-") as work:
            result = score("flood", post=chip.scene, out=work, options=options)
            reports.append(_judge(chip, Path(result.products["class"])))
        on_chip(chip.id)
    return report_flood(reports, learnt_from)


def compare_with_truth(class_raster: Path, truth: Path, positive: Sequence[int] = WATER_CLASSES) -> WaterCounts:
    """Count agreement of a class raster with a raster of the same grid that is 1 where it ought to be positive.

    Pixels without data or not observable in the class raster are left out.

    Parameters
    ----------
    class_raster, truth
        Rasters of one grid.
    positive
        Codes of the class raster that are meant: water, or what deforms.
    """
    classes, label = first_band(class_raster), first_band(truth)
    observed = np.isfinite(classes) & (classes != NOT_OBSERVABLE)
    return count_water(np.isin(classes, positive), np.nan_to_num(label).astype(np.int16), observed)


def write_predictions(path: Path, report: FloodReport) -> None:
    """Write one row per chip: id, label (predicted: 1 when the map holds water) and score (predicted water share)."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "label", "score"))
        writer.writerows((chip.id, int(chip.water_share > 0), f"{chip.water_share:.6f}") for chip in report.chips)


def _judge(chip: ChipPaths, class_raster: Path) -> ChipReport:
    with open_backscatter(str(chip.scene), "db") as source:
        backscatter_db = source.read(Window(0, 0, *source.grid.shape))
    classes, label = first_band(class_raster), first_band(chip.label)
    if not label.shape == classes.shape == backscatter_db.shape[1:]:
        given = f"label {label.shape}, classes {classes.shape}, scene {backscatter_db.shape[1:]} of {chip.id}"
        raise NotCoveringError(given, "one shape", "check the data set")
    truth = np.nan_to_num(label, nan=UNLABELLED).astype(np.int16)
    valid = np.isfinite(backscatter_db).all(axis=0)
    water, vh_db = np.isin(classes, WATER_CLASSES), backscatter_db[1]
    return report_chip(
        chip.id,
        count_water(water, truth, valid),
        count_water(vh_db < otsu_threshold(vh_db), truth, valid),
        float(water.sum() / max(1, valid.sum())),
    )


def first_band(path: Path) -> npt.NDArray[np.float32]:
    """Return the first band of a raster whole, float32 [row, col], NaN = no data."""
    with open_raster(str(path)) as source:
        band: npt.NDArray[np.float32] = source.read(Window(0, 0, *source.grid.shape))[0]
        return band


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _share(counts: Sequence[WaterCounts]) -> float | None:
    total = add_counts(counts)
    return total.either / total.judged if total.judged else None
