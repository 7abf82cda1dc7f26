"""The command line: wiring only.

Each package registers its commands in the entry-point group ``tocsin.commands``; a command's module is imported when
that command is run. Results go to stdout, everything else to stderr.
"""

from tocsin.cli.border import main

__all__ = ["main"]
