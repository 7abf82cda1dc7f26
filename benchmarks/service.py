"""What the service adds to a scoring: time for one chip, memory for a large upload, and how long it stops answering.

Everything is measured in turns in one run, because the machine may be busy with something else. A chip of 512 px is
scored in this process and through the service, one after the other; the overhead is the difference of the medians. On a
busy machine most of that is waiting for a core: the processor time of the same scorings says what is really done.
Then a scene is uploaded that is too large to be answered at once, while /readyz is asked again and again; its job is
cancelled as soon as it was accepted. Memory is that of every process of the service but the workers, pages that
several share counted once. Run: ``python benchmarks/service.py [--rounds 20] [--upload-mb 500]``.
"""

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

import httpx
import numpy as np
import rasterio
from rasterio.transform import from_origin
from service_process import Running, service

from tocsin import Scorer
from tocsin.cli.output import table
from tocsin.scoring import ScoringOptions
from tocsin.simulate.demo import write_flood_scene

CHIP_PX: Final = 512
MOST_OVERHEAD_MS: Final = 25.0
MOST_MEMORY_MIB: Final = 250.0
MOST_STALL_MS: Final = 200.0
COLUMNS: Final = 8192
PIECE: Final = 1 << 20


def one_file(folder: Path) -> Path:
    """Simulate a chip, and return it as one file with both bands."""
    made = write_flood_scene(folder / "simulated", (CHIP_PX, CHIP_PX))
    files = sorted(Path(made.post).glob("*.tif")) if Path(made.post).is_dir() else [Path(made.post)]
    if len(files) == 1:
        return files[0]
    path = folder / "chip.tif"
    with rasterio.open(files[0]) as first:
        profile = first.profile | {"count": len(files)}
    with rasterio.open(path, "w", **profile) as raster:
        for band, name in enumerate(sorted(files, reverse=True), start=1):
            with rasterio.open(name) as source:
                raster.write(source.read(1), band)
        raster.descriptions = tuple("VV" if "vv" in name.stem.lower() else "VH" for name in sorted(files, reverse=True))
    return path


def seconds_of(work: Callable[[], object]) -> float:
    """Return what a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@dataclass
class Comparison:
    """Seconds of scorings in this process and through the service, and their processor time."""

    own: list[float] = field(default_factory=list)
    through: list[float] = field(default_factory=list)
    own_cpu_s: float = 0.0
    service_cpu_s: float = 0.0
    worker_cpu_s: float = 0.0


def compare_chip(running: Running, chip: Path, folder: Path, rounds: int) -> Comparison:
    """Score a chip in turns in this process and through the service."""
    found = Comparison()
    options = ScoringOptions(quiet=True, overwrite=True)
    with Scorer() as scorer, httpx.Client(base_url=running.url, timeout=300, trust_env=False) as client:

        def ask() -> None:
            with chip.open("rb") as file:
                answer = client.post("/v1/flood", files={"post": ("chip.tif", file, "image/tiff")})
            if answer.status_code != 200:
                raise SystemExit(f"{answer.status_code}: {answer.text[:1000]}")

        for turn in range(rounds + 2):
            before, cpu = time.process_time(), running.cpu_s()
            here = seconds_of(lambda: scorer.score("flood", post=chip, out=folder / "own", options=options))
            between = time.process_time()
            there = seconds_of(ask)
            after = running.cpu_s()
            # The first two open models and sessions.
            if turn >= 2:
                found.own.append(here)
                found.through.append(there)
                found.own_cpu_s += between - before
                found.service_cpu_s += after[0] - cpu[0]
                found.worker_cpu_s += after[1] - cpu[1]
    return found


def write_large(path: Path, megabytes: int) -> None:
    """Write a scene of so many megabytes, not compressed, both bands pixel by pixel."""
    rows = max(megabytes * 1_000_000 // (COLUMNS * 2 * 4), 1)
    rng = np.random.default_rng(0)
    piece = rng.normal(-12, 2, (2, 64, COLUMNS)).astype(np.float32)
    profile = {"driver": "GTiff", "height": rows, "width": COLUMNS, "count": 2, "dtype": "float32"}
    profile |= {"crs": "EPSG:32633", "transform": from_origin(5e5, 5e6, 10, 10)}
    with rasterio.open(path, "w", **profile) as raster:
        for row in range(0, rows, 64):
            height = min(64, rows - row)
            raster.write(piece[:, :height], window=((row, row + height), (0, COLUMNS)))
        raster.descriptions = ("VV", "VH")


class Watch:
    """Asks /readyz again and again, and looks at the memory, in threads of its own."""

    def __init__(self, running: Running) -> None:
        self.answers_ms: list[float] = []
        self.memory_mib: list[float] = []
        self._running = running
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._ask, self._weigh)]

    def _ask(self) -> None:
        connection = HTTPConnection(urlsplit(self._running.url).netloc, timeout=60)
        while not self._stop.wait(0.02):
            started = time.perf_counter()
            connection.request("GET", "/readyz")
            connection.getresponse().read()
            self.answers_ms.append((time.perf_counter() - started) * 1e3)
        connection.close()

    def _weigh(self) -> None:
        while not self._stop.wait(0.1):
            self.memory_mib.append(self._running.memory_mib())

    def __enter__(self) -> Self:
        """Start."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


def upload(running: Running, scene: Path) -> float:
    """Send a scene, cancel its job, and return the seconds of the upload."""
    with httpx.Client(base_url=running.url, timeout=600, trust_env=False) as client, scene.open("rb") as file:
        started = time.perf_counter()
        answer = client.post("/v1/flood", files={"post": (scene.name, file, "image/tiff")})
        took = time.perf_counter() - started
        if answer.status_code != 202:
            raise SystemExit(f"{answer.status_code}: {answer.text[:1000]}")
        client.delete(f"/v1/jobs/{answer.json()['id']}")
    return took


def main() -> int:
    """Measure, print, and return 1 when a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--upload-mb", type=int, default=500)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tocsin-benchmark-") as name, service() as running:
        folder = Path(name)
        chip = compare_chip(running, one_file(folder), folder, arguments.rounds)
        scene = folder / "large.tif"
        write_large(scene, arguments.upload_mb)
        with Watch(running) as before:
            time.sleep(5)
        with Watch(running) as watch:
            took = upload(running, scene)
    overhead = (statistics.median(chip.through) - statistics.median(chip.own)) * 1e3
    added = max(watch.memory_mib) - statistics.median(before.memory_mib)
    stall = max(watch.answers_ms)
    rows = [
        ("p50 of a chip in process, ms", f"{statistics.median(chip.own) * 1e3:.1f}", ""),
        ("p50 of a chip through the service, ms", f"{statistics.median(chip.through) * 1e3:.1f}", ""),
        ("overhead, ms", f"{overhead:.1f}", f"{MOST_OVERHEAD_MS:g}"),
        ("processor time of a chip in process, ms", f"{chip.own_cpu_s / arguments.rounds * 1e3:.0f}", ""),
        ("processor time of its worker, ms", f"{chip.worker_cpu_s / arguments.rounds * 1e3:.0f}", ""),
        ("processor time of the rest of the service, ms", f"{chip.service_cpu_s / arguments.rounds * 1e3:.0f}", ""),
        (f"upload of {scene_mb(arguments.upload_mb)}, s", f"{took:.1f}", ""),
        ("memory that it adds, MiB", f"{added:.0f}", f"{MOST_MEMORY_MIB:g}"),
        ("longest answer of /readyz meanwhile, ms", f"{stall:.0f}", f"{MOST_STALL_MS:g}"),
        ("median answer of /readyz meanwhile, ms", f"{statistics.median(watch.answers_ms):.1f}", ""),
        ("longest answer of /readyz before, ms", f"{max(before.answers_ms):.0f}", ""),
    ]
    print(table(("measured", "value", "limit"), rows))
    broken = overhead > MOST_OVERHEAD_MS or added > MOST_MEMORY_MIB or stall > MOST_STALL_MS
    print("a limit is broken" if broken else "all limits are kept")
    return int(broken)


def scene_mb(megabytes: int) -> str:
    """Return a size in words."""
    return f"{megabytes} MB"


if __name__ == "__main__":
    raise SystemExit(main())
