"""How well pictures of interferograms give their phase back: every picture of DeepCube, per rendering and class.

    python benchmarks/pictures.py --data DATA

One row a rendering and class: number of files, mean and largest residual of the inverted colours (levels of 0..255),
the largest share of colours that no phase explains, and the mean share of pixels without phase. That share differs
between the classes of C1, so a model could live on it: see docs/data.md.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from training.datasets import DeepCube


def main() -> None:
    """Read every picture and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds deepcube")
    folder = parser.parse_args().data / "deepcube"
    rows: dict[tuple[str, str, int], list[tuple[float, float, float]]] = defaultdict(list)
    for subset in ("C1", "S1"):
        for chip in DeepCube(folder, subset).chips():
            picture = chip.picture
            missing = float(np.isnan(picture.phase).mean())
            rows[subset, picture.rendering, chip.label].append((picture.residual_levels, picture.unexplained, missing))
    print(
        "| subset | rendering | class | files | residual, mean | residual, most | unexplained, most | no phase, mean |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for (subset, rendering, label), values in sorted(rows.items()):
        residual, unexplained, missing = np.array(values).T
        figures = f"{residual.mean():.2f} | {residual.max():.2f} | {unexplained.max():.4f} | {missing.mean():.3f}"
        print(f"| {subset} | {rendering} | {label} | {len(values)} | {figures} |")


if __name__ == "__main__":
    main()
