"""The little of CUDA that an engine needs: a card, streams, device memory, pinned host memory, copies between them.

`cuda-bindings` brings CUDA's runtime library with it; only the driver has to be on the machine. Tests put a fake in its
place: the protocol is the whole surface.
"""

import ctypes
import importlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tocsin.engines import Card
from tocsin.errors import RuntimeUnavailableError

ByteArray = npt.NDArray[np.uint8]


class Cuda(Protocol):
    """Calls of one card. An address is an integer, a size is in bytes; a failed call raises RuntimeUnavailableError."""

    def card(self) -> Card:
        """Return the card that is used."""

    def stream(self) -> int:
        """Return a new stream; work queued on it runs in order, beside that of other streams."""

    def wait(self, stream: int) -> None:
        """Return once everything queued on the stream is done."""

    def allocate(self, size: int) -> int:
        """Return the address of new memory on the card."""

    def pinned(self, size: int) -> ByteArray:
        """Return new host memory that the card copies from and to without help of the CPU."""

    def upload(self, address: int, source: ByteArray, stream: int) -> None:
        """Queue a copy of pinned memory to the card."""

    def download(self, target: ByteArray, address: int, stream: int) -> None:
        """Queue a copy from the card to pinned memory."""

    def free(self, stream: int, addresses: Sequence[int], pinned: Sequence[ByteArray]) -> None:
        """Give everything back."""


class CudaRuntime:
    """CUDA's runtime library on the first visible card.

    Raises
    ------
    RuntimeUnavailableError
        When cuda-bindings is not installed, or there is no card or driver.
    """

    def __init__(self) -> None:
        try:
            # By name: the packages that share the folder `cuda` cannot be told apart by who imports it.
            self._cuda: Any = importlib.import_module("cuda.bindings.runtime")
        except ImportError as error:
            raise RuntimeUnavailableError(
                "a TensorRT runtime without cuda-bindings",
                "the package cuda-bindings",
                "install tocsin[tensorrt] or tocsin[tensorrt-rtx]",
            ) from error
        # Fails with cudaErrorInsufficientDriver or cudaErrorNoDevice on a machine without a card.
        self._call("cudaSetDevice", 0)

    def card(self) -> Card:
        """Return the card that is used."""
        properties = self._call("cudaGetDeviceProperties", 0)
        return Card(properties.name.decode().rstrip("\0"), f"{properties.major}.{properties.minor}")

    def stream(self) -> int:
        """Return a new stream."""
        return int(self._call("cudaStreamCreateWithFlags", self._cuda.cudaStreamNonBlocking))

    def wait(self, stream: int) -> None:
        """Return once everything queued on the stream is done."""
        self._call("cudaStreamSynchronize", stream)

    def allocate(self, size: int) -> int:
        """Return the address of new memory on the card."""
        return int(self._call("cudaMalloc", size))

    def pinned(self, size: int) -> ByteArray:
        """Return new pinned host memory."""
        address = int(self._call("cudaMallocHost", size))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def upload(self, address: int, source: ByteArray, stream: int) -> None:
        """Queue a copy to the card."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, source.ctypes.data, source.nbytes, kind, stream)

    def download(self, target: ByteArray, address: int, stream: int) -> None:
        """Queue a copy from the card."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", target.ctypes.data, address, target.nbytes, kind, stream)

    def free(self, stream: int, addresses: Sequence[int], pinned: Sequence[ByteArray]) -> None:
        """Give everything back."""
        self._call("cudaStreamSynchronize", stream)
        for address in addresses:
            self._call("cudaFree", address)
        for block in pinned:
            self._call("cudaFreeHost", block.ctypes.data)
        self._call("cudaStreamDestroy", stream)

    def _call(self, name: str, *arguments: object) -> Any:  # noqa: ANN401 - each call of the library returns its own type
        code, *values = getattr(self._cuda, name)(*arguments)
        if code != self._cuda.cudaError_t.cudaSuccess:
            raise RuntimeUnavailableError(
                f"CUDA, whose {name} failed ({code.name}, error {int(code)})",
                "a card with a driver, and enough free memory on it",
                "check nvidia-smi, or pass --runtime onnx --device cpu",
            )
        return values[0] if values else None
