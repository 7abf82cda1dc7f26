"""What the first stage of landslide training is worth when few chips have labels: the ablation of Boehm et al. (2022).

Stage 1 learns from chips of some places whether they hold any landslide. Stage 2 then learns to segment from 2 to 110
chips of other places, half of them without landslides, beginning either with the embedding of stage 1 or with random
weights; all else is equal. Both are judged on further chips of those other places.

python -m benchmarks.landslide_stages --data DATA --work WORK
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from lightning import seed_everything
from numpy.typing import NDArray

from tocsin.detection_figures import average_precision
from training.datasets.burst_chips import LandslideChip
from training.datasets.landslide_pairs import Draw, LandslidePairs
from training.landslide import prepare, test_draw
from training.landslide_recipe import LandslideRecipe
from training.recipe import read_recipe
from training.stages import StageRun, Weights, run_stage, weights_of
from training.tasks.landslide import LEAST_PX, AugmentedPairs, LandslideTask

SIZES: Final = (2, 5, 10, 20, 110)
SEEDS: Final = (12345, 55555, 54321)
"""Training sizes and seeds of Boehm et al.'s released runs."""
TESTED: Final = 120
FIRST_SEED: Final = 8_000_000
SMALL: Final = {
    "network": {
        "acquisition_width": 8,
        "side_widths": [16, 32],
        "embedding": 16,
        "widths": [16, 32, 48],
        "refined": 8,
        "hidden": 32,
    },
    "presence": {"name": "presence", "steps": 240, "batch": 32, "learning_rate": 3e-3},
    "segmentation": {"name": "segmentation", "steps": 80, "batch": 8, "learning_rate": 2e-3},
    "average_decay": 0.95,
}
"""A network and stages small enough for thirty trainings in a quarter of an hour."""


class Few:
    """Some chips of a set."""

    def __init__(self, pairs: LandslidePairs, chosen: NDArray[np.intp]) -> None:
        self._pairs = pairs
        self._chosen = chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> LandslideChip:
        return self._pairs[int(self._chosen[index])]


@dataclass(frozen=True)
class Found:
    """What one training reaches.

    Attributes
    ----------
    auprc
        Area under the precision-recall curve of pixels.
    false_px
        Median number of pixels called in chips without landslides.
    miscounted_px
        Median error of the number of pixels called in chips with landslides.
    """

    auprc: float
    false_px: float
    miscounted_px: float


def presence(recipe: LandslideRecipe, pairs: LandslidePairs, work: Path) -> Weights:
    """Return the weights after the first stage."""
    seed_everything(recipe.seed, workers=True, verbose=False)
    task = LandslideTask(recipe, "presence")
    run_stage(task, AugmentedPairs(pairs, recipe, recipe.presence), StageRun(recipe.presence, work, recipe.precision))
    return weights_of(task.average.module)


def segmentation(recipe: LandslideRecipe, chips: Few, before: Weights | None, work: Path) -> LandslideTask:
    """Return the task after the second stage."""
    seed_everything(recipe.seed, workers=True, verbose=False)
    task = LandslideTask(recipe, "segmentation")
    if before is not None:
        task.network.load_state_dict(before)
    stream = AugmentedPairs(chips, recipe, recipe.segmentation)
    run_stage(task, stream, StageRun(recipe.segmentation, work, recipe.precision))
    return task.eval()


def judge(task: LandslideTask, chips: Few) -> Found:
    """Return how well a network finds pixels in chips that it never saw."""
    scores, truth, called, slid = [], [], [], []
    with torch.inference_mode():
        for chip in map(chips.__getitem__, range(len(chips))):
            given = (chip.pre_db, chip.post_db, chip.dem[None])
            said = task.average.module(*(torch.from_numpy(each)[None] for each in given))
            odds = said.mask[0, 0].numpy()
            seen = np.isfinite(chip.pre_db).any(axis=(0, 1)) & np.isfinite(chip.post_db).any(axis=(0, 1))
            scores.append(odds[seen])
            truth.append(chip.mask[seen])
            called.append(int((odds[seen] >= 0).sum()))
            slid.append(int(chip.mask[seen].sum()))
    number, known = np.array(called), np.array(slid)
    return Found(
        auprc=average_precision(np.concatenate(scores), np.concatenate(truth)) or 0.0,
        false_px=float(np.median(number[known == 0])),
        miscounted_px=float(np.median(np.abs(number - known)[known > 0])),
    )


def halves(pairs: LandslidePairs, rows: NDArray[np.intp], count: int, random: np.random.Generator) -> NDArray[np.intp]:
    """Choose chips of which half hold no landslide, and half show at least as many pixels as stage 1 asks for."""
    shown = np.array([int(pairs[int(row)].mask.sum()) for row in rows])
    without = random.permutation(rows[(pairs.heads[rows] == 0)])[: count // 2]
    with_some = random.permutation(rows[shown >= LEAST_PX])[: count - len(without)]
    return np.concatenate([without, with_some])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder for pairs; those of a training are reused")
    given = parser.parse_args()
    shipped = read_recipe("landslide")
    assert isinstance(shipped, LandslideRecipe)
    recipe = LandslideRecipe.model_validate(shipped.model_dump() | SMALL)
    run = prepare(recipe, given.work / "landslide", given.data)
    place = test_draw(run)
    elsewhere = LandslidePairs(
        Draw(600, FIRST_SEED, place.srtm3, place.tiles, place.relief_share), given.work / "landslide_pairs"
    )
    folder = given.work / "landslide_stages"
    before = presence(recipe, run.pairs, folder)
    rows = np.arange(len(elsewhere))
    tested = Few(elsewhere, halves(elsewhere, rows[300:], TESTED, np.random.default_rng(0)))
    print("| labelled chips | stage 1 | AUPRC, mean ± std | false pixels, median | error of the pixel count, median |")
    print("|---|---|---|---|---|")
    for size in SIZES:
        for name, weights in (("with", before), ("without", None)):
            found = []
            for seed in SEEDS:
                chosen = halves(elsewhere, rows[:300], size, np.random.default_rng((seed, size)))
                seeded = recipe.model_copy(update={"seed": seed})
                found.append(judge(segmentation(seeded, Few(elsewhere, chosen), weights, folder), tested))
            auprc = np.array([each.auprc for each in found])
            false_px, error_px = (
                np.median([getattr(each, part) for each in found]) for part in ("false_px", "miscounted_px")
            )
            print(
                f"| {size} | {name} | {auprc.mean():.3f} ± {auprc.std():.3f} | {false_px:.0f} | {error_px:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
