"""What catalog, report, ranking and zones ask of the folder or bucket that a batch writes to."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol


class Target(Protocol):
    """The place of a batch: every name is relative to it, with slashes."""

    def open_whole(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open a file that appears under its name when the block ends, and not at all when the block raises."""
        ...

    def local(self, name: str) -> AbstractContextManager[Path]:
        """Lend a product as a local file for the block.

        Raises
        ------
        OSError
            It is not there or cannot be read.
        """
        ...
