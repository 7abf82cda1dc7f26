"""How well the shipped flood model maps simulated scenes, beside Otsu on VH: the demo's settings, many seeds.

    python benchmarks/simulated.py [--seeds 10 40]

Prints the IoU of water per seed and the median. None of these seeds is used in training (they start at 1,000,000).
"""

import argparse
from statistics import median

import numpy as np

from tocsin.chips import plan
from tocsin.evaluation import count_water, otsu_threshold
from tocsin.inference import SlidingRows, read_chips
from tocsin.repository import load_model
from tocsin.runtimes import RuntimeOptions, open_runtime
from tocsin.simulate import NumpyRandom, flood_scene
from tocsin.simulate.demo import SETTINGS, SHAPE


class _Array:
    """A scene in memory, as a source."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def read(self, window: object) -> np.ndarray:
        """Return the pixels of a window that lies inside."""
        return self._values[:, window.row : window.row_stop, window.col : window.col_stop]


def main() -> None:
    """Score every seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs=2, default=(10, 40), metavar=("FIRST", "END"))
    first, end = parser.parse_args().seeds
    model = load_model("flood")
    windows = plan(SHAPE, model.manifest.chip_px, 0)
    scores, baseline = [], []
    with open_runtime(model, RuntimeOptions()) as runtime:
        for seed in range(first, end):
            scene = flood_scene(NumpyRandom(seed), SHAPE, SETTINGS)
            probability = np.full(SHAPE, np.nan, np.float32)
            for chip in read_chips((SlidingRows(_Array(scene.post_db), windows),), windows):
                if chip.images[0] is not None:
                    water = runtime.run({"s1": chip.images[0][None]})["water"][0, 0]
                    window = chip.window
                    probability[window.row : window.row_stop, window.col : window.col_stop] = water
            valid, label = np.isfinite(scene.post_db).all(axis=0), scene.water.astype(np.int16)
            vh_db = scene.post_db[1]
            scores.append(count_water(probability >= model.manifest.threshold, label, valid).iou)
            baseline.append(count_water(vh_db < otsu_threshold(vh_db), label, valid).iou)
            print(f"seed {seed}: IoU {scores[-1]:.3f}, Otsu on VH {baseline[-1]:.3f}", flush=True)
    print(f"median IoU {median(scores):.3f} ({min(scores):.3f} to {max(scores):.3f}), Otsu {median(baseline):.3f}")


if __name__ == "__main__":
    main()
