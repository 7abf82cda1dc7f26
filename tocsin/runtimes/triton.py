"""A model on a Triton server, over gRPC or HTTP, behind the same Protocol as a graph in this process.

Before use the server's model is compared with the manifest (precision and sha256 of the graph), and one chip is run.
The comparison is repeated after every batch: a server that came back, or was given another model meanwhile, never
contributes to a scene that states these weights. While a server is away, batches are asked again until the deadline.
"""

import logging
import random
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from tocsin.errors import (
    DeadlineExceededError,
    ModelInvalidError,
    QueueFullError,
    RuntimeUnavailableError,
    TocsinError,
    UsageError,
)
from tocsin.manifest import DYNAMIC, Manifest, TensorSpec
from tocsin.runtimes import FloatArray, RuntimeOptions
from tocsin.runtimes.triton_memory import SharedMemory
from tocsin.runtimes.triton_wire import Away, Endpoint, Question, Wire, open_wire

if TYPE_CHECKING:
    from tocsin.repository import Model

IN_FLIGHT: Final = 4
"""Requests of one batch that are under way at a time: the server computes while others travel."""
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 2.0

logger = logging.getLogger("tocsin.runtimes.triton")


class TritonRuntime:
    """One model on one server.

    Parameters
    ----------
    model : Model
        What the server has to run: manifest, precision and hash.
    options : RuntimeOptions
        Where the server is, how long it may be away, and whether shared memory may be used.

    Raises
    ------
    RuntimeUnavailableError
        The server is not there, does not serve the model, or runs it on another device than asked for.
    ModelInvalidError
        The server runs other weights.
    """

    def __init__(self, model: "Model", options: RuntimeOptions) -> None:
        self._where = Endpoint.parse(options.runtime)
        self.name = self._where.scheme.removesuffix("s")
        self.precision: str = options.precision
        self.device: str = options.device
        self._model, self._options = model, options
        self._wire: Wire | None = open_wire(self._where)
        self._memories: list[SharedMemory] = []
        self._shared = options.shared_memory and self._where.local
        self._pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="tocsin-triton")
        self._attached = False
        try:
            self._attach()
        except Away as away:
            self.close()
            raise RuntimeUnavailableError(
                f"runtime {self._where} ({away})",
                f"a Triton server there with model {model.manifest.name}",
                "start one with tocsin triton, or name another --runtime",
            ) from None
        except TocsinError:
            self.close()
            raise

    @property
    def shared_memory(self) -> bool:
        """Whether tensors go through shared memory: the server is local, and the probe came back the same."""
        return bool(self._memories)

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run one batch, each sample as a request of its own; see `tocsin.runtimes.Runtime.run`.

        Raises
        ------
        UsageError
            Names or shapes are not the model's.
        DeadlineExceededError
            The server was away for longer than the deadline.
        QueueFullError
            It had no room in its queue for as long.
        ModelInvalidError
            It came back with other weights.
        RuntimeUnavailableError
            The runtime was closed, or the server cannot run the model.
        """
        if self._wire is None:
            raise RuntimeUnavailableError("a closed runtime", "an open one", "open it again")
        questions = self._questions(inputs)
        answers: list[dict[str, FloatArray] | None] = [None] * len(questions)
        patience = _Patience(self._where, self._options.deadline_s)
        while True:
            try:
                self._attach()
                self._ask(questions, answers)
                self._check_identity()
                break
            except Away as away:
                if not away.queue_full:
                    # What came from a server that is gone by now may have been of other weights.
                    self._detach()
                    answers = [None] * len(questions)
                patience.wait(away)
        patience.over()
        done = [answer for answer in answers if answer is not None]
        if len(done) == 1:
            return done[0]
        return {name: np.concatenate([answer[name] for answer in done]) for name in done[0]}

    def close(self) -> None:
        """Leave the server; calling it again does nothing."""
        if self._wire is not None:
            self._detach()
            self._pool.shutdown()
            self._wire.close()
            self._wire = None

    def __enter__(self) -> Self:
        """Return the runtime."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close."""
        self.close()

    def _questions(self, inputs: Mapping[str, FloatArray]) -> list[Question]:
        """Return a request per sample."""
        manifest = self._model.manifest
        specs = {spec.name: spec for spec in manifest.inputs}
        if set(inputs) != set(specs):
            raise UsageError(f"inputs {sorted(inputs)}", f"{sorted(specs)}", "name them as the model does")
        batch = {value.shape[0] for value in inputs.values() if value.ndim}
        for name, value in inputs.items():
            _check_shape(specs[name], value.shape, manifest.multiple_of)
        if len(batch) != 1 or batch == {0}:
            raise UsageError(f"batches of {sorted(batch)}", "one size, at least 1", "give every input as many samples")
        whole = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in inputs.items()}
        return [question_of(manifest, {name: value[k : k + 1] for name, value in whole.items()}) for k in range(*batch)]

    def _ask(self, questions: list[Question], answers: list[dict[str, FloatArray] | None]) -> None:
        """Fill in the answers that are missing; the first failure is raised once nothing is under way any more."""
        wire = self._wire
        assert wire is not None, "checked on entry"
        lanes = min(len(questions), IN_FLIGHT)
        self._fit_memories(questions[0], lanes)

        def ask_lane(lane: int) -> None:
            memory = self._memories[lane] if self._memories else None
            for index in range(lane, len(questions), lanes):
                if answers[index] is None:
                    answers[index] = wire.ask(
                        self._model.manifest.name, questions[index], self._options.deadline_s, memory
                    )

        if lanes == 1:
            ask_lane(0)
            return
        pending = [self._pool.submit(ask_lane, lane) for lane in range(lanes)]
        wait(pending)
        errors = [error for each in pending if (error := each.exception()) is not None]
        # A full queue is the least of several troubles.
        for error in sorted(errors, key=lambda error: isinstance(error, Away) and error.queue_full):
            raise error

    def _attach(self) -> None:
        """Compare the server's model with the manifest, run a chip, and try shared memory; once a connection."""
        if self._attached:
            return
        assert self._wire is not None, "a closed runtime does not run"
        self._check_identity()
        canary = canary_of(self._model.manifest)
        name, timeout_s = self._model.manifest.name, self._options.deadline_s
        expected = self._wire.ask(name, canary, timeout_s, None)
        for output, value in expected.items():
            if not np.isfinite(value).all():
                raise RuntimeUnavailableError(
                    f"{self._where}, whose {output} of a valid chip is no number", "numbers", "check the server's log"
                )
        if self._shared:
            self._shared = self._memory_works(canary, expected)
        self._attached = True

    def _memory_works(self, canary: Question, expected: Mapping[str, FloatArray]) -> bool:
        """Say whether the same chip comes back the same through shared memory."""
        assert self._wire is not None, "called while attaching"
        self._drop_memories()
        try:
            self._fit_memories(canary, 1)
            answer = self._wire.ask(self._model.manifest.name, canary, self._options.deadline_s, self._memories[0])
        except (OSError, TocsinError, Away):
            self._drop_memories()
            return False
        same = all(np.array_equal(answer[name], value) for name, value in expected.items())
        if not same:
            self._drop_memories()
        return same

    def _fit_memories(self, question: Question, lanes: int) -> None:
        """Have a region of the right size for every lane."""
        if not self._shared:
            return
        assert self._wire is not None, "called while open"
        shapes = {**{name: value.shape for name, value in question.inputs.items()}, **question.outputs}
        if self._memories and self._memories[0].shapes != shapes:
            self._drop_memories()
        while len(self._memories) < lanes:
            memory = SharedMemory(shapes)
            self._memories.append(memory)
            self._wire.register(memory)

    def _check_identity(self) -> None:
        """Refuse a server that does not run this graph, or not on the device that was asked for."""
        assert self._wire is not None, "called while open"
        served = self._wire.served(self._model.manifest.name)
        wanted = (self._model.artifact.precision, self._model.sha256)
        if (served.precision, served.graph_sha256) != wanted:
            raise ModelInvalidError(
                f"{self._where} with model {self._model.manifest.name} in {served.precision}, "
                f"graph sha256 {served.graph_sha256}",
                f"{wanted[0]}, graph sha256 {wanted[1]}, as the manifest says",
                "serve the same model repository, or name the server's with --model-repository and --precision",
            )
        if self._options.device == "cuda" and served.device != "cuda":
            raise RuntimeUnavailableError(
                f"device cuda on {self._where}, which runs on {served.device}", "a server on cuda", "pass --device cpu"
            )
        self.device = served.device

    def _detach(self) -> None:
        """Forget what was known of the server: it is looked at again before the next batch."""
        self._attached = False
        self._drop_memories()

    def _drop_memories(self) -> None:
        """Remove the regions; a server that is gone has no more use for them."""
        while self._memories:
            memory = self._memories.pop()
            with suppress(Away, TocsinError):
                if self._wire is not None:
                    self._wire.unregister(memory)
            memory.close()


class _Patience:
    """Waits longer and longer, until a deadline has passed since the first failure."""

    def __init__(self, where: Endpoint, deadline_s: float) -> None:
        self._where, self._deadline_s = where, deadline_s
        self._since: float | None = None
        self._pause_s = FIRST_PAUSE_S

    def wait(self, away: Away) -> None:
        """Sleep, or raise when the deadline has passed."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
            if not away.queue_full:
                logger.warning("%s is away (%s): asking again for %g s", self._where, away, self._deadline_s)
        left = self._since + self._deadline_s - now
        if left <= 0:
            given = f"{self._where}, without an answer for {self._deadline_s:g} s ({away})"
            if away.queue_full:
                raise QueueFullError(given, "room in its queue", "try again later, or serve more instances") from None
            raise DeadlineExceededError(given, "an answer", "start the server again, then the command") from None
        # Many clients that were refused together must not come back together.
        time.sleep(min(left, self._pause_s * random.uniform(0.5, 1.0)))  # noqa: S311 - no secret
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def over(self) -> None:
        """Say that the server is back, when it was away."""
        if self._since is not None:
            logger.info("%s answers again after %.1f s", self._where, time.monotonic() - self._since)


def canary_of(manifest: Manifest) -> Question:
    """Return the smallest request that a model must answer with numbers: one chip, every pixel valid."""
    inputs = {}
    for spec in manifest.inputs:
        shape = [1, *(manifest.multiple_of if size == DYNAMIC else size for size in spec.shape)]
        inputs[spec.name] = np.zeros(shape, dtype=np.float32)
        if spec.normalisation is not None and len(spec.normalisation.mean) == 1:
            inputs[spec.name] += np.float32(spec.normalisation.mean[0])
        elif spec.normalisation is not None:
            bands = np.array(spec.normalisation.mean, dtype=np.float32)
            inputs[spec.name] += bands[:, np.newaxis, np.newaxis]
    return question_of(manifest, inputs)


def question_of(manifest: Manifest, inputs: dict[str, FloatArray]) -> Question:
    """Return a request for every output; free axes of the outputs are as long as those of the first input."""
    first = next(iter(inputs.values()))
    free = first.shape[-2:]
    outputs = {}
    for spec in manifest.outputs:
        sizes = [free[k - len(spec.shape)] if size == DYNAMIC else size for k, size in enumerate(spec.shape)]
        outputs[spec.name] = (first.shape[0], *sizes)
    return Question(inputs, outputs)


def _check_shape(spec: TensorSpec, shape: tuple[int, ...], multiple_of: int) -> None:
    fits = len(shape) == len(spec.shape) + 1 and all(
        given == wanted or (wanted == DYNAMIC and given > 0 and given % multiple_of == 0)
        for given, wanted in zip(shape[1:], spec.shape, strict=True)
    )
    if not fits:
        wanted = tuple(f"n x {multiple_of}" if size == DYNAMIC else size for size in spec.shape)
        raise UsageError(f"{spec.name} of shape {shape}", f"shape (batch, *{wanted})", "cut chips of that shape")
