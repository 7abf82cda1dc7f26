"""How well pictures of interferograms are told apart, beside shortcuts that need no model.

Every picture in a folder named 0 or 1 gets a verdict: its top left chip is judged, as the published loader of DeepCube
cuts it, and what lies outside the picture is missing. A picture without a measured pixel there cannot be judged, nor
can one that is drawn in no known way: both count as called stable, have no score, and are counted apart. A file that
cannot be read is an error.
"""

import csv
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tocsin.detection_figures import Counts, Record, Shortcut, auroc, calibration_error, count, shortcut
from tocsin.errors import WrongUnitsError
from tocsin.hazards.volcano import MODEL
from tocsin.interferograms import LabelledPicture, chip_of, disjoint_groups, find_pictures, taken_of
from tocsin.phase import wrap
from tocsin.phase_pictures import PhasePicture, Rendering, read_picture
from tocsin.repository import load_model
from tocsin.runtimes import RuntimeOptions, open_runtime

if TYPE_CHECKING:
    from tocsin.runtimes import Runtime

_LOGGER: Final = logging.getLogger(__name__)

NOT_STATED = "not stated"
"""Volcano of pictures whose name tells none."""

CONVENTIONS = (
    "top left chip of every picture; not observable (no measured pixel, or drawn in no known way): called stable, left "
    "out of AUROC and calibration error; shortcuts: one number of each picture, the better sign, accuracy with the "
    "threshold that is best on these very pictures; balanced accuracy and AUROC need both classes"
)


class EvaluationOptions(RuntimeOptions):
    """How pictures are judged."""

    model_repository: Path | None = Field(default=None, description="folder of models; None: environment, else shipped")
    threshold: float | None = Field(
        default=None, gt=0, lt=1, description="probability of deformation; None: the model's"
    )
    batch: int = Field(default=8, ge=1, le=256, description="pictures a run")


class PictureVerdict(Record):
    """One picture."""

    id: str = Field(description="path relative to the data folder")
    truth: int = Field(ge=0, le=1, description="1 in a folder named 1")
    label: int = Field(ge=0, le=1, description="predicted: 1 with deformation; 0 when not observable")
    score: float | None = Field(ge=0, le=1, description="P(deformation); None when not observable")
    subset: str = Field(description="first folder below the data folder; empty when that one holds 0 and 1 itself")
    rendering: Rendering | Literal["unknown"] = Field(description="how the picture is drawn")
    refused: str = Field(default="", description="why it was taken for no interferogram; empty when it was not")
    volcano: str = Field(description="as the name tells")
    incoherent: float = Field(ge=0, le=1, description="share of drawn pixels without a clear phase, fill included")
    roughness: float = Field(ge=0, description="mean step of phase from pixel to pixel along rows, rad")


class DetectionFigures(Record):
    """Figures of some pictures together."""

    name: str = Field(description="which pictures")
    pictures: int = Field(ge=0)
    counts: Counts
    accuracy: float | None
    balanced_accuracy: float | None
    auroc: float | None
    calibration_error: float | None = Field(description="expected calibration error of P(deformation), 15 bins, 0-1")
    not_observable: int = Field(ge=0, description="pictures without a measured pixel in their chip, refused ones too")
    refused: int = Field(ge=0, description="pictures that are drawn in no known way")
    shortcuts: tuple[Shortcut, ...] = Field(description="empty when a class is missing")


class VolcanoReport(Record):
    """Every picture and what they add up to."""

    hazard: str = "volcano"
    conventions: str = CONVENTIONS
    model: str = Field(description="name and version of the model")
    sha256: str = Field(description="of its graph")
    precision: str
    runtime: str
    device: str
    threshold: float = Field(description="probability from which a picture is called deforming")
    figures: DetectionFigures = Field(description="all pictures")
    subsets: tuple[DetectionFigures, ...] = Field(description="empty when there is one subset only")
    renderings: tuple[DetectionFigures, ...]
    volcanoes: tuple[DetectionFigures, ...]
    groups: int = Field(ge=0, description="sets of pictures that share neither volcano nor acquisitions")
    learnt_from: tuple[str, ...] = Field(description="data sets that the model learnt from")
    pictures: tuple[PictureVerdict, ...]


def evaluate_volcano(folder: Path, options: EvaluationOptions, on_picture: Callable[[], None]) -> VolcanoReport:
    """Judge every picture below `folder` with the model's graph, and compare with the folders' names.

    Parameters
    ----------
    folder : Path
        Holds folders named 0 and 1 at any depth.
    options : EvaluationOptions
        How to judge.
    on_picture : callable
        Called after every picture.

    Raises
    ------
    TocsinError
        There is no picture, one cannot be read or is no interferogram, or the model cannot be run.
    """
    pictures = find_pictures(folder)
    model = load_model(MODEL, options.model_repository, options.precision)
    threshold = model.manifest.threshold if options.threshold is None else options.threshold
    with open_runtime(model, options) as runtime:
        judge = _Judge(runtime, model.manifest.chip_px, threshold)
        verdicts = []
        for start in range(0, len(pictures), options.batch):
            for verdict in judge.verdicts(pictures[start : start + options.batch]):
                verdicts.append(verdict)
                on_picture()
        return VolcanoReport(
            model=f"{model.manifest.name} {model.manifest.version}",
            sha256=model.sha256,
            precision=runtime.precision,
            runtime=runtime.name,
            device=runtime.device,
            threshold=threshold,
            learnt_from=tuple(source.name for source in model.manifest.training.data),
            **summarise(verdicts),
        )


class _Judge:
    """A runtime that turns pictures into verdicts."""

    def __init__(self, runtime: "Runtime", chip_px: int, threshold: float) -> None:
        self._runtime, self._chip_px, self._threshold = runtime, chip_px, threshold

    def verdicts(self, pictures: Sequence[LabelledPicture]) -> Iterator[PictureVerdict]:
        """Judge some pictures as one batch."""
        read = [_read(picture) for picture in pictures]
        nothing = np.full((self._chip_px, self._chip_px), np.nan, np.float32)
        chips = np.stack([nothing if isinstance(each, str) else chip_of(each, self._chip_px) for each in read])
        scores = self._runtime.run({"phase": chips[:, None]})["deformation"][:, 0]
        for picture, each, chip, score in zip(pictures, read, chips, scores.astype(np.float64), strict=True):
            seen = math.isfinite(score)
            yield PictureVerdict(
                id=picture.id,
                truth=picture.label,
                label=int(seen and score >= self._threshold),
                score=float(score) if seen else None,
                subset=picture.subset,
                rendering="unknown" if isinstance(each, str) else each.rendering,
                refused=each if isinstance(each, str) else "",
                volcano=taken_of(picture.id).place or NOT_STATED,
                incoherent=1.0 if isinstance(each, str) else 1 - each.coherent,
                roughness=roughness(chip),
            )


def _read(picture: LabelledPicture) -> PhasePicture | str:
    """Return a picture, or why it is no interferogram."""
    try:
        return read_picture(picture.path)
    except WrongUnitsError as error:
        _LOGGER.warning("%s: called stable, without a score", error)
        return error.given


def roughness(phase: npt.NDArray[np.float32]) -> float:
    """Return the mean absolute step of phase from pixel to pixel along rows, rad.

    Parameters
    ----------
    phase : numpy.ndarray
        float32 [row, col], rad, NaN where missing; without two measured neighbours pi / 2 is returned, as of noise.
    """
    steps = np.abs(wrap(phase[:, 1:] - phase[:, :-1]))
    known = steps[np.isfinite(steps)]
    return float(known.mean()) if known.size else math.pi / 2


def summarise(verdicts: Sequence[PictureVerdict]) -> dict[str, Any]:
    """Return the fields of a `VolcanoReport` that follow from its verdicts."""
    subsets = _by(verdicts, lambda verdict: verdict.subset)
    return {
        "figures": figures("all pictures", verdicts),
        "subsets": subsets if len(subsets) > 1 else (),
        "renderings": _by(verdicts, lambda verdict: verdict.rendering),
        "volcanoes": _by(verdicts, lambda verdict: verdict.volcano),
        "groups": len(set(disjoint_groups([taken_of(verdict.id) for verdict in verdicts]))),
        "pictures": tuple(verdicts),
    }


def figures(name: str, verdicts: Sequence[PictureVerdict]) -> DetectionFigures:
    """Return the figures that verdicts add up to."""
    truth = np.array([verdict.truth == 1 for verdict in verdicts], dtype=np.bool_)
    called = np.array([verdict.label == 1 for verdict in verdicts], dtype=np.bool_)
    seen = np.array([verdict.score is not None for verdict in verdicts], dtype=np.bool_)
    scores = np.array([verdict.score for verdict in verdicts if verdict.score is not None], dtype=np.float64)
    counts = count(called, truth)
    shortcuts: tuple[Shortcut, ...] = ()
    if truth.any() and not truth.all():
        shortcuts = (
            shortcut("share of incoherent pixels", np.array([verdict.incoherent for verdict in verdicts]), truth),
            shortcut("mean step of phase", np.array([verdict.roughness for verdict in verdicts]), truth),
        )
    return DetectionFigures(
        name=name,
        pictures=len(verdicts),
        counts=counts,
        accuracy=counts.accuracy,
        balanced_accuracy=counts.balanced_accuracy,
        auroc=auroc(scores, truth[seen]),
        calibration_error=calibration_error(scores, truth[seen]),
        not_observable=int((~seen).sum()),
        refused=sum(bool(verdict.refused) for verdict in verdicts),
        shortcuts=shortcuts,
    )


def write_predictions(path: Path, verdicts: Iterable[PictureVerdict]) -> None:
    """Write one row per picture: id, label (predicted) and score (P(deformation), empty when not observable)."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "label", "score"))
        for verdict in verdicts:
            writer.writerow((verdict.id, verdict.label, "" if verdict.score is None else f"{verdict.score:.6f}"))


def _by(verdicts: Sequence[PictureVerdict], key: Callable[[PictureVerdict], str]) -> tuple[DetectionFigures, ...]:
    """Return the figures of each value of `key`, those of most pictures first."""
    parts: dict[str, list[PictureVerdict]] = {}
    for verdict in verdicts:
        parts.setdefault(key(verdict), []).append(verdict)
    return tuple(figures(name, part) for name, part in sorted(parts.items(), key=lambda item: (-len(item[1]), item[0])))
