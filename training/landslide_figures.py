"""How good a landslide network is on relief and bursts that it never learnt from, beside what needs no network."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tocsin.detection_figures import auroc
from tocsin.hazards.landslide import ACQUISITIONS, CHIP, CHIP_KM2, GSD_M, HIGH, LOW, NONE, STEP, class_of_density
from tocsin.landslide_cells import COUNT_ERROR
from tocsin.manifest import MetricRow
from tocsin.simulate import ScarSettings
from training.datasets.burst_chips import (
    FINER,
    LARGE_M2,
    LARGE_PX,
    PIXEL_M,
    SMALL_PX,
    BurstChips,
    LandslideChip,
    Scarred,
    finer,
    read_bursts,
    three,
)
from training.datasets.opera_rtc import BurstSeries, OperaRtc
from training.landslide_baselines import Counted, best_of, macro_auc, ratio_statistics, slope_statistics, vh_log_ratio
from training.landslide_recipe import LandslideData
from training.networks.landslide import LandslideNetwork

BATCH: Final = 16
INJECTION_SEED: Final = 7_000_000
INJECTED: Final = 80
"""Chips with scars laid in, of each size and each place."""
COMBINATIONS: Final = 24
"""Choices of three dates before and three after, drawn from all of a burst, beside every run of neighbouring dates."""
SIZES: Final = {
    "large": Scarred(
        LARGE_PX,
        ScarSettings(
            pixel_m=PIXEL_M, landslide_share=1.0, large_share=1.0, large_m2=LARGE_M2, density_per_km2=(0.15, 2.0)
        ),
        around=True,
    ),
    "small": Scarred(SMALL_PX, ScarSettings(pixel_m=PIXEL_M, landslide_share=1.0, large_share=0.0), around=True),
}
COUNTED: Final = 10
"""Landslides from which a chip's number is compared: chance alone moves smaller numbers more."""
COMMAND: Final = "tocsin train landslide --data DATA"
RATIO: Final = "VH log-ratio of the same acquisitions"


class Looks(NamedTuple):
    """What a network says of N chips.

    Attributes
    ----------
    classes
        float64 [N, 3]: probabilities of none, low and high.
    masks
        float32 [N, H, W]: log odds of each pixel.
    log_density
        float64 [N]: natural logarithm of landslides per km2.
    """

    classes: NDArray[np.float64]
    masks: NDArray[np.float32]
    log_density: NDArray[np.float64]


@dataclass(frozen=True)
class Judge:
    """A network with what its verdicts need.

    Attributes
    ----------
    network
        Trained, in evaluation mode.
    temperature
        Of the class.
    threshold
        Probability from which a class is reached.
    """

    network: LandslideNetwork
    temperature: float
    threshold: float

    def look(self, chips: Sequence[LandslideChip]) -> "Looks":
        """Return what the network says of chips."""
        classes, masks, log_density = [], [], []
        with torch.inference_mode():
            for start in range(0, len(chips), BATCH):
                some = chips[start : start + BATCH]
                pre, post = (
                    torch.from_numpy(np.stack([three(side) for side in sides]))
                    for sides in ([chip.pre_db for chip in some], [chip.post_db for chip in some])
                )
                dem = torch.from_numpy(np.stack([chip.dem for chip in some]))[:, None]
                said = self.network(pre, post, dem)
                classes.append(torch.softmax(said.density_class.double() / self.temperature, dim=1).numpy())
                masks.append(said.mask[:, 0].numpy())
                log_density.append(said.log_density.double().numpy())
        return Looks(*(np.concatenate(part) for part in (classes, masks, log_density)))

    def call(self, probability: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the class of each chip: the highest one that is reached, as cells are decided."""
        called = np.where(probability[:, LOW] + probability[:, HIGH] >= self.threshold, LOW, NONE)
        return np.where((called == LOW) & (probability[:, HIGH] >= self.threshold), HIGH, called)


def figures(
    judge: Judge,
    chosen: LandslideData,
    data: Path | None,
    chips: tuple[Sequence[LandslideChip], Sequence[LandslideChip]],
) -> dict[str, Any]:
    """Return all figures as JSON.

    Parameters
    ----------
    judge
        The network.
    chosen
        Which bursts are held out.
    data
        Folder that they lie below.
    chips
        Chips to choose baselines on, which taught nothing; chips of relief that was never seen.
    """
    calibration, test = chips
    baselines = {
        number: best_of(ratio_statistics(number), calibration, labels(calibration)) for number in (1, ACQUISITIONS)
    }
    report: dict[str, Any] = {"simulated": _simulated(judge, test, baselines, calibration)}
    places: dict[str, list[BurstSeries]] = {}
    if data is not None and chosen.opera_rtc is not None:
        places["held_out_bursts"] = read_bursts(data / chosen.opera_rtc, chosen.bursts_held_out)
    if data is not None and chosen.forest is not None:
        for series in OperaRtc(data / chosen.forest).series:
            places["forest_despeckled" if "tv" in series.variant else "forest"] = [series]
    for name, bursts in places.items():
        report[name] = {
            "quiet": _quiet(judge, bursts, baselines[ACQUISITIONS]),
            "injected": {size: _injected(judge, BurstChips(bursts, None), size) for size in SIZES},
        }
    return report


def labels(chips: Sequence[LandslideChip]) -> NDArray[np.int64]:
    """Return the class of each chip by its number of landslides."""
    return class_of_density(np.array([chip.heads for chip in chips]) / CHIP_KM2).astype(np.int64)


def one_look(chip: LandslideChip) -> LandslideChip:
    """Return a chip with the acquisitions nearest to the event alone, in the order of time."""
    return replace(chip, pre_db=chip.pre_db[-1:], post_db=chip.post_db[:1])


def _simulated(
    judge: Judge, test: Sequence[LandslideChip], ratios: dict[int, Counted], calibration: Sequence[LandslideChip]
) -> dict[str, Any]:
    """Return how well the class ranks on chips of relief that was never seen."""
    truth = labels(test)
    flat = best_of(slope_statistics(), calibration, labels(calibration))
    without = [replace(chip, dem=np.full_like(chip.dem, np.nan)) for chip in test]
    shown = {
        "three": (test, ACQUISITIONS),
        "three_without_dem": (without, ACQUISITIONS),
        "one": ([one_look(chip) for chip in test], 1),
    }
    found: dict[str, Any] = {"chips": len(test), "per_class": np.bincount(truth, minlength=3).tolist()}
    for name, (chips, number) in shown.items():
        probability, masks, log_density = judge.look(chips)
        found[name] = {
            "macro_auc": macro_auc(probability, truth),
            "accuracy": float((judge.call(probability) == truth).mean()),
            "vh_log_ratio": macro_auc(ratios[number].judge(test), truth),
            "pixels": _pixels(chips, masks, number),
            "count": _counted(chips, log_density),
        }
    found["slope_only"] = macro_auc(flat.judge(test), truth)
    found["baselines"] = {"ratio": ratios[ACQUISITIONS].name, "ratio_of_one": ratios[1].name, "slope": flat.name}
    return found


def _counted(chips: Sequence[LandslideChip], log_density: NDArray[np.float64]) -> dict[str, Any]:
    """Return how far the expected number is from the true one in chips with several landslides, and all sums."""
    heads = np.array([chip.heads for chip in chips])
    expected = np.exp(log_density) * CHIP_KM2
    some = heads >= COUNTED
    sums = {"expected": float(expected.sum()), "true": float(heads.sum())}
    if not some.any():
        return {"chips": 0, **sums}
    true = heads[some]
    return {
        "chips": int(some.sum()),
        "log_error": _rms(np.log(expected[some] / true)),
        "log_error_of_the_mean": _rms(np.log(true.mean() / true)),
        **sums,
    }


def _rms(values: NDArray[np.float64]) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(values**2)))


def _quiet(judge: Judge, series: Iterable[BurstSeries], baseline: Counted) -> dict[str, Any]:
    """Return how often quiet chips are called: every run of neighbouring dates, and choices over the years."""
    random = np.random.default_rng(INJECTION_SEED)
    called: list[NDArray[np.int64]] = []
    by_ratio: list[NDArray[np.int64]] = []
    chance: list[NDArray[np.float64]] = []
    pairs = 0
    for each in series:
        stack = each.read()
        every = list(each.combinations())
        drawn = random.choice(len(every), size=min(COMBINATIONS, len(every)), replace=False)
        splits = [*each.runs(), *(every[int(index)] for index in drawn)]
        pairs += len(splits)
        for split in splits:
            chips = list(_tiled(stack, split))
            if not chips:
                continue
            probability, masks, _ = judge.look(chips)
            called.append(judge.call(probability))
            by_ratio.append(judge.call(baseline.judge(chips)))
            chance.append(np.array([_mean_chance(chip, mask) for chip, mask in zip(chips, masks, strict=True)]))
    verdicts, plain = np.concatenate(called), np.concatenate(by_ratio)
    return {
        "pairs": pairs,
        "chips": len(verdicts),
        "high": float((verdicts == HIGH).mean()),
        "low": float((verdicts == LOW).mean()),
        "mean_mask": float(np.concatenate(chance).mean()),
        "vh_log_ratio": {"high": float((plain == HIGH).mean()), "low": float((plain == LOW).mean())},
    }


def _mean_chance(chip: LandslideChip, mask: NDArray[np.float32]) -> float:
    """Return the mean of the mask's uncalibrated probability over pixels with data."""
    there = np.isfinite(vh_log_ratio(chip))
    return float((1 / (1 + np.exp(-mask[there]))).mean())


def _tiled(stack: NDArray[np.float32], split: tuple[tuple[int, ...], tuple[int, ...]]) -> Iterable[LandslideChip]:
    """Yield the chips of a burst that step by half of their side, of which at least a half was observed."""
    pre, post = (stack[list(side)] for side in split)
    nothing = np.zeros((CHIP, CHIP), np.bool_)
    for row, col in np.ndindex(*((FINER * size - CHIP) // STEP + 1 for size in stack.shape[2:])):
        start = row * STEP, col * STEP
        chip = LandslideChip(
            finer(pre, start), finer(post, start), np.full((CHIP, CHIP), np.nan, np.float32), nothing, 0
        )
        if np.isfinite(vh_log_ratio(chip)).mean() >= 0.5:
            yield chip


def _injected(judge: Judge, bursts: BurstChips, size: str) -> dict[str, Any]:
    """Return how pixels of scars laid into bursts rank, beside the VH log-ratio; heights are not given."""
    chips: list[LandslideChip] = []
    seed = INJECTION_SEED
    while len(chips) < INJECTED and seed < INJECTION_SEED + 20 * INJECTED:
        chip = bursts.draw(seed, SIZES[size])
        seed += 1
        if (chip.mask & np.isfinite(vh_log_ratio(chip))).sum() * GSD_M**2 >= PIXEL_M**2:
            chips.append(replace(chip, dem=np.full_like(chip.dem, np.nan)))
    three_looks, one = chips, [one_look(chip) for chip in chips]
    return {
        "three": _pixels(three_looks, judge.look(three_looks).masks, ACQUISITIONS),
        "one": _pixels(one, judge.look(one).masks, 1),
    }


def _pixels(chips: Sequence[LandslideChip], masks: NDArray[np.float32], number: int) -> dict[str, Any]:
    """Return the area under the curve of pixels, pooled and as the mean over chips, beside the VH log-ratio."""
    scores, plain, truth, each = [], [], [], []
    for chip, mask in zip(chips, masks, strict=True):
        ratio_db = vh_log_ratio(chip, number)
        there = np.isfinite(ratio_db)
        slid = chip.mask[there]
        scores.append(mask[there])
        plain.append(-ratio_db[there])
        truth.append(slid)
        if slid.any() and not slid.all():
            each.append((auroc(mask[there], slid), auroc(-ratio_db[there], slid)))
    pooled = np.concatenate(truth)
    return {
        "chips": len(chips),
        "chips_with_scars": len(each),
        "auc": auroc(np.concatenate(scores), pooled),
        "vh_log_ratio": auroc(np.concatenate(plain), pooled),
        "mean_auc": float(np.mean([own for own, _ in each if own is not None])) if each else None,
        "mean_vh_log_ratio": float(np.mean([base for _, base in each if base is not None])) if each else None,
        "chips_below": sum(own < base for own, base in each if own is not None and base is not None),
    }


def metric_rows(report: dict[str, Any]) -> tuple[MetricRow, ...]:
    """Return the rows of the manifest."""
    simulated = report["simulated"]
    relief = "simulated pairs on relief that was never learnt from"
    rows = []
    for number, key in (("three acquisitions", "three"), ("one acquisition", "one")):
        metric = f"AUROC of the density class, one against rest, macro; {number} each side"
        for baseline, value in (
            (f"VH log-ratio: {simulated['baselines']['ratio']}", simulated[key]["vh_log_ratio"]),
            (f"slope only: {simulated['baselines']['slope']}", simulated["slope_only"]),
        ):
            rows.append((relief, metric, simulated[key]["macro_auc"], baseline, value, simulated["chips"]))
    counted = simulated["three"]["count"]
    if counted["chips"]:
        typical = f"the mean number of chips with {COUNTED} or more"
        own, plain = counted["log_error"], counted["log_error_of_the_mean"]
        rows.append((f"{relief}, {COUNTED} or more in a chip", COUNT_ERROR, own, typical, plain, counted["chips"]))
    named = {
        "held_out_bursts": "OPERA RTC-S1, bursts in California that were not learnt from",
        "forest": "OPERA RTC-S1, Papua New Guinea before the event, VH alone",
        "forest_despeckled": "OPERA RTC-S1, Papua New Guinea before the event, despeckled",
    }
    for place, dataset in named.items():
        part = report.get(place)
        if part is None:
            continue
        quiet = part["quiet"]
        plain, chips = quiet["vh_log_ratio"], quiet["chips"]
        rows += [
            (dataset, f"share of quiet chips called {level}", quiet[level], RATIO, plain[level], chips)
            for level in ("high", "low")
        ]
        for size, found in part["injected"].items():
            for key, number in (("three", "three acquisitions"), ("one", "one acquisition")):
                pixels = found[key]
                metric = f"pixel AUROC of {size} scars laid in; {number} each side"
                rows.append((dataset, metric, pixels["auc"], RATIO, pixels["vh_log_ratio"], pixels["chips"]))
    return tuple(
        MetricRow(
            dataset=dataset,
            split="held out",
            metric=metric,
            value=value,
            baseline_name=baseline,
            baseline_value=beside,
            n=n,
            command=COMMAND,
        )
        for dataset, metric, value, baseline, beside, n in rows
        if value is not None and beside is not None
    )
