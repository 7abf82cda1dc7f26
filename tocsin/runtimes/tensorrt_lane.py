"""One batch on its way through an engine: copied to the card, computed, copied back, all queued on one stream."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from tocsin.errors import RuntimeUnavailableError, UsageError
from tocsin.runtimes import FloatArray
from tocsin.runtimes.cuda import ByteArray, Cuda


@dataclass(frozen=True)
class TensorNames:
    """Inputs and outputs of an engine, in its order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class _Memory:
    """Memory of one tensor on both sides, with room for the largest batch."""

    address: int
    pinned: ByteArray


class Lane:
    """A stream with an execution context and memory of its own: one batch at a time.

    Parameters
    ----------
    cuda : Cuda
        The card.
    context
        TensorRT's execution context of the engine.
    names : TensorNames
        Its inputs and outputs.
    room : mapping of str to int
        Bytes of the largest batch, by tensor.

    Raises
    ------
    RuntimeUnavailableError
        When the card has no room.
    """

    def __init__(self, cuda: Cuda, context: Any, names: TensorNames, room: Mapping[str, int]) -> None:  # noqa: ANN401 - TensorRT's
        self._cuda = cuda
        self._context = context
        self._names = names
        self._memory: dict[str, _Memory] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._stream = cuda.stream()
        try:
            for name, size in room.items():
                self._memory[name] = _Memory(cuda.allocate(size), cuda.pinned(size))
                assert context.set_tensor_address(name, self._memory[name].address), (
                    f"{name} is no tensor of the engine"
                )
        except BaseException:
            self.close()
            raise

    def send(self, inputs: Mapping[str, FloatArray]) -> None:
        """Queue copies and computation of one batch."""
        for name in self._names.inputs:
            array, memory = inputs[name], self._memory[name]
            if not self._context.set_input_shape(name, array.shape):
                raise UsageError(f"{name} of shape {array.shape}", "a shape of the engine", "cut other chips")
            part = memory.pinned[: array.nbytes]
            part[:] = array.reshape(-1).view(np.uint8)
            self._cuda.upload(memory.address, part, self._stream)
        self._shapes = {name: tuple(self._context.get_tensor_shape(name)) for name in self._names.outputs}
        if not self._context.execute_async_v3(self._stream):
            raise RuntimeUnavailableError(
                "a batch that TensorRT did not run", "a result", "try a smaller batch, or pass --runtime onnx"
            )
        for name, shape in self._shapes.items():
            memory = self._memory[name]
            self._cuda.download(memory.pinned[: byte_size(shape)], memory.address, self._stream)

    def receive(self) -> dict[str, FloatArray]:
        """Wait for the batch and return arrays of its results that nobody else writes to."""
        self.settle()
        return {
            name: self._memory[name].pinned[: byte_size(shape)].view(np.float32).reshape(shape).copy()
            for name, shape in self._shapes.items()
        }

    def settle(self) -> None:
        """Wait until the card has done what was queued."""
        self._cuda.wait(self._stream)

    def close(self) -> None:
        """Give the memory back; what a lost card held cannot be given back."""
        memory, self._memory = list(self._memory.values()), {}
        with suppress(RuntimeUnavailableError):
            self._cuda.free(self._stream, [each.address for each in memory], [each.pinned for each in memory])


def byte_size(shape: Sequence[int]) -> int:
    """Return the bytes of a float32 array of that shape."""
    assert min(shape, default=1) >= 0, f"a shape {shape} that depends on the data"
    return 4 * int(np.prod(shape))
