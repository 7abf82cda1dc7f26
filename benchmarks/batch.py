"""What a batch costs over a loop, how it scales, and what it holds in memory.

Each figure is a ratio of two things measured in turns, or a peak that the kernel reports. Run
``python benchmarks/batch.py PART``:

- ``overhead``: seconds a scene in one worker over those of a plain loop of one warm `Scorer`, chips of 512 px;
- ``workers``: two workers over one, each with one thread;
- ``cluster``: eight workers over one, on a runtime that waits half a second a scene;
- ``scheduler``: memory of a scheduler after a tenth and after all of 20,000 scenes;
- ``huge``: peak memory of a worker that scores 25,000 x 17,000 px within a limit of 1.5 GB.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from scene import write_scene

from serving.batch.cluster import Cluster, open_cluster
from serving.batch.entry import SceneError
from serving.batch.journal import open_journal
from serving.batch.run import Dispatch, Means
from serving.batch.scenes import Scene
from serving.batch.settings import BatchSettings
from serving.batch.storage import LocalTarget
from serving.batch.worker import Order, Outcome, failed, probe, score_scene
from tocsin.scoring import Scorer, ScoringOptions

CHIP = 512
WAIT_S = 0.5
HUGE = (17_000, 25_000)
LIMIT_BYTES = 1_500_000_000
MANY = 20_000
CLUSTER = """
import time
import dask
from distributed import LocalCluster
from serving.batch.cluster import LOCAL
if __name__ == "__main__":
    dask.config.set(LOCAL)
    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster:
        print(cluster.scheduler_address, flush=True)
        time.sleep(86400)
"""


def waiting(order: Order) -> Outcome:
    """Stand in for a scene whose runtime waits half a second."""
    time.sleep(WAIT_S)
    return instant(order)


def instant(order: Order) -> Outcome:
    """Answer at once, with an entry of the usual kind of failure."""
    return failed(order, None, SceneError(code="truncated", message="simulated"), 0.0)


def resident(pid: int | str, field: str) -> int:
    """Return a memory field of a process, bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return 1024 * int(re.search(rf"{field}:\s+(\d+)", status)[1])


def own_peak() -> int:
    """Return the peak of the process that runs this."""
    return resident("self", "VmHWM")


@contextmanager
def batch_on(
    cluster: Cluster, options: ScoringOptions, task: Callable[[Order], Outcome] = score_scene
) -> Generator[Dispatch]:
    """Yield what hands scenes to a cluster, with a journal and a target of its own."""
    with tempfile.TemporaryDirectory() as folder:
        target = LocalTarget(Path(folder))
        target.prepare()
        models = {"flood": probe(["flood"], options)["flood"] if task is score_scene else "0" * 64}
        with open_journal(target) as journal:
            means = Means(cluster, journal, target, lambda *_: None)
            yield Dispatch(BatchSettings(manifest="m", out=folder), options, models, means, task)


def scenes(count: int, name: str, post: Path | None = None) -> list[Scene]:
    """Return scenes of one file under names of their own."""
    return [Scene(f"{name}{number}", "flood", {"post": str(post)}, {}) for number in range(count)]


def seconds(dispatch: Dispatch, some: list[Scene]) -> float:
    """Return how long a batch takes."""
    began = time.perf_counter()
    assert dispatch.run(some).finished == len(some)
    return time.perf_counter() - began


def overhead(rounds: int, each: int) -> dict[str, float]:
    """Measure a batch of one worker against a plain loop, in turns."""
    options = ScoringOptions(threads=1, quiet=True)
    loops, batches = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        Scorer() as scorer,
        open_cluster(BatchSettings(manifest="m", out=folder, workers=1)) as cluster,
        batch_on(cluster, options) as dispatch,
    ):
        post = write_scene(Path(folder) / "chip.tif", CHIP, CHIP)
        scorer.score("flood", post=post, out=Path(folder) / "warm", options=options)
        seconds(dispatch, scenes(1, "warm", post))
        for turn in range(rounds):
            began = time.perf_counter()
            for number in range(each):
                scorer.score("flood", post=post, out=Path(folder) / f"{turn}-{number}", options=options)
            loops.append((time.perf_counter() - began) / each)
            batches.append(seconds(dispatch, scenes(each, f"t{turn}-", post)) / each)
    ratios = [batch / loop for batch, loop in zip(batches, loops, strict=True)]
    return {
        "loop_s": round(statistics.median(loops), 4),
        "batch_s": round(statistics.median(batches), 4),
        "overhead": round(statistics.median(ratios) - 1, 4),
        "target": 0.05,
    }


def workers(rounds: int, each: int) -> dict[str, float]:
    """Measure two workers against one, in turns."""
    options, ratios = ScoringOptions(threads=1, quiet=True), []
    with tempfile.TemporaryDirectory() as folder:
        post = write_scene(Path(folder) / "chip.tif", CHIP, CHIP)
        for _ in range(rounds):
            took = {}
            for count in (1, 2):
                settings = BatchSettings(manifest="m", out=folder, workers=count)
                with open_cluster(settings) as cluster, batch_on(cluster, options) as dispatch:
                    seconds(dispatch, scenes(2 * count, "warm", post))
                    took[count] = seconds(dispatch, scenes(each, "s", post))
            ratios.append(took[1] / took[2])
    return {"two_workers_over_one": round(statistics.median(ratios), 3), "target": 1.6}


def cluster(each: int) -> dict[str, float]:
    """Measure eight workers against one where a scene waits half a second."""
    took = {}
    for count in (1, 8):
        settings = BatchSettings(manifest="m", out="out", workers=count)
        with open_cluster(settings) as made, batch_on(made, ScoringOptions(), waiting) as dispatch:
            seconds(dispatch, scenes(2 * count, "warm"))
            took[count] = seconds(dispatch, scenes(each * count, "s")) / (each * count)
    return {
        "one_s": round(took[1], 4),
        "eight_s": round(took[8], 4),
        "scales": round(took[1] / took[8], 3),
        "target": 7.0,
    }


def scheduler(many: int) -> dict[str, float]:
    """Measure a scheduler, in a process of its own, and this driver, before and after many scenes."""
    with subprocess.Popen([sys.executable, "-c", CLUSTER], stdout=subprocess.PIPE, text=True) as process:
        try:
            address = process.stdout.readline().strip()
            settings = BatchSettings(manifest="m", out="out", scheduler=address)
            with open_cluster(settings) as made, batch_on(made, ScoringOptions(), instant) as dispatch:
                few, all_scenes = many // 10, scenes(many, "s")
                dispatch.run(all_scenes[:few])
                early = resident(process.pid, "VmRSS"), resident("self", "VmRSS")
                took = seconds(dispatch, all_scenes[few:])
                late = resident(process.pid, "VmRSS"), resident("self", "VmRSS")
        finally:
            process.terminate()
    return {
        "scenes": many,
        "scheduler_mb": [round(each / 1e6, 1) for each in (early[0], late[0])],
        "driver_mb": [round(each / 1e6, 1) for each in (early[1], late[1])],
        "scheduler_growth": round(late[0] / early[0] - 1, 4),
        "scenes_per_s": round((many - few) / took, 1),
    }


def huge() -> dict[str, float]:
    """Measure the peak of a worker that scores a very large scene."""
    with tempfile.TemporaryDirectory() as folder:
        post = write_scene(Path(folder) / "huge.tif", *HUGE)
        settings = BatchSettings(manifest="m", out=folder, workers=1, memory=LIMIT_BYTES)
        with open_cluster(settings) as made, batch_on(made, ScoringOptions(quiet=True)) as dispatch:
            count = dispatch.run(scenes(1, "huge", post))
            (peak,) = made.client.run(own_peak).values()
    return {"done": count.done, "peak_mb": round(peak / 1e6), "target_mb": LIMIT_BYTES // 10**6}


def main() -> None:
    """Measure one part and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["overhead", "workers", "cluster", "scheduler", "huge"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scenes", type=int, default=MANY, help="of the scheduler's part")
    parser.add_argument("--each", type=int, default=8, help="scenes a round")
    asked = parser.parse_args()
    measured = {
        "overhead": lambda: overhead(asked.rounds, asked.each),
        "workers": lambda: workers(asked.rounds, 2 * asked.each),
        "cluster": lambda: cluster(asked.each),
        "scheduler": lambda: scheduler(asked.scenes),
        "huge": huge,
    }[asked.part]()
    sys.stdout.write(json.dumps({"part": asked.part, **measured}) + "\n")


if __name__ == "__main__":
    main()
