"""Where a scoring of the command line is done: on this machine, or with --service by a service."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from tocsin.errors import UsageError
from tocsin.result import Result
from tocsin.scoring_job import ScoringOptions

if TYPE_CHECKING:
    from tocsin.client_wire import OnProgress, Progress

OPERATORS = ("model_repository", "runtime", "device", "precision", "threads")
"""Options that the operator of a service has chosen for everybody."""
HERE = ("overwrite", "dry_run", "quiet")
"""Options that are about this machine."""


def scored(hazard: str, inputs: BaseModel, options: ScoringOptions, out: Path, service: str | None) -> Result:
    """Score one scene, and return what is printed.

    Parameters
    ----------
    hazard
        flood, landslide or volcano.
    inputs, options
        As the user gave them; what was not given stays unset.
    out
        Folder of the products.
    service
        Address of a service; None: this machine.

    Raises
    ------
    UsageError
        With a service, an option that only its operator has.
    TocsinError
        As `tocsin.score`.
    """
    if service is None:
        from tocsin.scoring import score

        return score(hazard, out=out, options=options, **inputs.model_dump())
    asked = [f"--{name.replace('_', '-')}" for name in OPERATORS if name in options.model_fields_set]
    if asked:
        raise UsageError(
            f"{', '.join(asked)} with --service",
            "the choice of its operator",
            "leave it out, or score without --service",
        )
    return _by_service(service, hazard, inputs, options, out)


def _by_service(service: str, hazard: str, inputs: BaseModel, options: ScoringOptions, out: Path) -> Result:
    from tocsin.client import Client

    named = {name: getattr(inputs, name) for name in inputs.model_fields_set}
    named |= {name: getattr(options, name) for name in options.model_fields_set.difference(HERE)}
    with Client(service) as client, _bar(quiet=options.quiet) as told:
        if options.dry_run:
            return client.plan(hazard, **named)
        return client.score(hazard, out=out, overwrite=options.overwrite, on_progress=told, **named)


@contextmanager
def _bar(*, quiet: bool) -> Generator["OnProgress | None"]:
    """Show how far upload, scoring and download are, while a person watches."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = ("{task.description}", BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True, refresh_per_second=4) as bar:
        task = bar.add_task("upload")

        def told(now: "Progress") -> None:
            bar.update(task, description=now.stage, completed=now.done, total=now.total)

        yield told
