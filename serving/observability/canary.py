"""The one proof that a model answers: it judges a chip.

A Triton server says that it is ready while the interpreter behind a model is dead, and a session may have been lost
with its device: neither shows but by asking. The chip is the smallest that the model takes, every pixel valid, so that
an answer that is no number is a failure too.
"""

import threading
from collections.abc import Iterable

import numpy as np

from tocsin.errors import RuntimeUnavailableError
from tocsin.repository import Model, load_model
from tocsin.runtimes import Runtime, RuntimeOptions, open_runtime
from tocsin.runtimes.triton import canary_of
from tocsin.scoring_job import ScoringOptions

CANARY_THREADS = 1
"""A chip of this size is judged in milliseconds; the cores belong to the scenes."""


class ModelCanary:
    """Asks models to judge a chip; a runtime that failed is opened anew the next time. Safe to call from any thread.

    Parameters
    ----------
    models
        Names of the repository.
    options
        What the service scores with: repository, runtime, device, precision.
    deadline_s
        How long a server may be away before the check fails.
    """

    def __init__(self, models: Iterable[str], options: ScoringOptions, deadline_s: float = 4.0) -> None:
        self._names, self._repository = tuple(models), options.model_repository
        own = {name: getattr(options, name) for name in RuntimeOptions.model_fields}
        self._options = RuntimeOptions(**{**own, "threads": CANARY_THREADS, "deadline_s": deadline_s})
        self._open: dict[str, tuple[Model, Runtime]] = {}
        self._lock = threading.Lock()

    def __call__(self) -> None:
        """Ask every model.

        Raises
        ------
        TocsinError
            A model is not there, its runtime fails, or its answer to a valid chip is no number.
        """
        with self._lock:
            for name in self._names:
                self._ask(name)

    def close(self) -> None:
        """Close every runtime."""
        with self._lock:
            while self._open:
                self._open.popitem()[1][1].close()

    def _ask(self, name: str) -> None:
        if name not in self._open:
            model = load_model(name, self._repository, self._options.precision)
            self._open[name] = model, open_runtime(model, self._options)
        model, runtime = self._open[name]
        try:
            _judge(model, runtime)
        except BaseException:
            del self._open[name]
            runtime.close()
            raise


def _judge(model: Model, runtime: Runtime) -> None:
    for output, values in runtime.run(canary_of(model.manifest).inputs).items():
        if not np.isfinite(values).all():
            given = f"model {model.manifest.name}, whose {output} of a valid chip is no number"
            raise RuntimeUnavailableError(given, "numbers", "see the log of the runtime")
