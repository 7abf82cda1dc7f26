"""Leave one event out: every chip is judged by a network that never saw its flood."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tocsin.evaluation import WaterCounts, add_counts, count_water, otsu_threshold
from training.calibration import Fit, fit_temperature
from training.datasets import IGNORE, LabelledChip
from training.fit import Run, fit, predict


@dataclass(frozen=True)
class HeldOutChip:
    """One chip, judged by a network that was trained on other events.

    Attributes
    ----------
    chip
        The chip.
    logits
        [H, W] float32, not calibrated.
    model, otsu
        Counts of the network at the recipe's threshold, and of Otsu's threshold on VH, on the judged pixels.
    simulated
        Counts of the network after its first stage; None when that stage takes real chips, which may be these.
    """

    chip: LabelledChip
    logits: Tensor
    model: WaterCounts
    otsu: WaterCounts
    simulated: WaterCounts | None


def leave_one_event_out(run: Run, events: Iterable[str] | None = None) -> list[HeldOutChip]:
    """Train once per event on all the others, and judge its chips.

    The event that early stopping watches is one of the others; when it is itself held out, the stages run all their
    steps, so that nothing of a judged event decides anything about its network.

    Parameters
    ----------
    run
        Recipe and all chips.
    events
        Events to hold out in turn; all when None.
    """
    judged = []
    stages = run.recipe.stages
    first = fit(run, stages[:1]) if stages[0].real_share == 0 else None
    for event in sorted(set(events) if events is not None else {chip.event for chip in run.real}):
        kept = tuple(chip for chip in run.real if chip.event != event)
        stopping = run.recipe.early_stopping
        watched = tuple(chip for chip in kept if stopping is not None and chip.event == stopping.event)
        learnt = tuple(chip for chip in kept if chip not in watched)
        weights = fit(replace(run, real=learnt, watched=watched), stages)
        chips = [chip for chip in run.real if chip.event == event]
        last = predict(run.recipe, weights, chips)
        early = [None] * len(chips) if first is None else predict(run.recipe, first, chips)
        for chip, logits, before in zip(chips, last, early, strict=True):
            judged.append(_judge(chip, logits, before, run.recipe.threshold))
    return judged


def _judge(chip: LabelledChip, logits: Tensor, early: Tensor | None, threshold: float) -> HeldOutChip:
    """Count the water of one chip, beside Otsu on VH and the first stage."""
    valid = np.isfinite(chip.s1_db).all(axis=0)

    def count(answer: Tensor) -> WaterCounts:
        return count_water(torch.sigmoid(answer).numpy() >= threshold, chip.label, valid)

    vh_db = chip.s1_db[1]
    otsu = count_water(vh_db < otsu_threshold(vh_db[valid]), chip.label, valid)
    return HeldOutChip(chip, logits, count(logits), otsu, None if early is None else count(early))


def pooled(judged: Sequence[HeldOutChip]) -> tuple[WaterCounts, WaterCounts]:
    """Add the counts of all chips up: the network's, and Otsu's."""
    return add_counts([each.model for each in judged]), add_counts([each.otsu for each in judged])


def calibrate(judged: Sequence[HeldOutChip]) -> Fit:
    """Fit one temperature to the logits of all held-out chips, every event with the same weight."""
    logits, water, weight = [], [], []
    events = [each.chip.event for each in judged]
    for each in judged:
        label = torch.from_numpy(each.chip.label)
        chosen = label != IGNORE
        logits.append(each.logits[chosen])
        water.append((label[chosen] == 1).float())
        weight.append(torch.full((int(chosen.sum()),), 1 / (int(chosen.sum()) * events.count(each.chip.event))))
    return fit_temperature(torch.cat(logits), torch.cat(water), torch.cat(weight))
