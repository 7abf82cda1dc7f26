"""The gate: what a precision may decide otherwise than the float32 graph, and the figures held against that."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import Field

from export.parity import OutputLimits, ParityLimits, compare, running
from export.precision.figures import ChipSet
from tocsin.manifest import ModelFacts, Parity, ParityRow, Precision, Record

FloatArray = npt.NDArray[np.float32]
Outputs = Mapping[str, FloatArray]


class GateLimits(Record):
    """What a precision may do, over all chips that it is judged on."""

    flipped: float = Field(ge=0, le=1, description="Share of one output's decisions (pixels, labels) that change")
    change: float = Field(gt=0, description="Change of a figure where truth is known (IoU, AUROC), either way")
    difference: float = Field(
        gt=0, description="Largest difference of a probability; of an output in another unit in proportion"
    )
    outputs: dict[str, float] = Field(
        default={}, description="Share of decisions, of outputs with a limit of their own"
    )


GIVEN: Final = {"source": "deformation"}
"""A kind of source is said where the verdict is deformation, and is no decision elsewhere."""

LIMITS: Final[dict[Precision, GateLimits]] = {
    # Rounding may move what lies on the threshold, nothing else: one pixel in two thousand.
    "fp16": GateLimits(flipped=0.0005, change=0.002, difference=0.05),
    # A hundredth of the decisions: the figures' own uncertainty between chips is ten times that. No probability may
    # move by half, so that what was certain stays on its side.
    # The kind of source is a choice among six that the model often leaves open, and no alarm hangs on it.
    "int8": GateLimits(flipped=0.01, change=0.005, difference=0.5, outputs={"source": 0.05}),
}


@dataclass(frozen=True)
class Expected:
    """What the float32 graph answers on every set of chips.

    Attributes
    ----------
    facts
        Outputs, and the threshold that decides.
    limits
        Those of the float32 graph against its network: who decides each output.
    sets
        The chips.
    answers
        Outputs of each batch of each set.
    """

    facts: ModelFacts
    limits: ParityLimits
    sets: tuple[ChipSet, ...]
    answers: tuple[tuple[Outputs, ...], ...]


def expect(graph: bytes, facts: ModelFacts, limits: ParityLimits, sets: Iterable[ChipSet]) -> Expected:
    """Run the float32 graph on every chip."""
    kept = tuple(sets)
    with running(graph) as runtime:
        answers = tuple(tuple(runtime.run(batch.inputs) for batch in each.chips) for each in kept)
    return Expected(facts, limits, kept, answers)


def judge(graph: bytes, expected: Expected, precision: Precision) -> Parity:
    """Return the figures of a graph against the float32 one, within the limits or not: `export.parity.check` says."""
    bounds = LIMITS[precision]
    rows: list[ParityRow] = []
    with running(graph) as runtime:
        for chips, wanted in zip(expected.sets, expected.answers, strict=True):
            given = [runtime.run(batch.inputs) for batch in chips.chips]
            rows += _rows(chips, wanted, given, expected, bounds)
    return Parity(
        reference="fp32",
        limit_difference=bounds.difference,
        limit_flipped=bounds.flipped,
        limit_change=bounds.change,
        rows=tuple(rows),
    )


def _scaled(expected: Expected, bounds: GateLimits, *, decided: bool) -> ParityLimits:
    """Return the same deciders, nobody for chips without a verdict, with differences that are wider by one factor."""
    factor, outputs = bounds.difference / expected.limits.difference, {}
    for spec in expected.facts.outputs:
        each = expected.limits.outputs.get(spec.name, OutputLimits())
        outputs[spec.name] = OutputLimits(
            decision=each.decision if decided else "none",
            difference=each.difference and each.difference * factor,
            flipped=bounds.outputs.get(spec.name),
            given=GIVEN.get(spec.name),
        )
    return ParityLimits(difference=bounds.difference, flipped=bounds.flipped, outputs=outputs)


def _rows(
    chips: ChipSet, wanted: Sequence[Outputs], given: Sequence[Outputs], expected: Expected, bounds: GateLimits
) -> list[ParityRow]:
    """Return one row per output of a set."""
    limits = _scaled(expected, bounds, decided=chips.decided)
    each = [
        compare(batch.case, left, right, expected.facts, limits)
        for batch, left, right in zip(chips.chips, wanted, given, strict=True)
    ]
    rows = []
    for of_output in zip(*each, strict=True):
        name, figure = of_output[0].output, chips.figures.get(of_output[0].output)
        values = [_figure(chips, name, answers, expected.facts.threshold) for answers in (given, wanted)]
        change = values[0] - values[1] if values[0] is not None and values[1] is not None else None
        rows.append(
            _pooled(chips.name, of_output).model_copy(
                update={"metric": figure and figure.metric, "change": change and float(f"{change:.3g}")}
            )
        )
    return rows


def _pooled(name: str, rows: Sequence[ParityRow]) -> ParityRow:
    worst = max(rows, key=lambda row: (not row.same_nan, row.flipped_pixels / max(1, row.valid_pixels)))
    return ParityRow(
        case=name,
        output=rows[0].output,
        shape=(sum(row.shape[0] for row in rows),),
        valid_pixels=sum(row.valid_pixels for row in rows),
        max_difference=max(row.max_difference for row in rows),
        flipped_pixels=sum(row.flipped_pixels for row in rows),
        limit_difference=rows[0].limit_difference,
        limit_flipped=rows[0].limit_flipped,
        same_nan=all(row.same_nan for row in rows),
        worst=worst.case if worst.flipped_pixels or not worst.same_nan else None,
    )


def _figure(chips: ChipSet, name: str, answers: Sequence[Outputs], threshold: float) -> float | None:
    """Return the figure of one output over a set, at pixels that have an answer and a truth."""
    figure = chips.figures.get(name)
    if figure is None:
        return None
    scores = np.concatenate([each[name].ravel() for each in answers])
    truth = np.concatenate([each[name].ravel() for each in chips.truths])
    known = np.isfinite(scores) & np.isfinite(truth)
    return figure.of(scores[known], truth[known] > 0.5, threshold)
