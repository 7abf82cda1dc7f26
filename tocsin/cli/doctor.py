"""`tocsin doctor`: would scoring work here."""

import typer

from tocsin.cli.config import VARIABLES, config_path
from tocsin.cli.options import Json, ModelRepository
from tocsin.cli.output import emit, table


def doctor(model_repository: ModelRepository = None, json: Json = False) -> None:
    """Check Python, GDAL, models and their hashes, and run one chip; exit code 0 when scoring works."""
    from tocsin.diagnosis import diagnose

    diagnosis = diagnose(model_repository, VARIABLES)
    rows = [(_mark(check.ok, check.required), check.name, check.found) for check in diagnosis.checks]
    todo = [f"{check.name}: {check.todo}" for check in diagnosis.checks if not check.ok and check.todo]
    lines = [
        table(("", "CHECK", "FOUND"), rows),
        f"configuration file: {config_path() or 'none'}",
        *(["", "to do:", *(f"  {line}" for line in todo)] if todo else []),
        "",
        "scoring works here" if diagnosis.ok else "scoring does not work here",
    ]
    emit(diagnosis, as_json=json, text="\n".join(lines))
    raise typer.Exit(diagnosis.exit_code)


def _mark(ok: bool, required: bool) -> str:
    if ok:
        return "ok"
    return "FAIL" if required else "-"
