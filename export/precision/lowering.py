"""Make the FP16 and INT8 graphs of a model, each within its limits, or refuse."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from export.parity import ParityChips, ParityLimits, check, running
from export.precision import flood_chips, landslide_chips, volcano_chips
from export.precision.figures import ChipSet
from export.precision.gate import Expected, Outputs, expect, judge
from export.precision.half import overflowing, peaks, to_half
from export.precision.int8 import Quantiser
from export.precision.layers import arithmetic, finished, inner_nodes, prepared, weighted_layers
from export.repository import GraphFile
from tocsin.cli.parity import limits_line, parity_table
from tocsin.errors import ModelInvalidError, UsageError
from tocsin.manifest import Hazard, ModelFacts, Parity, Precision

logger = logging.getLogger("tocsin.export")

LOWER: Final[tuple[Precision, ...]] = ("fp16", "int8")
RANKED_ON: Final = 4
"""Calibration chips that layers are ranked on when INT8 fails its gate."""
MORE_KEPT: Final = 4
"""Layers more that stay in float32 each time that it fails again."""
LEAST_QUANTISED: Final = 0.5
"""Share of the multiply-adds below which a graph is not worth the name INT8."""
LARGEST_MODEL: Final = 27_000_000
"""Bytes of all precisions of a model together: they travel in the wheel."""


@dataclass(frozen=True)
class PrecisionChips:
    """What precisions need to know of a hazard.

    Attributes
    ----------
    calibration
        Data folder, or None -> chips that INT8 takes its ranges from, one a batch.
    judged
        Data folder, or None -> sets of other chips that decisions are compared on.
    decided
        Batch -> whether scoring gives a verdict on such chips.
    """

    calibration: Callable[[Path | None], Iterator[ParityChips]]
    judged: Callable[[Path | None], Iterator[ChipSet]]
    decided: Callable[[ParityChips], bool] = lambda _: True


CHIPS: Final[dict[Hazard, PrecisionChips]] = {
    "flood": PrecisionChips(flood_chips.calibration, flood_chips.judged),
    "landslide": PrecisionChips(landslide_chips.calibration, landslide_chips.judged),
    "volcano": PrecisionChips(volcano_chips.calibration, volcano_chips.judged, volcano_chips.decided),
}


class Lowering:
    """The lower precisions of one model.

    Parameters
    ----------
    graph
        The float32 graph that passed parity.
    facts
        Its facts.
    limits
        Its parity limits: who decides each output.
    hard_cases
        The simulated chips of its parity: holes, nothing but NaN, values out of range.
    data
        Folder of the data sets, or None: simulated chips only.

    Raises
    ------
    ModelInvalidError
        When the graph holds no weighted layer.
    """

    def __init__(
        self,
        graph: bytes,
        facts: ModelFacts,
        limits: ParityLimits,
        hard_cases: Sequence[ParityChips],
        data: Path | None,
    ) -> None:
        chips = CHIPS[facts.hazard]
        self._facts = facts
        self._model = prepared(graph)
        self._layers = weighted_layers(self._model.graph)
        if not self._layers:
            raise ModelInvalidError(
                f"a graph of {facts.name} without a convolution or matrix", "a network", "run it in fp32"
            )
        self._opset = self._model.opset_import[0].version
        self._calibration = tuple(chips.calibration(data))
        self._hard = tuple(hard_cases)
        decided = [batch for batch in hard_cases if chips.decided(batch)]
        others = [batch for batch in hard_cases if not chips.decided(batch)]
        sets = [ChipSet("hard cases", decided), *chips.judged(data)]
        if others:
            sets.insert(1, ChipSet("hard cases without a verdict", others, decided=False))
        judged = {batch.case for each in sets for batch in each.chips}
        both = judged & {batch.case for batch in self._calibration}
        assert not both, f"calibrated and judged on: {sorted(both)}"
        self._expected: Expected = expect(graph, facts, limits, sets)

    def lowered(self, precision: Precision) -> GraphFile:
        """Return the graph in one precision, within its limits.

        Raises
        ------
        ModelInvalidError
            When there is none; the figures are in the log.
        UsageError
            When it is no lower precision.
        """
        if precision not in LOWER:
            raise UsageError(f"precision {precision}", f"one of {', '.join(LOWER)}", "fp32 comes from the checkpoint")
        return self._half() if precision == "fp16" else self._int8()

    def _half(self) -> GraphFile:
        seen = (batch.inputs for batch in (*self._calibration, *self._hard))
        kept = overflowing(self._model, peaks(self._model, seen))
        content = finished(to_half(self._model, kept), "fp16")
        parity = judge(content, self._expected, "fp16")
        self._check(parity, "fp16", list(kept.values()))
        return self._file("fp16", content, parity, list(kept.values()))

    def _int8(self) -> GraphFile:
        with Quantiser(self._model, (batch.inputs for batch in self._calibration)) as quantiser:
            names, content, parity = self._mixed(quantiser)
        self._check(parity, "int8", names)
        used = [batch.case for batch in self._calibration]
        return self._file("int8", content, parity, names, used)

    def _mixed(self, quantiser: Quantiser) -> tuple[list[str], bytes, Parity]:
        """Return layers kept in float32, graph and figures: the first graph that passes, else the last one tried.

        First everything is quantised, then weighted layers alone, then ever fewer of these.
        """
        layers, ranked, names = self._layers, list[str](), list[str]()
        costs = arithmetic(self._model, self._calibration[0].inputs)
        content = quantiser.quantised()
        parity = judge(content, self._expected, "int8")
        logger.info("int8 in all and between layers: %s", limits_line(parity))
        for kept in range(0, len(layers), MORE_KEPT):
            if within(parity):
                break
            ranked = ranked or (self._ranked(quantiser, costs) if kept else [])
            if kept and sum(costs[name] for name in ranked[kept:]) < LEAST_QUANTISED * sum(costs.values()):
                break
            names = ranked[:kept]
            content = quantiser.quantised({node for name in names for node in layers[name]}, between=False)
            parity = judge(content, self._expected, "int8")
            logger.info("int8 in layers alone, %d of %d in fp32: %s", kept, len(layers), limits_line(parity))
        return names, content, parity

    def _ranked(self, quantiser: Quantiser, costs: Mapping[str, int]) -> list[str]:
        """Return the layers, that first which alone changes the answers most for each multiply-add that it saves."""
        every = {node.name for node in inner_nodes(self._model.graph)}
        some = self._calibration[:: max(1, len(self._calibration) // RANKED_ON)][:RANKED_ON]
        wanted = _answers(self._model.SerializeToString(), some)
        errors = {}
        for name, nodes in self._layers.items():
            given = _answers(quantiser.quantised(every - set(nodes), between=False), some)
            errors[name] = self._error(wanted, given)
            logger.info("int8 in %s alone: error %.3g, multiply-adds %.3g", name, errors[name], costs[name])
        return sorted(costs, key=lambda name: -errors[name] / costs[name])

    def _error(self, wanted: Sequence[Outputs], given: Sequence[Outputs]) -> float:
        """Return the mean difference, each output in its own limits' unit."""
        limits, total = self._expected.limits, 0.0
        for spec in self._facts.outputs:
            own = limits.outputs.get(spec.name)
            unit = (own and own.difference) or limits.difference
            pairs = [(left[spec.name], right[spec.name]) for left, right in zip(wanted, given, strict=True)]
            apart = np.concatenate([np.abs(left - right).ravel() for left, right in pairs])
            total += float(np.mean(apart[np.isfinite(apart)])) / unit
        return total

    def _check(self, parity: Parity, precision: Precision, kept: Sequence[str]) -> None:
        if not within(parity):
            logger.warning("%s of %s, kept in fp32: %s", precision, self._facts.name, ", ".join(kept) or "nothing")
            logger.warning("%s", parity_table(parity))
        check(parity, f"{precision} of {self._facts.name}")

    def _file(
        self, precision: Precision, content: bytes, parity: Parity, kept: Sequence[str], used: Sequence[str] = ()
    ) -> GraphFile:
        return GraphFile(
            precision,
            content,
            self._opset,
            parity,
            layers=len(self._layers),
            kept_fp32=tuple(dict.fromkeys(kept)),
            calibration_chips=tuple(used),
        )


def within(parity: Parity) -> bool:
    """Return whether figures keep their limits."""
    try:
        check(parity, "")
    except ModelInvalidError:
        return False
    return True


def check_size(graphs: Sequence[GraphFile]) -> None:
    """Refuse graphs that are too large together.

    Raises
    ------
    ModelInvalidError
        When they are.
    """
    total = sum(len(graph.content) for graph in graphs)
    if total > LARGEST_MODEL:
        raise ModelInvalidError(
            f"graphs of {total} bytes together", f"at most {LARGEST_MODEL}", "leave out a precision, or train smaller"
        )


def _answers(graph: bytes, chips: Sequence[ParityChips]) -> list[Outputs]:
    with running(graph) as runtime:
        return [runtime.run(batch.inputs) for batch in chips]
