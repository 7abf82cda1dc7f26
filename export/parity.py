"""Step 2: the graph gives what the network gave, pixel by pixel, or it is refused.

One reference and one candidate run the same chips. Compared are the largest difference, the pixels whose decision flips
and the places of NaN; the figures go into the manifest.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import nn

from tocsin.errors import ModelInvalidError
from tocsin.manifest import ModelFacts, Parity, ParityRow, Record

FloatArray = npt.NDArray[np.float32]


class ParityLimits(Record):
    """What a graph may differ by from the network that it was written from."""

    difference: float = Field(default=1e-4, gt=0, description="Largest difference at a valid pixel, output's unit")
    flipped: float = Field(default=1e-4, ge=0, le=1, description="Share of valid pixels that change sides")


@dataclass(frozen=True)
class ParityChips:
    """One batch to compare on: a name for the table, and float32 arrays [batch, ...] by input name, NaN = missing."""

    case: str
    inputs: Mapping[str, FloatArray]


class Runs(Protocol):
    """Whatever turns a batch of inputs into outputs by name, as `tocsin.runtimes.Runtime` does."""

    @property
    def name(self) -> str:
        """What runs."""

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run one batch."""


class TorchReference:
    """The module itself, in eager float32 on the CPU.

    Parameters
    ----------
    module
        Takes the manifest's inputs in order, returns its outputs in order.
    facts
        Names of inputs and outputs.
    """

    name = "torch"

    def __init__(self, module: nn.Module, facts: ModelFacts) -> None:
        self._module = module.eval()
        self._facts = facts

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run one batch; see `tocsin.runtimes.Runtime.run`."""
        tensors = [torch.from_numpy(np.ascontiguousarray(inputs[spec.name])) for spec in self._facts.inputs]
        with torch.inference_mode():
            results = self._module(*tensors)
        outputs = results if isinstance(results, tuple) else (results,)
        return {spec.name: value.numpy() for spec, value in zip(self._facts.outputs, outputs, strict=True)}


def measure(
    reference: Runs,
    candidate: Runs,
    chips: Iterable[ParityChips],
    facts: ModelFacts,
    limits: ParityLimits,
) -> Parity:
    """Run both on every batch and return the figures, within the limits or not.

    Parameters
    ----------
    reference, candidate
        What is trusted, and what is judged.
    chips
        Batches, taken one at a time.
    facts
        Outputs to compare, and the threshold that decides.
    limits
        Written beside the figures; `check` holds them against each other.
    """
    rows: list[ParityRow] = []
    for batch in chips:
        wanted, given = reference.run(batch.inputs), candidate.run(batch.inputs)
        rows.extend(
            _row(batch.case, spec.name, wanted[spec.name], given[spec.name], facts.threshold) for spec in facts.outputs
        )
    return Parity(
        reference=reference.name,
        limit_difference=limits.difference,
        limit_flipped=limits.flipped,
        rows=tuple(rows),
    )


def check(parity: Parity, what: str) -> None:
    """Refuse an artifact that is over a limit.

    Parameters
    ----------
    parity
        Its figures and limits.
    what
        What was measured, for the message.

    Raises
    ------
    ModelInvalidError
        When a difference, the share of flipped pixels or a NaN is over its limit.
    """
    todo = "do not use it: look at the operators that the named case reaches, or train with smaller logits"
    against = f"{what} against {parity.reference}"
    moved = [row.case for row in parity.rows if not row.same_nan]
    if moved:
        raise ModelInvalidError(f"{against}: NaN elsewhere in {', '.join(moved)}", "NaN in the same places", todo)
    if parity.max_difference > parity.limit_difference:
        worst = max(parity.rows, key=lambda row: row.max_difference)
        raise ModelInvalidError(
            f"{against}: a difference of {worst.max_difference:.3g} in {worst.case!r} ({worst.output})",
            f"at most {parity.limit_difference:.3g}",
            todo,
        )
    if parity.flipped_fraction > parity.limit_flipped:
        worst = max(parity.rows, key=lambda row: row.flipped_pixels)
        raise ModelInvalidError(
            f"{against}: {parity.flipped_fraction:.3%} of pixels flipped, most in {worst.case!r}",
            f"at most {parity.limit_flipped:.3%}",
            todo,
        )


def _row(case: str, output: str, wanted: FloatArray, given: FloatArray, threshold: float) -> ParityRow:
    if wanted.shape != given.shape:
        raise ModelInvalidError(
            f"{output} of shape {given.shape} in case {case!r}", f"shape {wanted.shape}", "export with free axes"
        )
    missing = np.isnan(wanted)
    both = ~missing & ~np.isnan(given)
    left, right = wanted[both].astype(np.float64), given[both].astype(np.float64)
    with np.errstate(invalid="ignore"):
        apart: npt.NDArray[np.float64] = np.abs(left - right)
    # Equal infinities agree; one against a number is more than any limit, and JSON knows no infinity.
    apart = np.nan_to_num(apart, nan=0.0, posinf=float(np.finfo(np.float32).max))
    difference = float(np.max(apart, initial=0.0))
    return ParityRow(
        case=case,
        output=output,
        shape=wanted.shape,
        valid_pixels=int(np.count_nonzero(~missing)),
        max_difference=float(f"{difference:.3g}"),
        flipped_pixels=int(np.count_nonzero((left >= threshold) != (right >= threshold))),
        same_nan=bool(np.array_equal(missing, np.isnan(given))),
    )
