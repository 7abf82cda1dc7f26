"""What a Triton server on the same cores costs: a whole scene against a run in process, and one chip without a graph.

A server is started on the shipped models and on an identity of the flood model's shape. Everything is measured in
turns in one run, because the machine may be busy with something else. The throughput of a scene is the share that the
server reaches of what the same cores reach in process; the overhead of a chip is the median time of the identity
through the server less the same in process. Run: ``python benchmarks/triton.py [--rows 2048] [--cols 2048]``.
"""

import argparse
import hashlib
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from socket import socket

import numpy as np
from onnx import TensorProto, helper
from scene import time_scene, write_scene

from export.triton_config import config_pbtxt
from serving.triton import TritonOptions, serve
from tocsin.cli.output import table
from tocsin.repository import find_repository, load_model, read_manifest
from tocsin.runtimes import RuntimeOptions, available_cores, open_runtime
from tocsin.scoring import ScoringOptions

LEAST_THROUGHPUT = 0.85
MOST_OVERHEAD_MS = {"grpc": 15.0, "grpc, shared memory": 4.0}
IDENTITY = "identity"


def write_identity(repository: Path) -> None:
    """Write a model with the tensors of the flood model that gives VV as water."""
    axes = ["batch", 2, "height", "width"]
    node = helper.make_node("Gather", ["s1", "first"], ["water"], axis=1)
    graph = helper.make_graph(
        [node],
        IDENTITY,
        [helper.make_tensor_value_info("s1", TensorProto.FLOAT, axes)],
        [helper.make_tensor_value_info("water", TensorProto.FLOAT, ["batch", 1, *axes[2:]])],
        [helper.make_tensor("first", TensorProto.INT64, [1], [0])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    content = made.SerializeToString()
    flood, digest = read_manifest("flood"), hashlib.sha256(content).hexdigest()
    artifact = flood.artifacts[0].model_copy(update={"sha256": digest, "bytes": len(content)})
    manifest = flood.model_copy(update={"name": IDENTITY, "artifacts": (artifact,), "files": ()})
    folder = repository / IDENTITY
    (folder / artifact.path).parent.mkdir(parents=True)
    (folder / artifact.path).write_bytes(content)
    (folder / "config.pbtxt").write_text(config_pbtxt(manifest, digest), encoding="utf-8")
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")


@contextmanager
def server(repository: Path, threads: int) -> Generator[TritonOptions]:
    """Run a server in a thread of this process, and yield where it listens."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket()) for _ in range(3)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        http, grpc, metrics = (probe.getsockname()[1] for probe in probes)
    options = TritonOptions(
        http_port=http,
        grpc_port=grpc,
        metrics_port=metrics,
        model_repository=repository,
        threads=threads,
        interval_s=60,  # the launcher's own chips would be measured too
    )
    stop, ready = threading.Event(), threading.Event()
    thread = threading.Thread(target=serve, args=(options, lambda event: event.event == "ready" and ready.set(), stop))
    thread.start()
    try:
        while not ready.wait(1):
            if not thread.is_alive():
                raise SystemExit("the server did not start")
        yield options
    finally:
        stop.set()
        thread.join()


def transports(options: TritonOptions) -> dict[str, dict[str, object]]:
    """Return what each way to the server is called, and its options."""
    grpc, http = f"grpc://127.0.0.1:{options.grpc_port}", f"http://127.0.0.1:{options.http_port}"
    return {
        "grpc": {"runtime": grpc, "shared_memory": False},
        "grpc, shared memory": {"runtime": grpc},
        "http": {"runtime": http, "shared_memory": False},
        "http, shared memory": {"runtime": http},
    }


def in_turns(measured: dict[str, Callable[[], float]], turns: int) -> dict[str, list[float]]:
    """Return the figures of every measurement, taken in turns."""
    figures: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(turns):
        for name, measure in measured.items():
            figures[name].append(measure())
    return figures


def overhead(repository: Path, options: TritonOptions, turns: int) -> list[tuple[str, ...]]:
    """Return a row per transport: median and 95th percentile of a chip of the identity, less that in process, ms."""
    model = load_model(IDENTITY, repository)
    size = model.manifest.chip_px
    chip = np.random.default_rng(0).normal(-15, 5, (1, 2, size, size)).astype(np.float32)
    with ExitStack() as stack:
        chosen = {"in process": {}, **transports(options)}
        runtimes = {
            name: stack.enter_context(open_runtime(model, RuntimeOptions.model_validate(named)))
            for name, named in chosen.items()
        }

        def timed(name: str) -> Callable[[], float]:
            def run() -> float:
                started = time.perf_counter()
                runtimes[name].run({"s1": chip})
                return 1e3 * (time.perf_counter() - started)

            run()
            return run

        figures = in_turns({name: timed(name) for name in runtimes}, turns)
    base = float(np.median(figures.pop("in process")))
    rows = []
    for name, values in figures.items():
        median, slow = float(np.median(values)) - base, float(np.percentile(values, 95)) - base
        limit = MOST_OVERHEAD_MS.get(name)
        verdict = "" if limit is None else f"<= {limit:g}: {'reached' if median <= limit else 'MISSED'}"
        rows.append((name, f"{median:.2f}", f"{slow:.2f}", verdict))
    return rows


def throughput(folder: Path, options: TritonOptions, asked: argparse.Namespace) -> list[tuple[str, ...]]:
    """Return a row per transport: seconds of a scene, and throughput over that in process."""
    scene = write_scene(folder / "scene.tif", asked.rows, asked.cols)
    chosen = {"in process": {}, **transports(options)}

    def timed(named: dict[str, object]) -> Callable[[], float]:
        common = {"overwrite": True, "quiet": True, "threads": asked.threads, "batch": asked.batch}
        return lambda: time_scene(scene, folder / "out", ScoringOptions.model_validate(common | named))

    figures = in_turns({name: timed(named) for name, named in chosen.items()}, asked.turns)
    rows = []
    for name, seconds in figures.items():
        ratio = float(np.median(np.array(figures["in process"]) / np.array(seconds)))
        verdict = f">= {LEAST_THROUGHPUT}: {'reached' if ratio >= LEAST_THROUGHPUT else 'MISSED'}"
        rows.append((name, f"{np.median(seconds):.2f}", f"{ratio:.2f}", "" if name == "in process" else verdict))
    return rows


def main() -> None:
    """Measure in turns and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--cols", type=int, default=2048)
    parser.add_argument("--turns", type=int, default=3, help="how often each way is measured with a whole scene")
    parser.add_argument("--chips", type=int, default=100, help="how often each way is measured with a chip")
    parser.add_argument("--batch", type=int, default=1, help="chips a run; those of a batch travel at the same time")
    parser.add_argument("--threads", type=int, default=available_cores(), help="CPU threads of the graph, both ways")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repository = folder / "models"
        shutil.copytree(find_repository() / "flood", repository / "flood")
        write_identity(repository)
        with server(repository, asked.threads) as options:
            rows = overhead(repository, options, asked.chips)
            print(table(("one chip", "overhead, ms", "95 %", "target"), rows), end="\n\n", flush=True)
            rows = throughput(folder, options, asked)
            print(table(("scene", "seconds", "throughput", "target"), rows))
    print(f"{asked.rows} x {asked.cols} px, batch {asked.batch}, {asked.threads} threads, {available_cores()} cores")


if __name__ == "__main__":
    main()
