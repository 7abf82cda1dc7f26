"""Commands by name, found through the entry-point group and imported when they are used."""

from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tocsin import __version__
from tocsin.cli import config

GROUP = "tocsin.commands"


class Commands(TyperGroup):
    """The root command; its sub-commands are entry points."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of every registered command, sorted."""
        del ctx
        return sorted(_registered())

    def get_command(self, ctx: Any, cmd_name: str) -> Any | None:
        """Import and return one command, with the configuration file as its defaults."""
        registered = _registered().get(cmd_name)
        if registered is None:
            return None
        command = as_command(registered.load(), cmd_name)
        if not ctx.resilient_parsing:
            ctx.default_map = {**(ctx.default_map or {}), cmd_name: config.defaults_for(command, cmd_name)}
        return command


def root() -> Commands:
    """Return the root command."""
    app = typer.Typer(cls=Commands, add_completion=False, invoke_without_command=True)
    app.callback()(_root)
    command = typer.main.get_command(app)
    assert isinstance(command, Commands)
    return command


def as_command(loaded: object, name: str) -> Any:
    """Return the command behind what an entry point names: a `typer.Typer` or a plain function."""
    if isinstance(loaded, typer.Typer):
        command = typer.main.get_command(loaded)
    elif callable(loaded):
        app = typer.Typer(add_completion=False)
        app.command(name)(loaded)
        command = typer.main.get_command(app)
    else:
        msg = f"command {name} is a {type(loaded).__name__}, neither a function nor a typer.Typer"
        raise TypeError(msg)
    command.name = name
    return command


def add_registered(app: typer.Typer, name: str) -> None:
    """Add to a group the commands that other packages register for it, in the entry-point group of its name.

    Parameters
    ----------
    app : typer.Typer
        The group.
    name : str
        Its name; entry points are those of ``tocsin.commands.NAME``.
    """
    for point in sorted(entry_points(group=f"{GROUP}.{name}"), key=lambda point: point.name):
        app.command(point.name)(point.load())


def _registered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"tocsin {__version__}")
        raise typer.Exit


def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version and leave.")
    ] = False,
) -> None:
    """Turn satellite scenes into decision products for floods, landslides and volcanic deformation."""
    del version
