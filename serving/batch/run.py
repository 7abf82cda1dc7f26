"""Score a batch: at any time as many scenes are out as workers can score, and no more.

What is out is what a kill can cost, and what the scheduler must remember: its memory does not grow with the batch.
"""

import heapq
import queue
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from distributed import Future, KilledWorker

from serving.batch.cluster import Cluster, open_cluster, shared_options
from serving.batch.entry import Entry, SceneError
from serving.batch.journal import FILE, Journal, open_journal
from serving.batch.manifest_file import read_manifest
from serving.batch.progress import Count, Told, show_progress
from serving.batch.retry import INTERNAL, LOST, PASSING, Attempts
from serving.batch.scenes import Scene, plan_scenes
from serving.batch.settings import BatchResult, BatchSettings, BatchSummary, SceneFailure
from serving.batch.storage import BatchTarget, LocalTarget, open_target
from serving.batch.worker import Order, Outcome, failed, probe, score_scene
from tocsin.errors import ProductExistsError, RuntimeUnavailableError, TocsinError
from tocsin.result import Hazard
from tocsin.scoring_job import ScoringOptions

LOOK_S: Final = 1.0
"""How long to wait for an answer before looking whether workers came or a delay is over."""


def run(settings: BatchSettings) -> BatchResult:
    """Score every scene of a manifest that is not done yet, then write what covers them all.

    Parameters
    ----------
    settings
        The whole batch.

    Raises
    ------
    TocsinError
        Something that holds for the whole batch is wrong: the manifest, the target, the scheduler, a model, the
        runtime. What is wrong with one scene is in the result.
    KeyboardInterrupt
        Passed on after the workers have stopped; the journal is intact.
    """
    started = time.monotonic()
    with read_manifest(settings.manifest, settings.hazard) as (rows, base):
        scenes = plan_scenes(rows, base, settings.hazard)
    target = open_target(settings.out)
    outputs = outputs_of(settings)
    with target.lock():
        target.prepare()
        with open_journal(target) as journal:
            if isinstance(target, LocalTarget) and not settings.options.overwrite:
                _refuse_foreign(scenes, journal, target)
            with open_cluster(settings) as cluster:
                options = shared_options(settings)
                models = _models(cluster, scenes, options)
                with show_progress(len(scenes), cluster.dashboard, quiet=settings.options.quiet) as told:
                    dispatch = Dispatch(settings, options, models, Means(cluster, journal, target, told))
                    count = dispatch.run(scenes)
            products = {"journal": target.path(FILE)}
            for write in outputs:
                made = write(journal.entries(scene.name for scene in scenes), target)
                products |= {name: target.path(path) for name, path in made.items()}
            journal.join()
            return _result(scenes, journal, count, (products, time.monotonic() - started))


Output = Callable[[Iterator[Entry], BatchTarget], dict[str, str]]
"""Writes something about all scenes; returns its path by its name."""


def outputs_of(settings: BatchSettings) -> list[Output]:
    """Return what writes the outputs of a batch; zones are read and checked now, before any work."""
    from serving.batch.catalog import write_catalog
    from serving.batch.ranking import write_ranking
    from serving.batch.report import write_report

    outputs: list[Output] = [write_catalog, write_ranking, write_report]
    if settings.zones is not None:
        from serving.batch.zones import read_zones, write_zones

        zones = read_zones(settings.zones)
        outputs.append(lambda entries, target: write_zones(entries, zones, target))
    return outputs


@dataclass(frozen=True, slots=True)
class Means:
    """What a dispatch works with."""

    cluster: Cluster
    journal: Journal
    target: BatchTarget
    told: Told


@dataclass
class Dispatch:
    """Hands scenes to workers and takes down what became of them.

    Attributes
    ----------
    settings
        Of the batch.
    options
        Of every scene.
    models
        SHA-256 of the graph of each hazard.
    means
        Cluster, journal, target, and who is told.
    task
        What a worker does with an order.
    """

    settings: BatchSettings
    options: ScoringOptions
    models: dict[Hazard, str]
    means: Means
    task: Callable[[Order], Outcome] = score_scene
    _out: "dict[Future[Outcome], tuple[Order, Attempts]]" = field(default_factory=dict)
    _answers: "queue.SimpleQueue[Future[Outcome]]" = field(default_factory=queue.SimpleQueue)
    _delayed: list[tuple[float, int, Scene, Attempts]] = field(default_factory=list)
    _numbers: int = 0
    _given_up: int = 0

    def run(self, scenes: list[Scene]) -> Count:
        """Score the scenes, in their order; returns how many became what.

        Raises
        ------
        RuntimeUnavailableError
            The scheduler left, or scene after scene was given up for what can pass.
        """
        count = Count(len(scenes))
        waiting = iter(scenes)
        self._fill(waiting)
        while self._out or self._delayed:
            try:
                future = self._answers.get(timeout=LOOK_S)
            except queue.Empty:
                self._fill(waiting)
                continue
            order, attempts = self._out.pop(future)
            if future.status == "finished":
                # The next scene goes out before this answer is fetched and written down: workers never wait for us.
                self._fill(waiting)
            outcome = self._outcome(future, order)
            future.release()
            if outcome is None:
                heapq.heappush(self._delayed, (time.monotonic(), self._number(), order.scene, attempts))
                self._fill(waiting)
                continue
            again = attempts.again(outcome.code, self.settings.retry) if outcome.state == "failed" else None
            if again is not None:
                tried, delay = again
                heapq.heappush(self._delayed, (time.monotonic() + delay, self._number(), order.scene, tried))
            self._fill(waiting)
            if again is None:
                self._note(order, outcome, count)
        return count

    def _fill(self, waiting: Iterator[Scene]) -> None:
        while len(self._out) < self.means.cluster.places():
            if self._delayed and self._delayed[0][0] <= time.monotonic():
                _, _, scene, attempts = heapq.heappop(self._delayed)
            else:
                following = next(waiting, None)
                if following is None:
                    return
                scene, attempts = following, Attempts()
            self._submit(scene, attempts)

    def _submit(self, scene: Scene, attempts: Attempts) -> None:
        order = Order(scene, self.options, self.models[scene.hazard], self.means.target.path(""), attempts.number)
        noted = None if self.settings.options.overwrite else self.means.journal.noted(scene.name)
        if noted is not None:
            result = self.means.journal.entry(scene.name).result
            products = tuple(result.products.values()) if result else ()
            order = replace(order, key=noted.key, code=noted.code, products=products)
        future = self.means.cluster.client.submit(self.task, order, key=("tocsin-scene", self._number()), pure=False)
        self._out[future] = order, attempts
        future.add_done_callback(self._answers.put)

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _outcome(self, future: "Future[Outcome]", order: Order) -> Outcome | None:
        """Return what a worker answered, or what its silence means; None when an answer was lost on its way."""
        error: BaseException | None = None
        try:
            if future.status == "finished":
                return future.result()
            error = future.exception() if future.status == "error" else None
        except KilledWorker:
            # The worker died under its next scene before this answer was fetched: no fault of this one.
            self.means.cluster.recount()
            return None
        if isinstance(error, KilledWorker):
            self.means.cluster.recount()
            message = f"given {order.scene.id}, whose worker died {order.attempt} times; expected a scene that "
            message += "workers survive; do this: give them more memory (--memory, --workers), or look at the scene"
            return failed(order, None, SceneError(code=LOST, message=message), 0.0)
        if error is None:
            raise RuntimeUnavailableError(
                f"the scheduler {self.settings.scheduler or 'of this machine'}, which left ({future.status})",
                "one that stays to the end",
                "run the batch again: it goes on where it was",
            )
        said = SceneError(code=INTERNAL, message=f"{type(error).__name__}: {error}")
        return failed(order, None, said, 0.0)

    def _note(self, order: Order, outcome: Outcome, count: Count) -> None:
        """Write down what became of a scene, and tell."""
        journal, scene = self.means.journal, order.scene
        if outcome.line:
            journal.append(Entry.model_validate_json(outcome.line))
        # Also of a scene that is kept: a kill may have come between its line and this.
        self.means.target.forget_receipt(order.folder)
        if outcome.state == "done":
            count.done += 1
        elif outcome.state == "failed" or order.code is not None:
            count.failed += 1
        else:
            count.skipped += 1
        self.means.told(scene.id, outcome, count)
        self._given_up = self._given_up + 1 if outcome.code in PASSING else 0
        if self._given_up >= self.settings.retry.in_a_row:
            raise RuntimeUnavailableError(
                f"{self._given_up} scenes one after another that ended with {outcome.code} ({outcome.message})",
                "a runtime and a storage that stay",
                "mend them, then run the batch again: it goes on where it was",
            )


def _models(cluster: Cluster, scenes: list[Scene], options: ScoringOptions) -> dict[Hazard, str]:
    """Try the models in the runtime on one worker, before any scene."""
    hazards = sorted({scene.hazard for scene in scenes})
    try:
        return cluster.client.submit(probe, hazards, options, pure=False).result()
    except TocsinError:
        raise
    except (ImportError, KilledWorker, OSError) as error:
        raise RuntimeUnavailableError(
            f"workers that cannot load tocsin and its models ({type(error).__name__}: {error})",
            "workers with the same tocsin, and memory for the models",
            "install it there, or give them more memory with --memory",
        ) from error


def _refuse_foreign(scenes: Iterable[Scene], journal: Journal, target: LocalTarget) -> None:
    """Refuse folders of scenes that no batch of this journal made: they are not ours to replace."""
    for scene in scenes:
        folder = f"{scene.hazard}/{scene.id}"
        if journal.noted(scene.name) is None and (target.folder / folder).exists() and not target.receipt(folder):
            raise ProductExistsError(
                f"{target.path(folder)}, which is in no journal of this folder",
                "a folder without products of these scenes",
                "pass --overwrite or choose another -o",
            )


def _result(scenes: list[Scene], journal: Journal, count: Count, made: tuple[dict[str, str], float]) -> BatchResult:
    failures: list[SceneFailure] = []
    km2 = 0.0
    for entry in journal.entries(scene.name for scene in scenes):
        if entry.error is not None:
            failures.append(SceneFailure(id=entry.id, code=entry.error.code, message=entry.error.message))
        elif entry.result is not None:
            km2 += getattr(entry.result.summary, "observed_km2", None) or 0.0
    products, seconds = made
    summary = BatchSummary(
        done=count.done, skipped=count.skipped, failed=count.failed, seconds=round(seconds, 3), km2=round(km2, 6)
    )
    return BatchResult(summary=summary, failures=tuple(failures), products=products)
