"""What the recipes of all hazards are made of."""

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """Base of the recipe's parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Hardware(Part):
    """Where a stage runs; Lightning starts a process a device."""

    devices: int = Field(1, ge=1, description="GPUs a machine; one process without a GPU.")
    machines: int = Field(1, ge=1, description="Machines, each of which runs the same command.")
    strategy: str = Field("auto", description="How processes share the work, as Lightning names it: ddp, fsdp.")


class Stage(Part):
    """One run of the optimiser; its learning rate rises over a tenth of it and falls to nothing (one cycle)."""

    name: str = Field(description="Name in logs and files.")
    steps: int = Field(ge=1, description="Optimiser steps.")
    batch: int = Field(16, ge=1, description="Chips a step.")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="Peak learning rate of AdamW.")
    weight_decay: float = Field(0.02, ge=0, le=1, description="Decoupled weight decay.")
    real_share: float = Field(0.0, ge=0, le=1, description="Share of labelled real chips; the rest is simulated.")
