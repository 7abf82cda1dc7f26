"""Two hundred clients at once: good, bad and slow requests against a real service, and what became of every job.

Every client goes on for the whole time: it sends a small scene and waits for its answer; sends one and polls its job;
cancels it; repeats a request under its Idempotency-Key; sends what must be refused; sends its body piece by piece;
hangs up in the middle; or reads products in ranges. Afterwards every job that was accepted is asked for. Nothing but
503 and 507 may be a 5xx; every 429 has to say when to come back; every job has to have ended, once, with products or a
reason; the memory of the last third must be that of the second. Run: ``python benchmarks/service_load.py [--clients
200] [--seconds 120] [--queue 50]``.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import rasterio
from rasterio.transform import from_origin
from service_process import Running, service

from tocsin.cli.output import table

ALLOWED_5XX: Final = {503, 507}
DRAIN_S: Final = 600.0
GROWTH_MIB: Final = 60.0
"""How much more the second half may hold: an allocator keeps some of what a peak once took."""
BOUNDARY: Final = "a-boundary-of-the-benchmark"
SIDES: Final = {"good": 64, "large": 2100}


@dataclass
class Seen:
    """What all clients saw."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    accepted: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    faults: Counter[str] = field(default_factory=Counter)
    cut_off: Counter[str] = field(default_factory=Counter)

    def take(self, kind: str, answer: httpx.Response, started: float) -> None:
        """Count an answer, and note what must not be."""
        status = answer.status_code
        self.statuses[kind, status] += 1
        self.seconds[kind].append(time.perf_counter() - started)
        if status >= 500 and status not in ALLOWED_5XX:
            self.faults[f"{kind}: {status} {answer.text[:200]}"] += 1
        if status == 429 and not answer.headers.get("retry-after", "").isdigit():
            self.faults[f"{kind}: 429 without Retry-After"] += 1
        if status >= 400 and "json" not in answer.headers.get("content-type", ""):
            self.faults[f"{kind}: {status} that is no problem+json"] += 1
        if (job := answer.headers.get("x-job-id")) and status in {200, 202}:
            self.accepted.add(job)


@dataclass
class Client:
    """One of many clients.

    Attributes
    ----------
    http : httpx.AsyncClient
        Shared.
    scenes : dict of str to bytes
        GeoTIFFs by kind.
    seen : Seen
        Shared.
    chance : random.Random
        Its own.
    """

    http: httpx.AsyncClient
    scenes: dict[str, bytes]
    seen: Seen
    chance: random.Random

    async def go_on(self, until: float) -> None:
        """Send request after request until a time of the monotonic clock."""
        kinds: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self.good, 6),
            (self.polled, 3),
            (self.repeated, 2),
            (self.cancelled, 2),
            (self.bad, 8),
            (self.slow, 3),
            (self.gone, 2),
            (self.reading, 4),
        ]
        while time.monotonic() < until:
            [work] = self.chance.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])
            try:
                await work()
            except httpx.TransportError as error:
                # Who refuses a body before its end closes the connection; some clients see that, not the answer.
                heard = self.seen.cut_off if work.__name__ in {"slow", "bad"} else self.seen.faults
                heard[f"{work.__name__}: {type(error).__name__}"] += 1
            await asyncio.sleep(self.chance.uniform(0, 0.2))

    async def _send(self, kind: str, method: str, path: str, **named: Any) -> httpx.Response:  # noqa: ANN401 - handed on to httpx
        started = time.perf_counter()
        answer = await self.http.request(method, path, **named)
        self.seen.take(kind, answer, started)
        if answer.status_code in {429, 503}:
            # A polite client comes back when it was told to, though not later than this benchmark can wait.
            await asyncio.sleep(min(float(answer.headers.get("retry-after", 1)), 3.0))
        return answer

    def _files(self, kind: str) -> dict[str, Any]:
        return {"post": ("scene.tif", self.scenes[kind], "image/tiff")}

    async def good(self) -> None:
        """Send a small scene and wait for its answer."""
        await self._send("good", "POST", "/v1/flood", files=self._files("good"))

    async def polled(self) -> None:
        """Send a small scene, do not wait, ask for the job a few times."""
        answer = await self._send("async", "POST", "/v1/flood", files=self._files("good"), headers=ASIDE)
        for _ in range(3):
            if answer.status_code not in {200, 202}:
                return
            await asyncio.sleep(self.chance.uniform(0.2, 1))
            answer = await self._send("poll", "GET", f"/v1/jobs/{answer.json()['id']}")

    async def repeated(self) -> None:
        """Send the same request twice at once under one key: one job."""
        headers = ASIDE | {"Idempotency-Key": f"{self.chance.getrandbits(64):x}"}
        sent = [
            self._send("repeated", "POST", "/v1/flood", files=self._files("good"), headers=headers) for _ in range(2)
        ]
        answers = await asyncio.gather(*sent)
        jobs = {answer.headers["x-job-id"] for answer in answers if answer.status_code in {200, 202}}
        if len(jobs) > 1:
            self.seen.faults["repeated: two jobs under one key"] += 1

    async def cancelled(self) -> None:
        """Send a scene that takes long, and cancel it."""
        answer = await self._send("large", "POST", "/v1/flood", files=self._files("large"), headers=ASIDE)
        if answer.status_code == 202:
            await asyncio.sleep(self.chance.uniform(0, 2))
            job = answer.json()["id"]
            self.seen.cancelled.add(job)
            await self._send("cancel", "DELETE", f"/v1/jobs/{job}")

    async def bad(self) -> None:
        """Send one of many things that must be refused."""
        tif = self.scenes["good"]
        bodies: list[dict[str, Any]] = [
            {"files": {"post": ("a.tif", self.chance.randbytes(5000), "image/tiff")}},
            {"files": {"post": ("a.tif", tif[: len(tif) // 2], "image/tiff")}},
            {"files": {"post": ("a.tif", self.scenes["linear"], "image/tiff")}},
            {"files": {"unknown": ("a.tif", tif, "image/tiff")}},
            {"files": self._files("good"), "data": {"threshold": "2"}},
            {"files": {"post": ("a.vrt", b"<VRTDataset/>", "image/tiff")}},
            {"json": {"post": "http://169.254.169.254/latest"}},
            {"json": {"post": "/etc/passwd"}},
            {"content": b"{", "headers": {"content-type": "application/json"}},
            {"content": b"x" * 100, "headers": {"content-type": "multipart/form-data"}},
        ]
        answer = await self._send("bad", "POST", "/v1/flood", **self.chance.choice(bodies))
        if answer.status_code < 400:
            self.seen.faults[f"bad: accepted with {answer.status_code}"] += 1

    async def slow(self) -> None:
        """Send a scene in small pieces over some seconds."""
        await self._send("slow", "POST", "/v1/flood", content=self._trickle(20), headers=FORM)

    async def gone(self) -> None:
        """Hang up in the middle of an upload."""
        with suppress(TimeoutError, httpx.TransportError):
            async with asyncio.timeout(self.chance.uniform(0.2, 1)):
                await self.http.post("/v1/flood", content=self._trickle(1000), headers=FORM)

    async def _trickle(self, pieces: int) -> AsyncIterator[bytes]:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="post"; filename="a.tif"\r\n\r\n'.encode()
        body = head + self.scenes["good"] + f"\r\n--{BOUNDARY}--\r\n".encode()
        step = max(len(body) // pieces, 1)
        for start in range(0, len(body), step):
            yield body[start : start + step]
            await asyncio.sleep(self.chance.uniform(0.05, 0.3))

    async def reading(self) -> None:
        """List jobs, and read a product in ranges."""
        answer = await self._send("list", "GET", "/v1/jobs", params={"limit": 20})
        if answer.status_code != 200:
            return
        done = [job for job in answer.json()["jobs"] if job["state"] == "done"]
        if done:
            link = self.chance.choice(done)["result"]["products"]["class"]
            await self._send("product", "GET", link, headers={"Range": "bytes=0-99"})
        await self._send("ready", "GET", "/readyz")


ASIDE: Final = {"Prefer": "respond-async"}
FORM: Final = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def write_scene(path: Path, side: int, *, linear: bool = False) -> bytes:
    """Return a GeoTIFF of a square scene in dB, or of linear power."""
    rng = np.random.default_rng(side)
    values = rng.normal(-12, 2, (2, side, side)).astype(np.float32)
    values[1] -= 7
    values = 10 ** (values / 10) if linear else values
    profile = {"driver": "GTiff", "height": side, "width": side, "count": 2, "dtype": "float32", "crs": "EPSG:32633"}
    with rasterio.open(path, "w", **profile, transform=from_origin(5e5, 5e6, 10, 10)) as raster:
        raster.write(values)
        raster.descriptions = ("VV", "VH")
    return path.read_bytes()


async def watch_memory(running: Running, until: float) -> list[tuple[float, float]]:
    """Return the memory of service and workers, MiB, every second."""
    found = []
    while time.monotonic() < until:
        own = await asyncio.to_thread(running.memory_mib)
        found.append((own, await asyncio.to_thread(lambda: running.memory_mib(workers=True))))
        await asyncio.sleep(1)
    return found


async def what_became(http: httpx.AsyncClient, seen: Seen) -> Counter[str]:
    """Return how every accepted job ended, once all have."""
    states: Counter[str] = Counter()
    until = time.monotonic() + DRAIN_S
    for job in sorted(seen.accepted):
        while True:
            answer = await http.get(f"/v1/jobs/{job}")
            view = answer.json() if answer.status_code == 200 else {"state": f"lost ({answer.status_code})"}
            if view["state"] not in {"queued", "running"} or time.monotonic() > until:
                break
            await asyncio.sleep(0.2)
        state = view["state"]
        states[f"failed: {view['error']['code']}" if state == "failed" else state] += 1
        if state == "done" and not view["result"]["products"]:
            seen.faults["a job that is done without a product"] += 1
        if state in {"queued", "running"} or state.startswith("lost"):
            seen.faults[f"a job that stayed {state}"] += 1
        if state == "cancelled" and job not in seen.cancelled:
            seen.faults["a job that nobody cancelled is cancelled"] += 1
    listed = (await http.get("/v1/jobs", params={"limit": 999})).json()["jobs"]
    twice = [job for job, count in Counter(job["id"] for job in listed).items() if count > 1]
    if twice:
        seen.faults[f"{len(twice)} jobs stand twice in the list"] += 1
    return states


async def load(running: Running, clients: int, seconds: float) -> tuple[Seen, Counter[str], list[tuple[float, float]]]:
    """Run the clients, and return what they saw, what became of the jobs, and the memory."""
    seen = Seen()
    with tempfile.TemporaryDirectory(prefix="tocsin-benchmark-") as name:
        scenes = {kind: write_scene(Path(name) / f"{kind}.tif", side) for kind, side in SIDES.items()}
        scenes["linear"] = write_scene(Path(name) / "linear.tif", SIDES["good"], linear=True)
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=running.url, timeout=120, limits=limits, trust_env=False) as http:
        # What the first scoring opens is kept; growth is what comes after it.
        (await http.post("/v1/flood", files={"post": ("scene.tif", scenes["good"], "image/tiff")})).raise_for_status()
        until = time.monotonic() + seconds
        several = [Client(http, scenes, seen, random.Random(number)) for number in range(clients)]  # noqa: S311 - no secret
        memory, *_ = await asyncio.gather(watch_memory(running, until), *(each.go_on(until) for each in several))
        return seen, await what_became(http, seen), memory


def main() -> int:
    """Load, print, and return 1 when something is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--queue", type=int, default=50)
    arguments = parser.parse_args()
    with service(TOCSIN_QUEUE_LENGTH=str(arguments.queue), TOCSIN_SYNC_WAIT_S="20") as running:
        seen, states, memory = asyncio.run(load(running, arguments.clients, arguments.seconds))
    kinds = sorted({kind for kind, _ in seen.statuses})
    rows = [
        (
            kind,
            str(len(seen.seconds[kind])),
            f"{statistics.median(seen.seconds[kind]):.2f}",
            f"{max(seen.seconds[kind]):.2f}",
            ", ".join(f"{count} x {status}" for (each, status), count in sorted(seen.statuses.items()) if each == kind),
        )
        for kind in kinds
    ]
    print(table(("request", "answers", "median, s", "longest, s", "statuses"), rows))
    print(f"{len(seen.accepted)} jobs were accepted: " + ", ".join(f"{n} {state}" for state, n in states.items()))
    third = max(len(memory) // 3, 1)
    for what, column in (("service", 0), ("workers", 1)):
        first = statistics.median(each[column] for each in memory[third : 2 * third] or memory)
        last = statistics.median(each[column] for each in memory[2 * third :] or memory)
        print(f"memory of the {what}: {first:.0f} MiB in the second third, {last:.0f} MiB in the last")
        if last - first > GROWTH_MIB:
            seen.faults[f"the memory of the {what} grows"] += 1
    for what, count in seen.cut_off.most_common():
        print(f"cut off before the end of the body, {count} times: {what}")
    for fault, count in seen.faults.most_common():
        print(f"BROKEN, {count} times: {fault}")
    print("something is broken" if seen.faults else "nothing is broken")
    return int(bool(seen.faults))


if __name__ == "__main__":
    raise SystemExit(main())
