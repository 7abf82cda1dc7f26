"""Orders, outcomes and workers of a batch whose behaviour is known; the tests of a batch import this by name."""

import os
import signal
import time
from concurrent.futures import Future

from serving.batch.cluster import Cluster
from serving.batch.entry import Entry, SceneError
from serving.batch.run import Dispatch, Means
from serving.batch.scenes import Scene
from serving.batch.settings import BatchSettings, RetrySettings
from serving.batch.worker import Order, Outcome, failed
from tocsin.result import Result
from tocsin.scoring_job import ScoringOptions

KEY = "0" * 64


def scenes_named(*names, **more):
    """Return flood scenes with these ids."""
    return [Scene(name, "flood", {"post": f"/nowhere/{name}.tif"}, {}, **more) for name in names]


def result_of(scene_id, km2=1.5):
    """Return the result of a flood scene that was observed whole."""
    return Result.model_validate(
        {
            "hazard": "flood",
            "status": "ok",
            "scene": {
                "id": scene_id,
                "crs": "EPSG:32630",
                "shape": (4, 5),
                "bounds": (500000, 4399960, 500050, 4400000),
                "valid_fraction": 1,
                "acquired": None,
            },
            "products": {"class": f"flood/{scene_id}/{scene_id}_class.tif"},
            "summary": {
                "observed_km2": km2,
                "water_km2": 0.5,
                "flood_km2": None,
                "permanent_km2": None,
                "polygons": 1,
            },
            "provenance": {
                "model": "flood",
                "version": "1",
                "sha256": KEY,
                "precision": "fp32",
                "runtime": "fake",
                "device": "cpu",
                "threshold": 0.5,
                "tocsin": "0.1.0",
                "inputs": [],
                "resampled": None,
                "started": "2026-01-01T00:00:00Z",
                "seconds": 1,
            },
        }
    )


def entry_of(scene_id, *, code=None, key=KEY, attempts=1, seconds=1.0):
    """Return the entry of a scene: done, or failed with a code."""
    return Entry(
        id=scene_id,
        hazard="flood",
        key=key,
        state="done" if code is None else "failed",
        result=result_of(scene_id) if code is None else None,
        error=None if code is None else SceneError(code=code, message=f"given {code}"),
        seconds=seconds,
        attempts=attempts,
    )


def done(order: Order) -> Outcome:
    """Score at once."""
    return Outcome("done", entry_of(order.scene.id, attempts=order.attempt).model_dump_json())


def fail(order: Order, code: str) -> Outcome:
    """Fail with a code."""
    return failed(order, KEY, SceneError(code=code, message=f"given {code}"), 0.1)


def deadly(order: Order) -> Outcome:
    """Score at once; the worker of a scene named poison dies, that of one named lethal the first time only."""
    time.sleep(0.05)
    if order.scene.id == "poison" or (order.scene.id == "lethal" and order.attempt == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return done(order)


class Inline:
    """Stands in for Dask's client: runs a task at once, in order, and remembers what it was given."""

    def __init__(self):
        self.orders = []

    def nthreads(self):
        """Return one worker of one thread."""
        return {"inline": 1}

    def submit(self, task, order, **_):
        """Run a task."""
        self.orders.append(order)
        future = _Future()
        try:
            future.set_result(task(order))
        except Exception as error:  # noqa: BLE001 - as Dask does
            future.set_exception(error)
        return future


class _Future(Future):
    """Answers as Dask's future does."""

    @property
    def status(self):
        """Return how it ended."""
        return "error" if self.exception() else "finished"

    def release(self):
        """Hold nothing."""


class Told(list):
    """Remembers every scene that it is told of."""

    def __call__(self, scene_id, outcome, count):
        """Remember."""
        self.append((scene_id, outcome.state, count.finished))


def dispatch(task, journal, target, **retry):
    """Return a dispatch with one place on a stand-in for a client, and that client."""
    client = Inline()
    settings = BatchSettings(manifest="m.csv", out="out", retry=RetrySettings(**({"delay_s": 0} | retry)))
    means = Means(Cluster(client, ""), journal, target, Told())
    return Dispatch(settings, ScoringOptions(), {"flood": KEY}, means, task), client
