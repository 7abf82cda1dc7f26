"""One progress bar on stderr, shown only while a person watches."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def progress_bar(what: str, total: int, *, quiet: bool) -> Generator[Callable[[], None]]:
    """Show a bar; yields what to call after every step.

    Parameters
    ----------
    what : str
        Plural noun of the steps.
    total : int
        Number of steps.
    quiet : bool
        Show nothing, as when stderr is no terminal.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (what, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=4) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)
