"""What a scoring request may hold beside files: inputs that are values, options, a webhook; in a form as in JSON."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from serving.gate.inputs import FILES
from serving.jobs.job import WebhookUrl
from serving.settings import ServiceSettings
from tocsin.errors import UsageError
from tocsin.hazards.flood import FloodInputs
from tocsin.hazards.landslide import LandslideInputs
from tocsin.hazards.volcano import VolcanoInputs
from tocsin.result import Hazard
from tocsin.scoring_job import ScoringOptions

HAZARDS: Final[tuple[Hazard, ...]] = ("flood", "landslide", "volcano")

INPUTS: Final[Mapping[str, type[BaseModel]]] = MappingProxyType(
    {"flood": FloodInputs, "landslide": LandslideInputs, "volcano": VolcanoInputs}
)

AOI: Final = "aoi"
"""The file that is an option of a scoring."""
OPTIONS: Final = ("overlap", "threshold", "datetime", "gpkg")
"""Fields of `ScoringOptions` that a request may set; what runs and where is the operator's choice."""


class Values(BaseModel):
    """Fields of a request that are no files; each hazard adds its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    webhook: WebhookUrl | None = Field(
        default=None, description="https address on an allowed host, told once the job has ended"
    )


@cache
def values_model(hazard: Hazard) -> type[Values]:
    """Return the model of a hazard's values: its inputs that are no files, options, and the webhook."""
    inputs = INPUTS[hazard].model_fields
    fields: dict[str, Any] = {
        name: (each.annotation, each) for name, each in inputs.items() if name not in FILES[hazard]
    }
    fields |= {
        name: (ScoringOptions.model_fields[name].annotation, ScoringOptions.model_fields[name]) for name in OPTIONS
    }
    made: type[Values] = create_model(f"{hazard.capitalize()}Values", __base__=Values, **fields)
    return made


def read_values(hazard: Hazard, given: Mapping[str, object]) -> Values:
    """Check the values of a request; text becomes what the field holds.

    Raises
    ------
    UsageError
        A field that there is not, or a value out of bounds.
    """
    try:
        return values_model(hazard).model_validate(given)
    except ValidationError as error:
        raise _refusal(error) from error


def checked_inputs(
    hazard: Hazard, files: Mapping[str, str | tuple[str, ...]], values: Values
) -> dict[str, str | tuple[str, ...] | float | None]:
    """Return every field of the hazard's inputs: files by name, and the values.

    Raises
    ------
    UsageError
        A file is missing, or there are too many.
    """
    named = {name: value for name, value in files.items() if name != AOI}
    own = {name: getattr(values, name) for name in INPUTS[hazard].model_fields if name in type(values).model_fields}
    try:
        return INPUTS[hazard](**named, **own).model_dump()
    except ValidationError as error:
        raise _refusal(error) from error


def scoring_options(settings: ServiceSettings, values: Values, aoi: str | None) -> ScoringOptions:
    """Return what the operator and the request say together about a scoring."""
    asked = {name: getattr(values, name) for name in OPTIONS}
    return ScoringOptions(**settings.runtime_fields(), **asked, aoi=None if aoi is None else Path(aoi), quiet=True)


def _refusal(error: ValidationError) -> UsageError:
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the request"
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return UsageError(f"the field {where}", "a field of this hazard", "see the fields in /v1/openapi.json")
    if first["type"] == "missing":
        return UsageError(f"no {where}", f"the field {where}", f"send {where}")
    return UsageError(f"{where}={str(first['input'])[:80]!r}", message, f"check {where}")
