"""One scene on a Dask worker: is it done already? Else read, score with a warm `Scorer`, publish, say what happened.

Whatever fails comes back as an answer and never as an exception: this is the border of a process.
"""

import json
import logging
import signal
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from distributed import Worker, WorkerPlugin, get_worker

from serving.batch.entry import Entry, SceneError
from serving.batch.fingerprint import Hashes, scene_key
from serving.batch.places import away, filesystem, is_remote
from serving.batch.retry import INTERNAL, LASTING, LOST
from serving.batch.scenes import PATH_COLUMNS, Scene
from serving.batch.storage import RECEIPT, BatchTarget, open_target
from tocsin.errors import ModelInvalidError, TocsinError, UsageError
from tocsin.repository import load_model
from tocsin.result import Hazard, Result
from tocsin.runtimes import open_runtime
from tocsin.scoring import Scorer
from tocsin.scoring_job import ScoringOptions

PLUGIN: Final = "tocsin-warm-scorer"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Order:
    """A scene to score, and what is known of it.

    Attributes
    ----------
    scene
        What to score.
    options
        Of the batch; the scene's own come first.
    model
        SHA-256 of the graph that the batch began with.
    out
        Path or URL of the target.
    attempt
        From 1.
    key, code, products
        What the journal says of an earlier scoring: its key, why it failed, its files; None and empty without.
    """

    scene: Scene
    options: ScoringOptions
    model: str
    out: str
    attempt: int = 1
    key: str | None = None
    code: str | None = None
    products: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Of the products, relative to the target."""
        return f"{self.scene.hazard}/{self.scene.id}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a scene.

    Attributes
    ----------
    state
        ``kept``: as the journal says it; else as in the entry.
    line
        The entry as JSON; empty when kept.
    code, message
        Of the failure, empty without.
    """

    state: Literal["done", "failed", "kept"]
    line: str = ""
    code: str = ""
    message: str = ""


class WarmScorer(WorkerPlugin):
    """Keeps a `Scorer` for each thread of a worker, so that a model is loaded once.

    Parameters
    ----------
    deaf
        Leave Ctrl-C to the process that started the workers: a terminal sends it to all of them.
    """

    name = PLUGIN

    def __init__(self, *, deaf: bool = False) -> None:
        self._deaf = deaf

    def setup(self, worker: Worker) -> None:
        """Begin; models are loaded by the first scene that needs them."""
        del worker
        if self._deaf and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.hashes = Hashes()
        self._own = threading.local()
        self._all: list[Scorer] = []
        self._busy: set[str] = set()

    def teardown(self, worker: Worker) -> None:
        """Close every scorer, unless one is in use: who stops a worker in the middle of a scene ends its process."""
        del worker
        while self._all and not self._busy:
            self._all.pop().close()

    def carry_out(self, order: Order) -> Outcome:
        """Do one order with the scorer of this thread."""
        self._busy.add(order.folder)
        try:
            return carry_out(order, self._scorer(), self.hashes)
        finally:
            self._busy.discard(order.folder)

    def _scorer(self) -> Scorer:
        found: Scorer | None = getattr(self._own, "scorer", None)
        if found is None:
            found = self._own.scorer = Scorer()
            self._all.append(found)
        return found


def probe(hazards: Iterable[Hazard], options: ScoringOptions) -> dict[Hazard, str]:
    """Return the SHA-256 of the graph of each hazard, after opening each in the runtime that was asked for.

    Raises
    ------
    TocsinError
        A model or the runtime is not there: better said now than by every scene.
    """
    found: dict[Hazard, str] = {}
    for hazard in hazards:
        model = load_model(hazard, options.model_repository, options.precision)
        open_runtime(model, options).close()
        found[hazard] = model.sha256
    return found


def score_scene(order: Order) -> Outcome:
    """Do one order on the worker that this runs on."""
    plugin = get_worker().plugins[PLUGIN]
    assert isinstance(plugin, WarmScorer)
    return plugin.carry_out(order)


def carry_out(order: Order, scorer: Scorer, hashes: Hashes) -> Outcome:
    """Do one order; whatever happens is an outcome.

    Parameters
    ----------
    order
        What to do.
    scorer
        That stays warm.
    hashes
        Of files that are known.
    """
    started, key = time.monotonic(), None
    try:
        options = ScoringOptions(**(order.options.model_dump() | dict(order.scene.options)))
        target = open_target(order.out)
        key = scene_key(order.scene, options, order.model, hashes)
        if order.key == key and (order.code in LASTING if order.code else target.has(order.products)):
            return Outcome("kept")
        try:
            line = _left_behind(order, key, target) or _scored(order, key, (scorer, options, target), started)
        except TocsinError as error:
            if error.code in LASTING:
                # The new input cannot be scored: nobody shall take the products of the old one for its own.
                target.withdraw(order.folder)
            raise
        return Outcome("done", line)
    except Exception as error:  # noqa: BLE001 - the border of a worker: a scene never stops a batch
        return _failed(order, key, error, time.monotonic() - started)


def _left_behind(order: Order, key: str, target: BatchTarget) -> str | None:
    """Return the entry of a scoring that was finished when its batch was killed before the journal knew."""
    receipt = target.receipt(order.folder)
    if receipt is None:
        return None
    entry = Entry.model_validate_json(receipt)
    whole = entry.key == key and entry.result is not None and target.has(entry.result.products.values())
    return entry.model_dump_json() if whole else None


def _scored(order: Order, key: str, means: tuple[Scorer, ScoringOptions, BatchTarget], started: float) -> str:
    scorer, options, target = means
    with target.aside() as folder:
        inputs, hrefs = _fetched(order.scene.inputs, folder)
        made = folder / "products"
        result = scorer.score(order.scene.hazard, out=made, options=options, **inputs)
        if result.provenance.sha256 != order.model:
            raise ModelInvalidError(
                f"a model {order.scene.hazard} with sha256 {result.provenance.sha256}",
                f"{order.model}, with which the batch began",
                "run the batch again, and leave the models alone meanwhile",
            )
        entry = Entry(
            id=order.scene.id,
            hazard=order.scene.hazard,
            key=key,
            state="done",
            result=_placed(result, order.folder, hrefs),
            seconds=round(time.monotonic() - started, 3),
            attempts=order.attempt,
            priority=order.scene.priority,
        )
        if hrefs:
            _name_origins(made, hrefs)
        line = entry.model_dump_json()
        (made / RECEIPT).write_text(line, encoding="utf-8")
        target.publish(made, order.folder)
    return line


def _fetched(inputs: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Download what lies in buckets; returns inputs that are local, and the URL of each local file."""
    hrefs: dict[str, str] = {}

    def one(href: str) -> str:
        if not is_remote(href):
            return href
        here = folder / f"in{len(hrefs)}" / href.rsplit("/", 1)[-1]
        here.parent.mkdir()
        hrefs[str(here)] = href
        _download(href, here)
        return str(here)

    def every(value: Any) -> Any:  # noqa: ANN401 - a field of the hazard's inputs
        return ";".join(map(one, value.split(";"))) if isinstance(value, str) else tuple(map(every, value))

    return {name: every(value) if name in PATH_COLUMNS else value for name, value in inputs.items()}, hrefs


def _download(url: str, here: Path) -> None:
    from obstore.exceptions import BaseError

    system, name = filesystem(url)
    try:
        system.get_file(name, str(here))
    except FileNotFoundError as error:
        raise UsageError(f"{url}, which does not exist", "an object that can be read", "check the URL") from error
    except (OSError, BaseError) as error:
        raise away(url, error) from error


def _placed(result: Result, folder: str, hrefs: Mapping[str, str]) -> Result:
    """Return a result with products relative to the target, and inputs by the names that the manifest gave."""
    products = {name: f"{folder}/{Path(path).name}" for name, path in result.products.items()}
    inputs = tuple(
        each.model_copy(update={"href": hrefs.get(each.href, each.href)}) for each in result.provenance.inputs
    )
    provenance = result.provenance.model_copy(update={"inputs": inputs})
    return result.model_copy(update={"products": products, "provenance": provenance})


def _name_origins(made: Path, hrefs: Mapping[str, str]) -> None:
    """Let the STAC item name objects in buckets, not the files that they were for a while."""
    for path in made.glob("*_item.json"):
        path.write_text(json.dumps(_renamed(json.loads(path.read_bytes()), hrefs), indent=1) + "\n", encoding="utf-8")


def _renamed(value: Any, names: Mapping[str, str]) -> Any:  # noqa: ANN401 - any part of a JSON document
    if isinstance(value, dict):
        return {key: _renamed(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, names) for each in value]
    return names.get(value, value) if isinstance(value, str) else value


def _failed(order: Order, key: str | None, error: Exception, seconds: float) -> Outcome:
    if isinstance(error, TocsinError):
        code, message = error.code, str(error)
    elif isinstance(error, MemoryError):
        code, message = LOST, f"given a worker without memory for {order.scene.id}"
    else:
        logger.error("scene %s", order.scene.id, exc_info=error)
        code, message = INTERNAL, f"{type(error).__name__}: {error}"
    return failed(order, key, SceneError(code=code, message=message), seconds)


def failed(order: Order, key: str | None, error: SceneError, seconds: float) -> Outcome:
    """Return the outcome of a scene without products."""
    entry = Entry(
        id=order.scene.id,
        hazard=order.scene.hazard,
        key=key,
        state="failed",
        result=None,
        error=error,
        seconds=round(seconds, 3),
        attempts=order.attempt,
        priority=order.scene.priority,
    )
    return Outcome("failed", entry.model_dump_json(), error.code, error.message)
