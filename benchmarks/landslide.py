"""The shipped landslide graph: simulated regions, false alarms on stable ground, scars in real backscatter, counts.

    python -m benchmarks.landslide [MODELS] --data DATA [--pairs FOLDER] [--whole]

Prints tables for docs/accuracy.md. Everything is judged by the graph through tocsin's own runtime, never by the network
in torch. What is held out stands in the model's manifest. With --whole as many chips as training's own figures, kept
in --pairs between runs; else a part of them, which two cores judge in ten minutes.
"""

import argparse
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from torch import nn

from benchmarks.landslide_stacks import Judged, StackJudge, model_grid, resampled
from tocsin.detection_figures import auroc, calibration_error, shortcut
from tocsin.grid import Grid
from tocsin.hazards.landslide import ACQUISITIONS, GSD_M, HIGH, LOW, MODEL, NONE, class_of_density
from tocsin.landslide_cells import COUNT_ERROR
from tocsin.landslide_evaluation import vh_ratio_db
from tocsin.manifest import Manifest
from tocsin.repository import load_model
from tocsin.runtimes import Runtime, RuntimeOptions, open_runtime
from tocsin.simulate import LandslideSettings, NumpyRandom, ScarSettings, inject_landslides, landslide_pair
from tocsin.simulate.landslide import slide_relief
from training.datasets.burst_chips import MEAN_SLOPE_DEG, PIXEL_M, LandslideChip
from training.datasets.landslide_pairs import Draw, LandslidePairs
from training.datasets.opera_rtc import BurstSeries, OperaRtc, Split
from training.datasets.relief import ReliefTiles
from training.landslide import CALIBRATION_SEED, TEST_SEED
from training.landslide_figures import Judge, figures, labels, one_look
from training.landslide_recipe import LandslideData
from training.networks.landslide import LandslideLogits

SEED: Final = 8_000_000
"""Of everything that is drawn here; training draws from below."""
CHIPS: Final = 300
COMBINATIONS: Final = 40
"""Choices of dates of each burst, drawn evenly from all, beside every run of neighbouring dates."""
REGIONS: Final = 40
REGION_PX: Final = 256
CLASS_NAMES: Final = {NONE: "none", LOW: "low", HIGH: "high"}


class GraphNetwork(nn.Module):
    """The shipped graph in the place of the network, so that training's figures are those of the graph.

    Parameters
    ----------
    runtime
        What runs it.
    """

    def __init__(self, runtime: Runtime) -> None:
        super().__init__()
        self.runtime = runtime

    def forward(self, pre: torch.Tensor, post: torch.Tensor, dem: torch.Tensor) -> LandslideLogits:
        """Return logarithms of what the graph says, calibrated; the softmax of the first is the graph's answer."""
        said = self.runtime.run({"pre": pre.numpy(), "post": post.numpy(), "dem": dem.numpy()})
        classes, density, mask = (torch.from_numpy(said[name]) for name in ("density_class", "density", "mask"))
        return LandslideLogits(
            torch.log(classes.clamp_min(1e-12)), torch.log(density[:, 0]), torch.logit(mask, eps=1e-7)
        )


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="?", help="folder of models; the shipped one by default")
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data sets")
    parser.add_argument("--pairs", type=Path, help="folder that keeps drawn chips between runs")
    parser.add_argument("--whole", action="store_true", help="as many chips as training's own figures")
    asked = parser.parse_args()
    model = load_model(MODEL, asked.models)
    chosen = LandslideData.model_validate(model.manifest.training.recipe.get("data", {}))
    print(f"{MODEL} {model.manifest.version}, sha256 {model.sha256}")
    with open_runtime(model, RuntimeOptions()) as runtime, tempfile.TemporaryDirectory() as aside:
        stacks = StackJudge(runtime, model.manifest.threshold)
        print_stable(stacks, chosen, asked.data)
        print_injected(stacks, asked.data)
        print_regions(stacks, model.manifest, chosen, asked.data)
        count = (chosen.calibration_chips, chosen.test_chips) if asked.whole else (CHIPS, CHIPS)
        pairs = drawn(chosen, asked.data, count, asked.pairs or Path(aside))
        judge = Judge(GraphNetwork(runtime), 1.0, model.manifest.threshold)
        print_classes(judge, pairs[1])
        print_figures(figures(judge, chosen, asked.data, pairs))


def head(title: str, *columns: str) -> None:
    """Print the head of a table in Markdown."""
    print(f"\n### {title}\n\n| {' | '.join(columns)} |\n" + "|---" * len(columns) + "|", flush=True)


def row(*cells: object) -> None:
    """Print a row; a fraction has three digits."""
    said = [f"{cell:.3f}" if isinstance(cell, float) else "-" if cell is None else str(cell) for cell in cells]
    print(f"| {' | '.join(said)} |", flush=True)


def nearest(sides: tuple[NDArray[np.float32], NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the acquisition of each side that is nearest to the event."""
    return sides[0][-1:], sides[1][:1]


# Stable ground


def print_stable(stacks: StackJudge, chosen: LandslideData, data: Path) -> None:
    """Print how many cells of bursts without landslides are called."""
    bursts = OperaRtc(data / "opera_rtc/stable_california").series
    title = f"Cells called on stable ground: all runs of 3 + 3 dates, and {COMBINATIONS} choices a burst over the years"
    head(title, "burst", "held out", "dates", "stacks", "cells", "high", "low", "expected per km2")
    totals: dict[tuple[str, str], list[Called]] = {}
    for burst in bursts:
        held = burst.burst in chosen.bursts_held_out
        for dates, found in stable_of(stacks, burst).items():
            row(burst.burst, "yes" if held else "no", dates, *total(found))
            for part in ("all", "held out") if held else ("all",):
                totals.setdefault((part, dates), []).extend(found)
    for (part, dates), found in sorted(totals.items()):
        row(f"**{part}**", "", dates, *total(found))


@dataclass(frozen=True)
class Called:
    """Cells of one stack: judged, high, low; expected landslides and judged km2."""

    cells: int
    high: int
    low: int
    expected: float
    km2: float


def called(judged: Judged) -> Called:
    """Count the cells of a stack."""
    cells = judged.cells
    codes, km2 = cells.codes, float(cells.observed_km2.sum())
    counts = (int((codes == code).sum()) for code in (HIGH, LOW))
    return Called(int((codes <= HIGH).sum()), *counts, float(cells.expected.sum()), km2)


def total(found: Sequence[Called]) -> tuple[object, ...]:
    """Return stacks, cells, shares called and expected landslides per km2."""
    cells = sum(each.cells for each in found)
    high, low = (f"{sum(getattr(each, name) for each in found) / max(1, cells):.2%}" for name in ("high", "low"))
    return len(found), cells, high, low, sum(each.expected for each in found) / max(1e-9, sum(e.km2 for e in found))


def stable_of(stacks: StackJudge, burst: BurstSeries) -> dict[str, list[Called]]:
    """Return what is called of one burst, by how its dates were chosen."""
    own = burst.grid()
    grid = model_grid(own)
    series = resampled(burst.read(), own, grid, "power")
    every = list(burst.combinations())
    random = np.random.default_rng(SEED)
    some = [every[int(index)] for index in random.choice(len(every), size=COMBINATIONS, replace=False)]
    runs = [sides_of(series, split) for split in burst.runs()]
    stacked = {
        "runs": runs,
        "choices": [sides_of(series, split) for split in some],
        "runs, 1 + 1": [nearest(sides) for sides in runs],
    }
    return {name: [called(stacks.judge(sides, grid)) for sides in each] for name, each in stacked.items()}


def sides_of(series: NDArray[np.float32], split: Split) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the acquisitions of a split."""
    return series[list(split[0])], series[list(split[1])]


# Scars in real backscatter


def print_injected(stacks: StackJudge, data: Path) -> None:
    """Print how scars in a forest are told apart, pixel by pixel on the 30 m of the product, without heights."""
    title = "Scars laid into png_2024_pre, every run of dates: AUROC of 30 m pixels, mask beside the VH log-ratio"
    head(title, "series", "dates", "runs", "slid px", "mask", "VH log-ratio", "smallest gain", "runs below")
    for burst in OperaRtc(data / "opera_rtc/png_2024_pre").series:
        found: dict[str, list[tuple[float, float, int]]] = {}
        for number, split in enumerate(burst.runs()):
            for dates, areas in injected_of(stacks, burst, split, SEED + number).items():
                found.setdefault(dates, []).append(areas)
        for dates, each in found.items():
            mask, ratio, slid = (np.array(values) for values in zip(*each, strict=True))
            gain = mask - ratio
            figures_of = float(mask.mean()), float(ratio.mean()), float(gain.min()), int((gain < 0).sum())
            row(burst.variant, dates, len(each), int(slid.sum()), *figures_of)


def injected_of(stacks: StackJudge, burst: BurstSeries, split: Split, seed: int) -> dict[str, tuple[float, float, int]]:
    """Return AUROC of the mask and of the ratio, and pixels that slid, by number of acquisitions."""
    own = burst.grid()
    grid, source = model_grid(own), NumpyRandom(seed)
    pre, post = sides_of(burst.read(), split)
    steep = LandslideSettings(pixel_m=PIXEL_M, mean_slope_deg=MEAN_SLOPE_DEG)
    dem = np.asarray(slide_relief(source, own.shape, steep))
    slid = inject_landslides(source, (pre, post), dem, ScarSettings(pixel_m=PIXEL_M, landslide_share=1.0))
    found = {}
    for dates, sides in (("3 + 3", (pre, slid.post_db)), ("1 + 1", nearest((pre, slid.post_db)))):
        fine = tuple(resampled(side, own, grid, "power") for side in sides)
        mask = resampled(stacks.judge(fine, grid).mask[None], grid, own, "bilinear")[0]
        ratio = vh_ratio_db(*sides)
        known = np.isfinite(mask) & np.isfinite(ratio)
        truth = np.asarray(slid.mask)[known]
        found[dates] = (
            auroc(mask[known], truth) or math.nan,
            shortcut("ratio", ratio[known], truth).auroc or math.nan,
            int(truth.sum()),
        )
    return found


# Expected and true numbers


def print_regions(stacks: StackJudge, manifest: Manifest, chosen: LandslideData, data: Path) -> None:
    """Print expected beside true numbers of landslides in simulated regions on relief held out of training."""
    error = max((each.value for each in manifest.metrics if each.metric == COUNT_ERROR), default=0.0)
    print(f"\ncount error: {COUNT_ERROR}; the interval was made with {error:.3f}, as the manifest states")
    found = list(regions(stacks, ReliefTiles(data / "srtm3", chosen.tiles_held_out), error))
    side = REGION_PX * GSD_M / 1000
    title = f"Expected and true landslides in {REGIONS} simulated regions of {side:g} x {side:g} km, 3 + 3 with heights"
    head(title, "true class", "regions", "true", "expected", "inside the 90 % interval", "count error")
    for code, name in (*CLASS_NAMES.items(), (None, "**all**")):
        part = [each for each in found if code is None or each.code == code]
        if part:
            inside = sum(each.low <= each.true <= each.high for each in part)
            sums = sum(each.true for each in part), f"{sum(each.expected for each in part):.0f}"
            row(name, len(part), *sums, f"{inside} of {len(part)}", log_error(part))


@dataclass(frozen=True)
class Region:
    """True and expected landslides of a region, the interval, and the class of its true density."""

    true: int
    expected: float
    low: float
    high: float
    code: int


def regions(stacks: StackJudge, relief: ReliefTiles, error: float) -> Iterator[Region]:
    """Judge simulated regions."""
    shape = (REGION_PX, REGION_PX)
    random = np.random.default_rng(SEED)
    for seed in range(SEED, SEED + REGIONS):
        dem = relief.crop(random, GSD_M, REGION_PX)
        settings = LandslideSettings(acquisitions=(ACQUISITIONS, ACQUISITIONS))
        scene = landslide_pair(NumpyRandom(seed), shape, settings, dem)
        grid = Grid(CRS.from_epsg(32633), Affine(GSD_M, 0, 5e5, 0, -GSD_M, 4.4e6), *shape)
        cells = stacks.judge((scene.pre_db, scene.post_db), grid, scene.dem).cells
        low, high = cells.interval(error) or (0.0, math.inf)
        code = int(class_of_density(np.array([scene.density_per_km2]))[0])
        yield Region(len(scene.heads), float(cells.expected.sum()), low, high, code)


def log_error(found: Sequence[Region]) -> float | None:
    """Return the root mean square logarithm of expected over true numbers, of regions with landslides."""
    logs = [math.log(max(each.expected, 0.5) / each.true) for each in found if each.true]
    return float(np.sqrt(np.mean(np.square(logs)))) if logs else None


# Chips


def drawn(
    chosen: LandslideData, data: Path, count: tuple[int, int], folder: Path
) -> tuple[list[LandslideChip], list[LandslideChip]]:
    """Return chips to choose baselines on, and chips on relief that was never learnt from."""
    srtm3, bursts = data / str(chosen.srtm3), data / str(chosen.opera_rtc)
    known = Draw(
        count[0],
        CALIBRATION_SEED,
        srtm3,
        chosen.tiles,
        chosen.relief_share,
        bursts,
        chosen.bursts,
        chosen.injected_share,
    )
    unseen = Draw(count[1], TEST_SEED, srtm3, chosen.tiles_held_out, chosen.relief_share)
    first, second = (LandslidePairs(draw, folder) for draw in (known, unseen))
    return list(first), list(second)


def print_classes(judge: Judge, chips: list[LandslideChip]) -> None:
    """Print how well each class is told from the rest."""
    truth = labels(chips)
    head(
        f"Density class of {len(chips)} simulated chips on relief never seen: AUROC of each class against the rest",
        "acquisitions", "heights", "none", "low", "high", "macro", "calibration error of P(low or high)",
    )  # fmt: skip
    for number, looked in ((ACQUISITIONS, chips), (1, [one_look(chip) for chip in chips])):
        for heights in ("yes", "no"):
            shown = looked if heights == "yes" else [replace(c, dem=np.full_like(c.dem, np.nan)) for c in looked]
            probability = judge.look(shown).classes
            areas = [auroc(probability[:, code], truth == code) for code in CLASS_NAMES]
            error = calibration_error(np.minimum(1 - probability[:, NONE], 1.0), truth != NONE)
            row(f"{number} + {number}", heights, *areas, float(np.mean([area or math.nan for area in areas])), error)


def print_figures(report: dict[str, Any]) -> None:
    """Print training's own figures, measured on the graph."""
    simulated = report["simulated"]
    chosen = simulated["baselines"]
    head(
        f"Density class beside one number of the chip ({chosen['ratio']}; {chosen['slope']}): macro AUROC, and pixels",
        "chips", "macro", "VH log-ratio", "slope only", "accuracy", "pixel AUROC", "VH log-ratio",
    )  # fmt: skip
    for name in ("three", "three_without_dem", "one", "one_without_dem"):
        each = simulated[name]
        pixels = each["pixels"]
        classes = each["macro_auc"], each["vh_log_ratio"], simulated["slope_only"], each["accuracy"]
        row(name.replace("_", " "), *classes, pixels["auc"], pixels["vh_log_ratio"])
    places = [name for name in report if name != "simulated"]
    head("Quiet chips called, heights not given", "place", "pairs", "chips", "high", "low", "of the ratio", "low")
    for name in places:
        quiet = report[name]["quiet"]
        shares = [quiet["high"], quiet["low"], quiet["vh_log_ratio"]["high"], quiet["vh_log_ratio"]["low"]]
        row(name.replace("_", " "), quiet["pairs"], quiet["chips"], *(f"{share:.2%}" for share in shares))
    head(
        "Scars laid into chips of real bursts, heights not given: pixel AUROC, pooled and as the mean of chips",
        "place", "scars", "dates", "chips", "mask", "VH log-ratio", "mean of chips", "VH log-ratio", "chips below",
    )  # fmt: skip
    for name in places:
        for size, found in report[name]["injected"].items():
            for key, said in found.items():
                areas = (said[each] for each in ("auc", "vh_log_ratio", "mean_auc", "mean_vh_log_ratio"))
                row(name.replace("_", " "), size, key, said["chips_with_scars"], *areas, said["chips_below"])


if __name__ == "__main__":
    main()
