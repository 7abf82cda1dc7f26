"""One progress bar on stderr, shown only while a person watches; a program is told instead."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import count


@contextmanager
def progress_bar(
    what: str, total: int, *, quiet: bool, told: Callable[[int, int], None] | None = None
) -> Generator[Callable[[], None]]:
    """Show a bar; yields what to call after every step.

    Parameters
    ----------
    what : str
        Plural noun of the steps.
    total : int
        Number of steps.
    quiet : bool
        Show nothing, as when stderr is no terminal.
    told : callable, optional
        Called after every step as well, with the steps done and their total; what it raises goes to who made the step.
    """
    steps = count(1)

    def tell() -> None:
        if told is not None:
            told(next(steps), total)

    if quiet or not sys.stderr.isatty():
        yield tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (what, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=4) as progress:
        task = progress.add_task(what, total=total)

        def step() -> None:
            progress.advance(task)
            tell()

        yield step
