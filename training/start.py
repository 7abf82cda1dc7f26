"""Beginning from a pretrained encoder: frozen, with low-rank updates (LoRA), or learning as a whole.

Low-rank updates are merged into the weights when a stage ends, so that what a stage hands on, and export takes, is the
network without any trace of them; that both say the same is checked each time.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from pydantic import Field
from torch import nn

from tocsin.errors import ModelInvalidError, UsageError, WrongBandsError
from training.checkpoints import read
from training.encoder_checkpoints import EncoderFacts, fill
from training.networks.encoders import Encoder
from training.recipe_parts import Part

MERGED_WITHIN: Final = 1e-4
"""Largest difference between features before and after merging, relative to the largest of them."""


class Start(Part):
    """What a network's encoder begins with, and how it learns on."""

    encoder: str | None = Field(
        None, description="Checkpoint of a pretraining, as given or below --out; None: random weights."
    )
    learns: Literal["frozen", "lora", "full"] = Field("full", description="What of the encoder learns.")
    rank: int = Field(8, ge=1, le=4096, description="Rank of the updates (LoRA).")
    alpha: int = Field(16, ge=1, description="Their scale is alpha over rank (Hu et al. 2022, section 4.1).")
    targets: tuple[str, ...] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj"),
        min_length=1,
        description="Linear layers that are updated, by the end of their names: those of attention.",
    )

    def find(self, out: Path) -> Path | None:
        """Return the checkpoint's file.

        Raises
        ------
        UsageError
            When it is not there.
        """
        if self.encoder is None:
            return None
        for path in (Path(self.encoder), out / self.encoder):
            if path.is_file():
                return path
        raise UsageError(
            f"start.encoder {self.encoder}, which is no file, nor below {out}",
            "a checkpoint that tocsin train of a pretraining left",
            "run the pretraining first, or mend start.encoder",
        )


def begin(encoder: Encoder, bands: Sequence[str], start: Start, out: Path) -> None:
    """Load the pretrained weights into an encoder.

    Parameters
    ----------
    encoder
        Of the network that is to learn.
    bands
        What it is given, in this order.
    start
        Where the weights are.
    out
        Folder below which they may be.

    Raises
    ------
    UsageError
        When there is no such file.
    ModelInvalidError
        When it is no checkpoint of an encoder, or of another shape.
    WrongBandsError
        When it takes other bands.
    """
    path = start.find(out)
    if path is None:
        return
    facts, weights = read(path, EncoderFacts)
    if facts.bands != tuple(bands):
        raise WrongBandsError(
            f"{path} for {', '.join(facts.bands)}", f"an encoder of {', '.join(bands)}", "pretrain with these bands"
        )
    fill(encoder, weights, path)


def adapt(encoder: Encoder, start: Start) -> None:
    """Choose what of an encoder learns, in place.

    Raises
    ------
    UsageError
        When no layer has a name that was asked for, one of them is not linear, or the rank exceeds a layer's.
    """
    if start.learns == "full":
        return
    encoder.requires_grad_(requires_grad=False)
    if start.learns == "lora":
        from peft import LoraConfig, inject_adapter_in_model

        _check(encoder, start)
        settings = LoraConfig(r=start.rank, lora_alpha=start.alpha, target_modules=list(start.targets))
        inject_adapter_in_model(settings, encoder)


def merge(encoder: Encoder, chip: torch.Tensor) -> float:
    """Merge low-rank updates into the weights of an encoder, in place; without any it stays as it is.

    Parameters
    ----------
    encoder
        As `adapt` left it, or trained since.
    chip
        [B, C, H, W] encoded chips to compare by.

    Returns
    -------
    float
        Largest difference of its features, relative to the largest of them.

    Raises
    ------
    ModelInvalidError
        When it does not say the same afterwards.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [(name, each) for name, each in encoder.named_modules() if isinstance(each, BaseTunerLayer)]
    if not layers:
        return 0.0
    training = encoder.training
    encoder.eval()
    with torch.inference_mode():
        before = [each.float() for each in encoder(chip)]
    for name, layer in layers:
        layer.merge(safe_merge=True)
        parent, _, own = name.rpartition(".")
        setattr(encoder.get_submodule(parent), own, layer.get_base_layer())
    with torch.inference_mode():
        after = [each.float() for each in encoder(chip)]
    apart = max(
        float((one - other).abs().max() / one.abs().max().clamp_min(1e-6))
        for one, other in zip(before, after, strict=True)
    )
    if not apart <= MERGED_WITHIN:
        raise ModelInvalidError(
            f"features {apart:.2g} apart after low-rank updates were merged",
            f"at most {MERGED_WITHIN:g}",
            "train in 32-true, or give a smaller alpha",
        )
    encoder.train(training)
    return apart


class Frozen(Callback):
    """Keep an encoder that does not learn as it is in use: its normalisation takes no statistics of the new data.

    Parameters
    ----------
    encoder
        What is frozen.
    """

    def __init__(self, encoder: nn.Module) -> None:
        self._encoder = encoder

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:  # noqa: ANN401
        """Set it to evaluation, since Lightning sets the whole task to training."""
        del trainer, pl_module
        self._encoder.eval()


def _check(encoder: Encoder, start: Start) -> None:
    """Refuse targets that are not there or not linear, and a rank that a layer cannot have."""
    named = {name: each for name, each in encoder.named_modules() if name.endswith(start.targets)}
    linear = {name: each for name, each in named.items() if isinstance(each, nn.Linear)}
    if not named or len(linear) < len(named):
        there = sorted(
            {name.rpartition(".")[2] for name, each in encoder.named_modules() if isinstance(each, nn.Linear)}
        )
        raise UsageError(
            f"LoRA targets {', '.join(start.targets)}",
            f"names of linear layers: {', '.join(there) or 'this encoder has none'}",
            "name layers of attention in start.targets, or choose another way to learn",
        )
    name, least = min(
        ((name, min(each.in_features, each.out_features)) for name, each in linear.items()), key=lambda each: each[1]
    )
    if start.rank > least:
        raise UsageError(f"rank {start.rank} for {name}", f"a rank of at most {least}", "lower start.rank")
