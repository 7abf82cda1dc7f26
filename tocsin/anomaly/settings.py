"""How an anomaly model is fitted: every choice with its source, or labelled as ours."""

from typing import Self

from pydantic import Field, model_validator

from tocsin.anomaly.gaussian import WEIGHTED, Method
from tocsin.anomaly.preparation import Scaling
from tocsin.manifest import Record

LEAST_FIT = 6
"""Fewest epochs to fit: with fewer, the threshold would promise one false alarm in six epochs, or worse."""


class FitSettings(Record):
    """Choices of a fit. Defaults live here and nowhere else."""

    method: Method = Field("wnlml", description="padim, wmaha, nlml or wnlml (Popescu et al. 2024: best of the four)")
    layers: tuple[int, ...] = Field(
        (1, 2, 3),
        min_length=1,
        max_length=4,
        description="feature maps, 1 finest (Defard et al. 2021: the first three)",
    )
    layer_weights: tuple[float, ...] = Field(
        (1.0, 2.0, 3.0),
        description="weight per layer, deeper more (Popescu et al. 2024 in words; the numbers are ours), mean made 1",
    )
    channels: int = Field(100, ge=1, le=512, description="channels drawn at random (Defard et al. 2021, ResNet18)")
    seed: int = Field(1024, ge=0, description="seed of that draw")
    epsilon: float = Field(
        0.01, gt=0, description="added to variances (Defard et al. 2021), of divided channels (ours)"
    )
    scaling: Scaling = Field("scaled", description="scaled: by the fit set; wrapped: true phase of the interferogram")
    scale_quantile: float = Field(0.999, gt=0.5, le=1, description="deviation of the fit set that becomes pi (ours)")
    threshold_quantile: float = Field(
        1.0, gt=0.5, le=1, description="of the scores of held-out fit epochs (ours); 1: alarm above all of them"
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if sorted(set(self.layers)) != list(self.layers) or not set(self.layers) <= {1, 2, 3, 4}:
            raise ValueError("layers are some of 1, 2, 3, 4, ascending")
        if len(self.layer_weights) != len(self.layers) or min(self.layer_weights) <= 0:
            raise ValueError("one weight above 0 per layer")
        return self

    @property
    def weights(self) -> tuple[float, ...]:
        """Weight of each layer that the method uses."""
        if self.method not in WEIGHTED:
            return tuple(1.0 for _ in self.layers)
        mean = sum(self.layer_weights) / len(self.layer_weights)
        return tuple(weight / mean for weight in self.layer_weights)
