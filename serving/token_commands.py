"""`tocsin token`: who may use the service."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tocsin.cli import options as common
from tocsin.cli.output import emit, table

if TYPE_CHECKING:
    from serving.gate.tokens import Token, TokenStore

token = typer.Typer(add_completion=False, help="Make, list and revoke tokens of the service.", no_args_is_help=True)

State = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", envvar="TOCSIN_STATE", help="State folder of the service; the user's own."),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Who bears it: letters, digits, dot, dash, underscore.")]


@token.command("new")
def new(
    name: Name,
    requests_per_minute: Annotated[
        int | None,
        typer.Option("--requests-per-minute", metavar="N", help="Requests a minute; as the service is set by default."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", metavar="N", help="Jobs waiting or running at a time; as the service is set by default."
        ),
    ] = None,
    state: State = None,
    json: common.Json = False,
) -> None:
    """Make a token and print it: it is kept as a hash, and cannot be shown again."""
    clear, made = _store(state).new(name, requests_per_minute=requests_per_minute, jobs=jobs)
    emit({"token": clear, **_shown(made)}, as_json=json, text=clear)


@token.command("list")
def list_all(state: State = None, json: common.Json = False) -> None:
    """List names, quotas and last uses; never a token."""
    known = [_shown(each) for each in _store(state).all()]
    head = ("name", "created", "last used", "requests/min", "jobs")
    keys = ("name", "created", "last_used", "requests_per_minute", "jobs")
    rows = [tuple("-" if each[key] is None else str(each[key]) for key in keys) for each in known]
    emit({"tokens": known}, as_json=json, text=table(head, rows) if rows else "no token")


@token.command("revoke")
def revoke(name: Name, state: State = None, json: common.Json = False) -> None:
    """Forget a token: a running service refuses its bearer within a second."""
    _store(state).revoke(name)
    emit({"name": name, "state": "revoked"}, as_json=json, text=f"{name} is revoked")


def _store(state: Path | None) -> "TokenStore":
    from serving.gate.tokens import TokenStore
    from serving.settings import ServiceSettings

    return TokenStore(ServiceSettings.from_environment(state=state).state)


def _shown(made: "Token") -> dict[str, Any]:
    shown: dict[str, Any] = made.model_dump(mode="json", exclude={"sha256"})
    return shown
