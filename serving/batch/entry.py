"""What the journal of a batch says about one scene; catalog, report, ranking and zones are made from it."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tocsin.result import Hazard, Result, Sha256


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SceneError(_Part):
    """Why a scene has no products."""

    code: str = Field(
        pattern="^[a-z][a-z0-9_]*$",
        description="of tocsin.errors; worker_lost when the workers that scored it died; internal for a defect",
    )
    message: str


class Entry(_Part):
    """One scene of a batch, finished one way or the other; one line of ``DIR/.tocsin/journal.jsonl``."""

    id: str = Field(description="unique for its hazard; the products lie in DIR/HAZARD/ID")
    hazard: Hazard
    key: Sha256 | None = Field(
        description="over hashes of inputs and model, and options; another key means another scoring; null when an "
        "input could not be read"
    )
    state: Literal["done", "failed"]
    result: Result | None = Field(description="product paths relative to DIR; null when failed")
    error: SceneError | None = Field(default=None, description="null when done")
    seconds: float = Field(ge=0, description="of the attempt that counts")
    attempts: Annotated[int, Field(ge=1)] = 1
    priority: float = Field(default=0.0, description="larger is sooner")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.result is None) == (self.state == "done") or (self.error is None) == (self.state == "failed"):
            raise ValueError("a scene that is done has a result, one that failed an error")
        return self
