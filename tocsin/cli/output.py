"""What a command prints: one JSON object or plain lines on stdout, logs on stderr."""

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tocsin.errors import UsageError

ModelT = TypeVar("ModelT", bound=BaseModel)


def emit(payload: BaseModel | Mapping[str, Any], *, as_json: bool, text: str) -> None:
    """Print a command's result.

    Parameters
    ----------
    payload : pydantic.BaseModel or mapping
        The whole result.
    as_json : bool
        Print `payload` as one JSON object on one line, and nothing else.
    text : str
        What to print instead for a human reader.
    """
    if not as_json:
        sys.stdout.write(text.rstrip("\n") + "\n")
    elif isinstance(payload, BaseModel):
        sys.stdout.write(payload.model_dump_json() + "\n")
    else:
        sys.stdout.write(json.dumps(payload, ensure_ascii=False, allow_nan=False) + "\n")


def set_up_logging(*, quiet: bool) -> None:
    """Send tocsin's log to stderr: warnings and up, or only errors when `quiet`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("tocsin: %(levelname)s: %(message)s"))
    logger = logging.getLogger("tocsin")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.ERROR if quiet else logging.INFO)


def checked(model: type[ModelT], **values: object) -> ModelT:
    """Return an options model made of what the user gave; None means that the model's default holds.

    Raises
    ------
    UsageError
        A value is out of bounds.
    """
    given = {name: value for name, value in values.items() if value is not None}
    try:
        return model(**given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if not first["loc"]:
            # What is wrong is how options go together: the message names them.
            message = first["msg"].removeprefix("Value error, ")
            raise UsageError("options that do not go together", message, "look at the options again") from error
        option = f"--{str(first['loc'][0]).replace('_', '-')}"
        raise UsageError(f"{option} {first['input']}", first["msg"], f"choose another value for {option}") from error


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return left-aligned columns with a head, two blanks between them."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    return "\n".join(line.rstrip() for line in lines)
