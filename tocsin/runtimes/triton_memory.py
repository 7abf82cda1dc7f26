"""System shared memory between a client and a Triton server on the same machine: tensors are not sent, only named."""

import errno
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.shared_memory import SharedMemory as Segment
from pathlib import Path
from typing import Final

import numpy as np

from tocsin.runtimes import FloatArray

ALIGNED: Final = 64
"""Bytes: a cache line, and what vector instructions like."""

SHARED: Final = Path("/dev/shm")  # noqa: S108 - where Linux keeps shared memory, not a temporary file
SPARE: Final = 4
"""A region is made only where so many of its size are free."""


class SharedMemory:
    """One region with a place for every tensor of one request.

    Parameters
    ----------
    tensors : mapping of str to tuple of int
        Shapes of inputs and outputs by name; float32.

    Raises
    ------
    OSError
        There is no room for it.
    """

    def __init__(self, tensors: Mapping[str, tuple[int, ...]]) -> None:
        self.shapes = dict(tensors)
        self._places: dict[str, tuple[int, int]] = {}
        self.size = 0
        for name, shape in tensors.items():
            length = 4 * int(np.prod(shape))
            self._places[name] = (self.size, length)
            self.size += -(-length // ALIGNED) * ALIGNED
        # A page of a full file system kills the process that writes it.
        if SHARED.is_dir() and shutil.disk_usage(SHARED).free < SPARE * self.size:
            raise OSError(errno.ENOSPC, f"{SHARED} has no room for {self.size} bytes")
        self.name = f"tocsin_{secrets.token_hex(8)}"
        self._segment: Segment | None = Segment(self.name, create=True, size=self.size)

    @property
    def key(self) -> str:
        """Name of the segment as POSIX knows it."""
        return f"/{self.name}"

    def place(self, name: str) -> tuple[int, int]:
        """Return offset and length of a tensor, bytes."""
        return self._places[name]

    def write(self, values: Mapping[str, FloatArray]) -> None:
        """Copy the inputs to their places."""
        for name, value in values.items():
            self._view(name, value.shape)[...] = value

    def read(self, name: str, shape: tuple[int, ...]) -> FloatArray:
        """Return a copy of an output."""
        return self._view(name, shape).copy()

    def close(self) -> None:
        """Remove the region; calling it again does nothing."""
        if self._segment is not None:
            self._segment.close()
            with suppress(FileNotFoundError):
                self._segment.unlink()
            self._segment = None

    def _view(self, name: str, shape: tuple[int, ...]) -> FloatArray:
        assert self._segment is not None, "the owner closes it last"
        offset, _ = self._places[name]
        return np.ndarray(shape, dtype=np.float32, buffer=self._segment.buf, offset=offset)
