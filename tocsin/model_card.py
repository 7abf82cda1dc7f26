"""What a list of models says about each: the part of a manifest that one chooses a model by."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tocsin.manifest import Artifact, Manifest, MetricRow


class ModelCard(BaseModel):
    """One model of a repository."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    hazard: str
    version: str
    architecture: str
    precisions: tuple[str, ...]
    gates: tuple[dict[str, Any], ...] = Field(
        description="figures that each precision passed its gate with, beside their limits"
    )
    threshold: float = Field(description="probability from which a pixel counts")
    licence: str
    metrics: tuple[MetricRow, ...] = Field(description="per data set and split, each beside a baseline")

    @classmethod
    def of(cls, manifest: Manifest) -> "ModelCard":
        """Return what a manifest says."""
        return cls(
            name=manifest.name,
            hazard=manifest.hazard,
            version=manifest.version,
            architecture=manifest.architecture.name,
            precisions=manifest.precisions,
            gates=tuple(_gate(row) for row in manifest.artifacts),
            threshold=manifest.threshold,
            licence=manifest.licence,
            metrics=manifest.metrics,
        )


def _gate(row: Artifact) -> dict[str, Any]:
    parity = row.parity
    figures = ("reference", "max_difference", "limit_difference", "flipped_fraction", "limit_flipped")
    changes = {"change": parity.change, "limit_change": parity.limit_change} if parity.limit_change is not None else {}
    return {"precision": row.precision, **{name: getattr(parity, name) for name in figures}, **changes}
