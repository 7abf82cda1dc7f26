"""Cut the encoder out of the volcano model's graph, and run it."""

import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.utils import Extractor

from tocsin.anomaly.fitting import BATCH, Encode
from tocsin.anomaly.geometry import CELLS, CHIP
from tocsin.errors import ModelInvalidError
from tocsin.runtimes import RuntimeOptions

PHASE: Final = "phase"
FEATURES: Final = "features_{}"


def cut_encoder(graph: Path, layers: Sequence[int]) -> onnx.ModelProto:
    """Return the part of a volcano graph from phase to feature maps.

    Parameters
    ----------
    graph
        ONNX file whose inner values ``features_1`` (finest) to ``features_4`` are the encoder's maps.
    layers
        Which of them.

    Raises
    ------
    ModelInvalidError
        When they are not there, or are no maps that fit the grid of cells.
    """
    try:
        model = onnx.shape_inference.infer_shapes(onnx.load(graph), data_prop=True)
        encoder: onnx.ModelProto = Extractor(model).extract_model([PHASE], [FEATURES.format(layer) for layer in layers])
    except (KeyError, ValueError, RuntimeError, onnx.checker.ValidationError) as error:
        raise _invalid(f"{graph} without {PHASE} and features of layers {tuple(layers)} ({error})") from error
    for value in encoder.graph.output:
        side = value.type.tensor_type.shape.dim[-1].dim_value
        if not side or (side % CELLS and CELLS % side):
            raise _invalid(f"{value.name} with maps of {side or 'unknown'} px")
    return encoder


def _invalid(given: str) -> ModelInvalidError:
    return ModelInvalidError(
        given,
        f"named feature maps of {CHIP} px chips whose side divides {CELLS} or is a multiple of it",
        "export the volcano model with its encoder's maps, or choose other --layers",
    )


@contextmanager
def running(encoder: onnx.ModelProto, threads: int | None = None) -> Generator[Encode]:
    """Run an encoder in ONNX Runtime while the block lasts."""
    from tocsin.runtimes.onnx import OnnxRuntime

    with tempfile.TemporaryDirectory(prefix="tocsin-") as folder:
        path = Path(folder) / "encoder.onnx"
        onnx.save(encoder, path)
        with OnnxRuntime(path, RuntimeOptions(threads=threads)) as runtime:

            def encode(phase: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
                parts = [runtime.run({PHASE: phase[at : at + BATCH]}) for at in range(0, len(phase), BATCH)]
                return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

            yield encode
