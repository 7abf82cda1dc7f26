"""What a batch is asked to do, and what it answers."""

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tocsin.result import Hazard
from tocsin.scoring_job import ScoringOptions

FAILED_EXIT: Final = 7
"""Exit code of a batch that finished and in which scenes failed."""


def _bytes(value: object) -> object:
    """Read 1.5GB or 1500MiB as bytes; what is no text is left to pydantic."""
    if not isinstance(value, str):
        return value
    from dask.utils import parse_bytes

    return parse_bytes(value)


Bytes = Annotated[int, BeforeValidator(_bytes), Field(ge=256 << 20)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RetrySettings(_Part):
    """How often a scene is tried again after a failure that can pass."""

    attempts: int = Field(default=3, ge=1, description="in all, where a runtime, server or storage was away")
    delay_s: float = Field(default=2.0, ge=0, description="before the second attempt; four times as long every next")
    handovers: int = Field(default=2, ge=0, description="times that a scene goes to another worker when its own died")
    in_a_row: int = Field(
        default=16, ge=1, description="scenes given up one after another for what can pass, at which the batch stops"
    )


class BatchSettings(_Part):
    """Everything about a batch. Defaults live here and nowhere else."""

    manifest: str = Field(min_length=1, description="table, STAC catalog, folder or glob; a path or a URL of a bucket")
    out: str = Field(min_length=1, description="folder, or URL of a bucket, of products, catalog, report and journal")
    hazard: Hazard | None = Field(default=None, description="of scenes whose manifest does not say it")
    scheduler: str | None = Field(
        default=None,
        pattern=r"^(tcp|tls|ws|wss)://[^\s/]+:\d+$",
        description="a Dask cluster that exists; None: one of processes on this machine",
    )
    zones: str | None = Field(default=None, description="polygons, for statistics in each")
    workers: int | None = Field(
        default=None, ge=1, le=1024, description="processes on this machine; None: one per core"
    )
    memory: Bytes | None = Field(
        default=None, description="bytes that a worker on this machine may hold; None: its share of the machine's"
    )
    options: ScoringOptions = ScoringOptions(quiet=True)
    retry: RetrySettings = RetrySettings()


class SceneFailure(_Part):
    """A scene that has no products, and why."""

    id: str
    code: str
    message: str


class BatchSummary(_Part):
    """Scenes and ground of a batch."""

    done: int = Field(ge=0, description="scored by this run")
    skipped: int = Field(ge=0, description="done before, with the same inputs, model and options")
    failed: int = Field(ge=0, description="without products; see failures")
    seconds: float = Field(ge=0)
    km2: float = Field(ge=0, description="observed ground of all scenes that are done or skipped")


class BatchResult(_Part):
    """What `tocsin batch --json` prints."""

    summary: BatchSummary
    failures: tuple[SceneFailure, ...]
    products: Mapping[str, str] = Field(description="paths of journal, catalog, report, ranking and the like")
