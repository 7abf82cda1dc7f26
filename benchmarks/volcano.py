"""The table of volcano networks: what prototypes and pseudo-labels cost and gain, beside the published figures.

Reads what trainings wrote: ``python benchmarks/volcano.py checkpoints/volcano checkpoints/volcano_softmax ...``. Each
folder holds ``held_out.json`` and ``curve.json`` of ``tocsin train RECIPE``. Prints Markdown.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PUBLISHED = (
    # Bountos et al. 2022, the whole of C1: 404 pictures with deformation, 365 without.
    ("published, Swin softmax, the whole of C1", 0.854, 7, 299, 105, 358),
    ("published, Swin-PL, the whole of C1", 0.938, 26, 383, 21, 339),
    ("published, Swin-PL-Pseudo, the whole of C1", 0.971, 16, 398, 6, 349),
    ("published, ResNet18 softmax, the whole of C1", 0.850, 7, 296, 108, 358),
    ("published, ResNet18-PL, the whole of C1", 0.780, 2, 237, 167, 363),
    ("published, ConViT-PL-Pseudo, the whole of C1", 0.951, 14, 381, 23, 351),
    ("published, DeiT-PL-Pseudo, the whole of C1", 0.934, 37, 391, 13, 328),
)
STAGES = {
    "softmax": "softmax",
    "prototypes": "-PL",
    "adapted_without_place": "-PL-Pseudo, volcano held out",
    "adapted_without_picture": "-PL-Pseudo, picture held out",
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="Folders of trainings.")
    folders = [folder for folder in parser.parse_args().folders if (folder / "held_out.json").is_file()]
    reports = [json.loads((folder / "held_out.json").read_text()) for folder in folders]
    for subset in ("C1", "S1"):
        print_subset(subset, reports)
    for part in ("renderings", "volcanoes"):
        print_part(part, reports[0])
    for folder, report in zip(folders, reports, strict=True):
        curve = folder / "curve.json"
        if curve.is_file():
            print_curve(f"{encoder(report)} {next(stages(report))}", json.loads(curve.read_text()))


def stages(report: dict[str, Any]) -> Iterator[str]:
    """Yield the stages that a report holds, in the order of training."""
    return (stage for stage in STAGES if stage in report)


def print_subset(subset: str, reports: list[dict[str, Any]]) -> None:
    """Print every network on one subset."""
    print(f"\n### {subset}\n\n| network | ACC | balanced | AUROC | FP | TP | FN | TN | calibration error |")
    print("|---|---|---|---|---|---|---|---|---|")
    for report in reports:
        for stage in stages(report):
            print(row(f"{encoder(report)} {STAGES[stage]}", report[stage][subset]["figures"]))
    if subset == "C1":
        for name, accuracy, *counts in PUBLISHED:
            print(f"| {name} | {accuracy:.3f} |  |  | {' | '.join(map(str, counts))} |  |")
    for each in reports[0][next(stages(reports[0]))][subset]["figures"]["shortcuts"]:
        print(f"| {each['name']} alone | {each['accuracy']:.3f} |  | {each['auroc']:.3f} |  |  |  |  |  |")


def print_part(part: str, report: dict[str, Any]) -> None:
    """Print the last stage of one network per rendering or per volcano with deformation."""
    print(f"\n### {part}, {encoder(report)}\n\n| set | {part} | pictures | TP | FN | FP | TN |")
    print("|---|---|---|---|---|---|---|")
    last = list(stages(report))[-1]
    for subset in ("C1", "S1"):
        for each in report[last][subset][part]:
            counts = each["counts"]
            if part == "renderings" or counts["tp"] + counts["fn"]:
                figures = " | ".join(str(counts[key]) for key in ("tp", "fn", "fp", "tn"))
                print(f"| {subset} | {each['name']} | {each['pictures']} | {figures} |")


def print_curve(name: str, rows: list[dict[str, Any]]) -> None:
    """Print a learning curve: balanced accuracy and AUROC."""
    print(f"\n### learning curve, {name}\n\n| step | simulated | C1 | S1 |\n|---|---|---|---|")
    for each in rows:
        judged = (each[subset] for subset in ("simulated", "C1", "S1"))
        cells = [f"{figures['balanced_accuracy']:.3f}, {figures['auroc']:.3f}" for figures in judged]
        print(f"| {each['step']} | {' | '.join(cells)} |")


def encoder(report: dict[str, Any]) -> str:
    """Return a short name of the encoder."""
    config = report["encoder"]
    return f"{config['family']} {'-'.join(map(str, config['widths']))}"


def row(name: str, figures: dict[str, Any]) -> str:
    """Return a row of Markdown."""
    counts = figures["counts"]
    rates = [figures["accuracy"], figures["balanced_accuracy"], figures["auroc"]]
    cells = [*(f"{rate:.3f}" for rate in rates), *(str(counts[key]) for key in ("fp", "tp", "fn", "tn"))]
    return f"| {name} | {' | '.join(cells)} | {figures['calibration_error']:.3f} |"


if __name__ == "__main__":
    main()
