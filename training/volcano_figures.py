"""How good a volcano network is on real pictures that it never learnt from, in the terms of `tocsin evaluate`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from tocsin.manifest import MetricRow
from tocsin.volcano_evaluation import PictureVerdict, roughness, summarise
from training.datasets.real_phase import RealPicture

SHORTCUT: Final = "share of incoherent pixels alone, best threshold on these pictures"
PART_OF_C1: Final = "DeepCube C1, the part at hand (positives: Cerro Azul, Ale Bagu)"
PART_OF_S1: Final = "DeepCube S1, the part at hand"
DATASETS: Final = {"C1": PART_OF_C1, "S1": PART_OF_S1}
COMMAND: Final = "tocsin train volcano --data DATA"


def verdicts(
    pictures: Sequence[RealPicture], logits: Tensor, temperature: float, threshold: float
) -> list[PictureVerdict]:
    """Return verdicts of pictures whose log odds of deformation are given, [N]."""
    probability = torch.sigmoid(logits.double() / temperature)
    return [
        PictureVerdict(
            id=picture.name,
            truth=picture.label,
            label=int(score >= threshold),
            score=score,
            subset=picture.subset,
            rendering=picture.rendering,
            volcano=picture.taken.place or "not stated",
            incoherent=picture.incoherent,
            roughness=roughness(picture.phase),
        )
        for picture, score in zip(pictures, probability.tolist(), strict=True)
    ]


def table(judged: Sequence[PictureVerdict]) -> dict[str, Any]:
    """Return the figures of each subset, per rendering and per volcano, as JSON."""
    parts = {}
    for subset in DATASETS:
        own = [each for each in judged if each.subset == subset]
        if own:
            said = summarise(own)
            parts[subset] = {
                "figures": said["figures"].model_dump(mode="json"),
                "renderings": [each.model_dump(mode="json") for each in said["renderings"]],
                "volcanoes": [each.model_dump(mode="json") for each in said["volcanoes"]],
            }
    return parts


def metric_rows(figures: Mapping[str, Any], split: str) -> tuple[MetricRow, ...]:
    """Return the rows of the manifest: accuracy and ranking on each subset, beside the shortcut."""
    rows = []
    for subset, part in figures.items():
        found = part["figures"]
        shortcut = found["shortcuts"][0] if found["shortcuts"] else {"accuracy": 0.5, "auroc": 0.5}
        named = (
            ("accuracy of a chip's verdict", found["accuracy"], shortcut["accuracy"]),
            ("AUROC of P(deformation)", found["auroc"], shortcut["auroc"]),
        )
        rows += [
            MetricRow(
                dataset=DATASETS[subset],
                split=split,
                metric=metric,
                value=value,
                baseline_name=SHORTCUT,
                baseline_value=baseline,
                n=found["pictures"],
                command=COMMAND,
            )
            for metric, value, baseline in named
            if value is not None and baseline is not None
        ]
        if found["balanced_accuracy"] is not None:
            rows.append(
                MetricRow(
                    dataset=DATASETS[subset],
                    split=split,
                    metric="balanced accuracy of a chip's verdict",
                    value=found["balanced_accuracy"],
                    baseline_name="one answer for all",
                    baseline_value=0.5,
                    n=found["pictures"],
                    command=COMMAND,
                )
            )
    return tuple(rows)
