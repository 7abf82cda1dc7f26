"""INT8: static quantisation (QDQ) from the first to the last weighted layer, float32 around it.

Between weighted layers everything is quantised as well, or nothing, as is asked: the first is faster, and the second
keeps sums, means and joined channels of unlike ranges as they are.

Weights are quantised per channel, to seven bits of the eight: x86 processors without VNNI add pairs of products in 16
bits and would saturate on more, that is, give another map than the machine that this graph passed its gate on.
Activations are unsigned; their ranges are the extremes over the calibration chips.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import numpy as np
import numpy.typing as npt
import onnx

from export.precision.layers import WEIGHTED, finished, inner_nodes

FloatArray = npt.NDArray[np.float32]


class Quantiser:
    """Quantises one graph, wholly or in part; calibrated once. Use as a context manager.

    Parameters
    ----------
    model
        As `layers.prepared` returns it.
    batches
        Inputs by name, the calibration chips; at least one.
    """

    def __init__(self, model: onnx.ModelProto, batches: Iterable[Mapping[str, FloatArray]]) -> None:
        from onnxruntime.quantization import quant_pre_process

        self._folder = TemporaryDirectory(prefix="tocsin-")
        self._model, self._ranges = Path(self._folder.name) / "model.onnx", Path(self._folder.name) / "ranges.json"
        self._inner = {node.name: node.op_type in WEIGHTED for node in inner_nodes(model.graph)}
        self._props = {each.key: each.value for each in model.metadata_props}
        self._producer = model.producer_name, model.producer_version
        # Shapes alone: what else the preparation does would double weights that several layers share.
        quant_pre_process(model, self._model, skip_optimization=True, skip_symbolic_shape=True)
        self.quantised(batches=batches)

    def __enter__(self) -> Self:
        """Return the quantiser."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the working files."""
        self._folder.cleanup()

    def quantised(
        self,
        kept: Collection[str] = (),
        batches: Iterable[Mapping[str, FloatArray]] | None = None,
        *,
        between: bool = True,
    ) -> bytes:
        """Return the quantised graph.

        Parameters
        ----------
        kept
            Names of the nodes that stay in float32.
        batches
            Inputs to calibrate on; None: the ranges found before.
        between
            Whether what lies between weighted layers is quantised too.
        """
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

        out = Path(self._folder.name) / "quantised.onnx"
        with _quiet():
            quantize_static(
                self._model,
                out,
                None if batches is None else _Reader(batches),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=[
                    name for name, weighted in self._inner.items() if name not in kept and (weighted or between)
                ],
                calibrate_method=CalibrationMethod.MinMax,
                calibration_cache_path=self._ranges,
            )
        model = onnx.load(out)
        onnx.helper.set_model_props(model, self._props)
        model.producer_name, model.producer_version = self._producer
        return finished(model, "int8")


class _Reader:
    """Batches one by one, as the quantiser asks for them."""

    def __init__(self, batches: Iterable[Mapping[str, FloatArray]]) -> None:
        self._batches: Iterator[Mapping[str, FloatArray]] = iter(batches)

    def get_next(self) -> dict[str, FloatArray] | None:
        """Return the next batch, None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else dict(batch)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence remarks on values that are rightly not quantised."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
