"""The thin layer over cuda-bindings, on a fake of its calls, without a card, and on one (gpu)."""

import ctypes
import importlib
from types import SimpleNamespace

import numpy as np
import pytest

from tocsin.engines import Card
from tocsin.errors import RuntimeUnavailableError
from tocsin.runtimes.cuda import CudaRuntime


class Code(int):
    """A return code with its name."""

    name = "cudaErrorMemoryAllocation"


class FakeBindings(SimpleNamespace):
    """The calls of `cuda.bindings.runtime` that are used: each notes its arguments and returns (code, values...)."""

    def __init__(self):
        super().__init__(
            calls=[],
            failing=None,
            cudaStreamNonBlocking=1,
            cudaError_t=SimpleNamespace(cudaSuccess=0),
            cudaMemcpyKind=SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2),
        )
        self.host = ctypes.create_string_buffer(64)
        properties = SimpleNamespace(name=b"NVIDIA RTX 5000\0\0", major=8, minor=9)
        self.answers = {
            "cudaGetDeviceProperties": [properties],
            "cudaStreamCreateWithFlags": [7],
            "cudaMalloc": [4096],
            "cudaMallocHost": [ctypes.addressof(self.host)],
        }

    def __getattr__(self, name):
        if not name.startswith("cuda"):
            raise AttributeError(name)

        def call(*arguments):
            self.calls.append((name, *arguments))
            return (Code(2),) if name == self.failing else (0, *self.answers.get(name, []))

        return call


@pytest.fixture
def bindings(monkeypatch):
    """Return the fake, in the place of the module."""
    fake = FakeBindings()
    monkeypatch.setattr(importlib, "import_module", lambda _: fake)
    return fake


def test_calls_of_one_batch(bindings) -> None:
    """Copies run on the stream, between pinned memory and the card, in the direction that their names say."""
    cuda = CudaRuntime()
    assert cuda.card() == Card("NVIDIA RTX 5000", "8.9")
    stream, address, block = cuda.stream(), cuda.allocate(16), cuda.pinned(16)
    block[:] = 5
    assert bindings.host.raw[:17] == b"\5" * 16 + b"\0"
    cuda.upload(address, block[:8], stream)
    cuda.download(block, address, stream)
    cuda.wait(stream)
    cuda.free(stream, [address], [block])
    host = ctypes.addressof(bindings.host)
    assert bindings.calls[2:] == [
        ("cudaStreamCreateWithFlags", 1),
        ("cudaMalloc", 16),
        ("cudaMallocHost", 16),
        ("cudaMemcpyAsync", address, host, 8, 1, stream),
        ("cudaMemcpyAsync", host, address, 16, 2, stream),
        ("cudaStreamSynchronize", stream),
        ("cudaStreamSynchronize", stream),
        ("cudaFree", address),
        ("cudaFreeHost", host),
        ("cudaStreamDestroy", stream),
    ]


def test_a_failed_call_is_named(bindings) -> None:
    """A failed call says which one, with CUDA's name and number of the error."""
    bindings.failing = "cudaMalloc"
    with pytest.raises(RuntimeUnavailableError, match=r"cudaMalloc failed \(cudaErrorMemoryAllocation, error 2\)"):
        CudaRuntime().allocate(16)


def test_without_the_package(monkeypatch) -> None:
    """Without cuda-bindings the extra is named."""

    def refuse(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(RuntimeUnavailableError, match="without cuda-bindings") as caught:
        CudaRuntime()
    assert "tocsin[tensorrt-rtx]" in caught.value.todo


def test_without_a_card() -> None:
    """The real library says on a machine without a driver that there is none."""
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="needs the extra tensorrt or tensorrt-rtx")
    if runtime.cudaGetDeviceCount()[0] == runtime.cudaError_t.cudaSuccess:
        pytest.skip("this machine has a card")
    with pytest.raises(RuntimeUnavailableError, match=r"cudaSetDevice failed \(cudaError"):
        CudaRuntime()


def test_the_real_library_takes_these_arguments() -> None:
    """Every call gets past the types of the real cuda-bindings; without a driver the library itself refuses it."""
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="needs the extra tensorrt or tensorrt-rtx")
    if runtime.cudaGetDeviceCount()[0] == runtime.cudaError_t.cudaSuccess:
        pytest.skip("this machine has a card")
    cuda = CudaRuntime.__new__(CudaRuntime)
    cuda._cuda = runtime
    block = np.zeros(16, np.uint8)
    calls = [
        cuda.card,
        cuda.stream,
        lambda: cuda.wait(1),
        lambda: cuda.allocate(16),
        lambda: cuda.pinned(16),
        lambda: cuda.upload(4096, block, 1),
        lambda: cuda.download(block, 4096, 1),
        lambda: cuda._call("cudaFree", 4096),
        lambda: cuda._call("cudaFreeHost", block.ctypes.data),
        lambda: cuda._call("cudaStreamDestroy", 1),
    ]
    for call in calls:
        with pytest.raises(RuntimeUnavailableError, match="cudaError"):
            call()


@pytest.mark.gpu
def test_bytes_come_back_from_the_card() -> None:
    """What is copied to the card and back is what it was."""
    cuda = CudaRuntime()
    stream, address, block = cuda.stream(), cuda.allocate(1024), cuda.pinned(1024)
    block[:] = np.arange(1024) % 251
    cuda.upload(address, block, stream)
    cuda.wait(stream)
    block[:] = 0
    cuda.download(block, address, stream)
    cuda.wait(stream)
    np.testing.assert_array_equal(block, np.arange(1024) % 251)
    cuda.free(stream, [address], [block])
