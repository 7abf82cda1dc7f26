"""Step 2: the graph gives what the network gave, pixel by pixel, or it is refused.

One reference and one candidate run the same chips. Compared are the largest difference, the pixels whose decision flips
and the places of NaN; the figures go into the manifest.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import nn

from tocsin.errors import ModelInvalidError
from tocsin.manifest import ModelFacts, Parity, ParityRow, Record
from tocsin.runtimes import RuntimeOptions

if TYPE_CHECKING:
    from tocsin.runtimes.onnx import OnnxRuntime

FloatArray = npt.NDArray[np.float32]


class OutputLimits(Record):
    """How one output is judged when it is no probability that is held against the threshold."""

    decision: Literal["threshold", "highest", "none"] = Field(
        default="threshold", description="Who decides: the model's threshold, the highest band, or nobody"
    )
    difference: float | None = Field(
        default=None, gt=0, description="Largest difference in the output's own unit; null: as for all"
    )
    flipped: float | None = Field(
        default=None, ge=0, le=1, description="Share of its decisions that may change; null: as for all"
    )
    given: str | None = Field(
        default=None, description="Output of one value a chip that has to reach the threshold for this one to be said"
    )


class ParityLimits(Record):
    """What a graph may differ by from the network that it was written from."""

    difference: float = Field(default=1e-4, gt=0, description="Largest difference of a probability at a valid pixel")
    flipped: float = Field(
        default=1e-4, ge=0, le=1, description="Share of one output's decisions (pixels or chips) that change"
    )
    outputs: dict[str, OutputLimits] = Field(default={}, description="Outputs that are judged otherwise, by name")


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
        Takes the manifest's inputs in order, returns its outputs in order; what follows them is not compared.
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
        return {spec.name: value.numpy() for spec, value in zip(self._facts.outputs, outputs, strict=False)}


@contextmanager
def running(graph: bytes) -> Iterator["OnnxRuntime"]:
    """Run a graph as scoring runs it while the block lasts: the same runtime, the same options."""
    from tocsin.runtimes.onnx import OnnxRuntime

    with tempfile.TemporaryDirectory(prefix="tocsin-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(graph)
        with OnnxRuntime(path, RuntimeOptions()) as runtime:
            yield runtime


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
        rows += compare(batch.case, reference.run(batch.inputs), candidate.run(batch.inputs), facts, limits)
    return Parity(
        reference=reference.name,
        limit_difference=limits.difference,
        limit_flipped=limits.flipped,
        rows=tuple(rows),
    )


def compare(
    case: str,
    wanted: Mapping[str, FloatArray],
    given: Mapping[str, FloatArray],
    facts: ModelFacts,
    limits: ParityLimits,
) -> list[ParityRow]:
    """Return one row per output of the manifest; arrays [batch, ...] by output name.

    Raises
    ------
    ModelInvalidError
        When shapes differ.
    """
    rows = []
    for spec in facts.outputs:
        own = limits.outputs.get(spec.name, OutputLimits())
        said = None if own.given is None else wanted[own.given].reshape(len(wanted[own.given])) >= facts.threshold
        pair = _Pair(case, spec.name, wanted[spec.name], given[spec.name], said)
        rows.append(_row(pair, own, facts.threshold))
    return rows


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
        When a difference, the share of flipped pixels, a figure's change or a NaN is over its limit.
    """
    todo = "do not use it: look at the operators that the named case reaches, or train with smaller logits"
    against = f"{what} against {parity.reference}"
    moved = [row.case for row in parity.rows if not row.same_nan]
    if moved:
        raise ModelInvalidError(f"{against}: NaN elsewhere in {', '.join(moved)}", "NaN in the same places", todo)
    worst = max(parity.rows, key=lambda row: row.max_difference / (row.limit_difference or parity.limit_difference))
    limit = worst.limit_difference or parity.limit_difference
    if worst.max_difference > limit:
        raise ModelInvalidError(
            f"{against}: a difference of {worst.max_difference:.3g} in {worst.case!r} ({worst.output})",
            f"at most {limit:.3g}",
            todo,
        )
    if parity.flipped_fraction > parity.limit_flipped:
        worst = max(parity.rows, key=lambda row: row.flipped_pixels / max(1, row.valid_pixels))
        raise ModelInvalidError(
            f"{against}: {parity.flipped_fraction:.3%} of decisions flipped, most in {worst.case!r} ({worst.output})",
            f"at most {parity.limit_flipped:.3%}",
            todo,
        )
    shares = parity.flipped_shares
    for row in parity.rows:
        if row.limit_flipped is not None and shares[row.output] > row.limit_flipped:
            raise ModelInvalidError(
                f"{against}: {shares[row.output]:.3%} of decisions of {row.output} flipped",
                f"at most {row.limit_flipped:.3%}",
                todo,
            )
    if parity.limit_change is not None and abs(parity.change) > parity.limit_change:
        worst = max(parity.rows, key=lambda row: abs(row.change or 0.0))
        raise ModelInvalidError(
            f"{against}: {worst.metric} of {worst.output} changed by {parity.change:+.4f} on {worst.case!r}",
            f"at most {parity.limit_change:g} either way",
            todo,
        )


@dataclass(frozen=True)
class _Pair:
    """One output of both sides, [batch, ...]."""

    case: str
    output: str
    wanted: FloatArray
    given: FloatArray
    said: npt.NDArray[np.bool_] | None = None
    """For each sample of the batch, whether its decision is said at all; None: all are."""


def _row(pair: _Pair, limits: OutputLimits, threshold: float) -> ParityRow:
    wanted, given = pair.wanted, pair.given
    if wanted.shape != given.shape:
        raise ModelInvalidError(
            f"{pair.output} of shape {given.shape} in case {pair.case!r}",
            f"shape {wanted.shape}",
            "export with free axes",
        )
    missing = np.isnan(wanted)
    both = ~missing & ~np.isnan(given)
    left, right = wanted[both].astype(np.float64), given[both].astype(np.float64)
    with np.errstate(invalid="ignore"):
        apart: npt.NDArray[np.float64] = np.abs(left - right)
    # Equal infinities agree; one against a number is more than any limit, and JSON knows no infinity.
    apart = np.nan_to_num(apart, nan=0.0, posinf=float(np.finfo(np.float32).max))
    difference = float(np.max(apart, initial=0.0))
    decided = ~missing
    flipped = np.zeros(0, np.bool_)
    if limits.decision == "threshold":
        flipped = (left >= threshold) != (right >= threshold)
    elif limits.decision == "highest":
        decided, whole = decided.all(axis=1), both.all(axis=1)
        if pair.said is not None:
            decided, whole = decided & pair.said, whole & pair.said
        flipped = (wanted.argmax(axis=1) != given.argmax(axis=1)) & whole
    return ParityRow(
        case=pair.case,
        output=pair.output,
        shape=wanted.shape,
        valid_pixels=int(np.count_nonzero(decided)),
        max_difference=float(f"{difference:.3g}"),
        flipped_pixels=int(np.count_nonzero(flipped)),
        limit_difference=limits.difference,
        limit_flipped=limits.flipped,
        same_nan=bool(np.array_equal(missing, np.isnan(given))),
    )
