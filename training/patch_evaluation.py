"""How right the landslide model is on published patches (Sen12Landslides), beside the plain ratio of VH.

A patch has the size of the model's chip and is judged whole: with the closest three acquisitions before the first and
after the last of its landslides. Patches whose days are unknown have no before and after: they are counted
and not judged. A region is the unit by which data are split; figures of each stand beside those of all.
"""

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tocsin.detection_figures import Record, auroc, shortcut
from tocsin.errors import GridMismatchError
from tocsin.hazards.landslide import CHIP, MODEL
from tocsin.landslide_evaluation import vh_ratio_db
from tocsin.repository import load_model
from tocsin.runtimes import RuntimeOptions, open_runtime
from training.datasets.sen12landslides import LandslidePatch, Sen12Landslides

if TYPE_CHECKING:
    from tocsin.runtimes import Runtime

FloatArray = NDArray[np.float32]

CONVENTIONS: Final = (
    "AUROC of pixels: mean over patches with landslides; VH ratio: mean power after over before on the same "
    "acquisitions, the better sign in each patch; AUROC of patches: P(low or high) against any landslide in the mask"
)


class PatchOptions(RuntimeOptions):
    """How patches are judged."""

    model_repository: Path | None = Field(default=None, description="folder of models; None: environment, else shipped")
    threshold: float | None = Field(
        default=None, gt=0, lt=1, description="probability from which a class is reached; None: the model's"
    )


class PatchVerdict(Record):
    """One patch."""

    id: str = Field(description="path relative to the data folder")
    region: str
    truth: int = Field(ge=0, le=1, description="1 with a pixel that slid")
    label: int = Field(ge=0, le=1, description="predicted: 1 when low or high is reached; 0 when nothing was seen")
    score: float | None = Field(ge=0, le=1, description="P(low or high); None when nothing was seen on both sides")
    auroc: float | None = Field(description="of the mask's pixels; None without both kinds")
    ratio_auroc: float | None = Field(description="of the VH ratio's")


class PatchFigures(Record):
    """Figures of some patches together."""

    name: str = Field(description="which patches")
    patches: int = Field(ge=0)
    with_landslides: int = Field(ge=0)
    patch_auroc: float | None = Field(description="patches with against patches without landslides")
    auroc: float | None = Field(description="pixels, mean over patches")
    ratio_auroc: float | None
    below: int = Field(ge=0, description="patches where the mask ranks worse than the ratio")


class PatchReport(Record):
    """Every patch and what they add up to."""

    hazard: str = MODEL
    conventions: str = CONVENTIONS
    model: str = Field(description="name and version of the model")
    sha256: str = Field(description="of its graph")
    precision: str
    runtime: str
    device: str
    threshold: float
    learnt_from: tuple[str, ...] = Field(description="data sets that the model learnt from")
    figures: PatchFigures
    regions: tuple[PatchFigures, ...]
    days_unknown: int = Field(ge=0, description="patches that were not judged")
    patches: tuple[PatchVerdict, ...]


def evaluate_patches(folder: Path, options: PatchOptions, on_patch: Callable[[], None]) -> PatchReport:
    """Judge every patch below `folder` with the model's graph, and compare with its mask.

    Parameters
    ----------
    folder
        Holds the unpacked release, at any depth.
    options
        How to judge.
    on_patch
        Called after every patch.

    Raises
    ------
    TocsinError
        There is no patch, one cannot be read, or the model cannot be run.
    """
    data = Sen12Landslides(folder)
    places = {path.stem: path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.nc"))}
    model = load_model(MODEL, options.model_repository, options.precision)
    threshold = model.manifest.threshold if options.threshold is None else options.threshold
    verdicts, unknown = [], 0
    with open_runtime(model, options) as runtime:
        for patch in data.patches():
            sides = patch.around_events()
            if sides is None:
                unknown += 1
            else:
                verdicts.append(_verdict(patch, places[patch.name], sides, runtime, threshold))
            on_patch()
        return PatchReport(
            model=f"{model.manifest.name} {model.manifest.version}",
            sha256=model.sha256,
            precision=runtime.precision,
            runtime=runtime.name,
            device=runtime.device,
            threshold=threshold,
            learnt_from=tuple(source.name for source in model.manifest.training.data),
            days_unknown=unknown,
            **summarise(verdicts),
        )


def _verdict(
    patch: LandslidePatch,
    identifier: str,
    sides: tuple[FloatArray, FloatArray],
    runtime: "Runtime",
    threshold: float,
) -> PatchVerdict:
    if patch.mask.shape != (CHIP, CHIP):
        raise GridMismatchError(f"patch {patch.name} of {patch.mask.shape} px", f"{CHIP} x {CHIP} px", "check the file")
    pre, post = sides
    said = runtime.run({"pre": pre[None], "post": post[None], "dem": patch.dem_m[None, None]})
    classes, mask, ratio = said["density_class"][0], said["mask"][0, 0], vh_ratio_db(pre, post)
    known = np.isfinite(mask) & np.isfinite(ratio)
    slid = patch.mask[known]
    score = min(1.0, float(classes[1:].sum()))
    seen = math.isfinite(score)
    return PatchVerdict(
        id=identifier,
        region=patch.region,
        truth=int(patch.mask.any()),
        label=int(seen and score >= threshold),
        score=score if seen else None,
        auroc=auroc(mask[known], slid),
        ratio_auroc=shortcut("VH ratio", ratio[known], slid).auroc,
    )


def summarise(verdicts: Sequence[PatchVerdict]) -> dict[str, Any]:
    """Return the fields of a `PatchReport` that follow from its verdicts."""
    regions = sorted({verdict.region for verdict in verdicts})
    return {
        "figures": figures("all patches", verdicts),
        "regions": tuple(figures(name, [each for each in verdicts if each.region == name]) for name in regions),
        "patches": tuple(verdicts),
    }


def figures(name: str, verdicts: Sequence[PatchVerdict]) -> PatchFigures:
    """Return the figures that verdicts add up to."""
    scored = [(verdict.score, verdict.truth == 1) for verdict in verdicts if verdict.score is not None]
    scores, truth = np.array([score for score, _ in scored]), np.array([slid for _, slid in scored], dtype=np.bool_)
    both = [(own.auroc, own.ratio_auroc) for own in verdicts if own.auroc is not None and own.ratio_auroc is not None]
    return PatchFigures(
        name=name,
        patches=len(verdicts),
        with_landslides=sum(verdict.truth for verdict in verdicts),
        patch_auroc=auroc(scores, truth),
        auroc=_mean([own for own, _ in both]),
        ratio_auroc=_mean([ratio for _, ratio in both]),
        below=sum(own < ratio for own, ratio in both),
    )


def write_predictions(path: Path, verdicts: Iterable[PatchVerdict]) -> None:
    """Write one row per patch: id, label (predicted) and score (P(low or high), empty when nothing was seen)."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "label", "score"))
        for verdict in verdicts:
            writer.writerow((verdict.id, verdict.label, "" if verdict.score is None else f"{verdict.score:.6f}"))


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
