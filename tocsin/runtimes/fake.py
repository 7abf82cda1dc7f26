"""A runtime without a graph: any numpy function behind the same Protocol. For tests, demos and plumbing."""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import numpy as np

from tocsin.errors import RuntimeUnavailableError
from tocsin.runtimes import FloatArray

BatchFunction = Callable[[Mapping[str, FloatArray]], dict[str, FloatArray]]


class FakeRuntime:
    """Runs a numpy function as if it were a graph.

    Parameters
    ----------
    function : callable
        Takes float32 [batch, band, row, col] by input name, returns float32 [batch, ...] by output name.
    delay_s : float
        Seconds that every call takes beyond the function itself, to imitate a slow graph.
    """

    name = "fake"
    device = "cpu"
    precision = "fp32"

    def __init__(self, function: BatchFunction, delay_s: float = 0.0) -> None:
        self._function = function
        self._delay_s = delay_s
        self.closed = False
        self.calls = 0

    @classmethod
    def identity(cls, source: str = "s1", target: str = "water", band: int = 0) -> Self:
        """Return one band of one input as the output: what goes in must come out of chips and mosaic."""
        return cls(lambda inputs: {target: np.ascontiguousarray(inputs[source][:, band : band + 1])})

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run one batch; see `tocsin.runtimes.Runtime.run`.

        Raises
        ------
        RuntimeUnavailableError
            The runtime was closed.
        """
        if self.closed:
            raise RuntimeUnavailableError("a closed runtime", "an open one", "open it again")
        if self._delay_s:
            import time

            time.sleep(self._delay_s)
        self.calls += 1
        return self._function(inputs)

    def close(self) -> None:
        """Refuse further batches."""
        self.closed = True

    def __enter__(self) -> Self:
        """Return the runtime."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close."""
        self.close()
