"""How far a batch is: one bar on a terminal, lines of JSON on stderr otherwise."""

import json
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

from serving.batch.worker import Outcome

LINE_S: Final = 1.0
"""Least seconds between two lines that say how far it is; a failure has its own line at once."""


@dataclass
class Count:
    """Scenes so far; `finished` is all of them."""

    total: int
    done: int = 0
    skipped: int = 0
    failed: int = 0

    @property
    def finished(self) -> int:
        """Scenes that are decided."""
        return self.done + self.skipped + self.failed


Told = Callable[[str, Outcome, Count], None]
"""Called after every scene with its id, what became of it, and the count."""


@contextmanager
def show_progress(total: int, dashboard: str, *, quiet: bool) -> Generator[Told]:
    """Show a bar, or write lines; yields what to call after every scene.

    Parameters
    ----------
    total
        Scenes in all.
    dashboard
        Address of Dask's dashboard.
    quiet
        Show nothing.
    """
    if quiet:
        yield lambda _id, _outcome, _count: None
    elif sys.stderr.isatty():
        with _bar(total, dashboard) as told:
            yield told
    else:
        yield _lines(total, dashboard)


@contextmanager
def _bar(total: int, dashboard: str) -> Generator[Told]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    console.print(f"dashboard {dashboard}", highlight=False)
    columns = (
        "scenes",
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}"),
    )
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as progress:
        task = progress.add_task("scenes", total=total, rate="", failed="")
        began = time.monotonic()

        def told(_id: str, _outcome: Outcome, count: Count) -> None:
            rate = _rate(count, time.monotonic() - began)
            failed = f"[red]{count.failed} failed[/red]" if count.failed else ""
            progress.update(task, completed=count.finished, rate=f"{rate:.2f}/s", failed=failed)

        yield told


def _lines(total: int, dashboard: str) -> Told:
    began = said = time.monotonic()
    _write({"event": "started", "scenes": total, "dashboard": dashboard})

    def told(scene_id: str, outcome: Outcome, count: Count) -> None:
        nonlocal said
        if outcome.state == "failed":
            _write({"event": "failed", "id": scene_id, "code": outcome.code, "message": outcome.message})
        now = time.monotonic()
        if now - said < LINE_S and count.finished < count.total:
            return
        said, rate = now, _rate(count, now - began)
        eta = round((count.total - count.finished) / rate, 1) if rate else None
        _write({"event": "progress", **asdict(count), "scenes_per_s": round(rate, 3), "eta_s": eta})

    return told


def _rate(count: Count, seconds: float) -> float:
    return count.finished / seconds if seconds else 0.0


def _write(event: dict[str, Any]) -> None:
    sys.stderr.write(json.dumps(event, ensure_ascii=False) + "\n")
    sys.stderr.flush()
