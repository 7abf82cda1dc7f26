"""What tocsin adds to the graph: time of a whole scene over the time of the graph alone for the same chips.

Both are measured in one process, in turns, with the same session options and threads; the ratio is what counts, since
the machine may be busy with something else. By default the graph gets one core less than there are: one is left for
reading and writing: then these cost no time of their own. With all cores (``--threads``) both get faster and the ratio
grows, since nothing is idle any more. Run: ``python benchmarks/scene.py [--rows 4096] [--cols 4096]``.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window as RasterioWindow

from tocsin import score
from tocsin.benchmark import graph_seconds
from tocsin.runtimes import available_cores
from tocsin.scoring import ScoringOptions
from tocsin.simulate import FloodSettings, NumpyRandom, flood_scene

TILE = 1024
TARGET = 1.10


def write_scene(path: Path, rows: int, cols: int, seed: int = 0) -> Path:
    """Write a scene [2, rows, cols] in dB: one simulated flood, mirrored and repeated so that it has no seams."""
    settings = FloodSettings(water_share=0.2, swath_edge_share=0.0, pre_event=False)
    tile = np.asarray(flood_scene(NumpyRandom(seed), (TILE, TILE), settings).post_db, dtype=np.float32)
    profile = {
        "driver": "GTiff",
        "dtype": "float32",
        "count": 2,
        "height": rows,
        "width": cols,
        "crs": "EPSG:32630",
        "transform": Affine(10.0, 0.0, 3e5, 0.0, -10.0, 4.4e6),
        "nodata": float("nan"),
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "compress": "deflate",
        "predictor": 3,
        "zlevel": 1,
        "BIGTIFF": "IF_SAFER",
        "num_threads": "all_cpus",
    }
    with rasterio.open(path, "w", **profile) as raster:
        raster.descriptions = ("VV", "VH")
        for row in range(0, rows, TILE):
            band = tile[:, ::-1] if row // TILE % 2 else tile
            for col in range(0, cols, TILE):
                part = band[:, : rows - row, : cols - col]
                part = part[:, :, ::-1] if col // TILE % 2 else part
                raster.write(part, window=RasterioWindow(col, row, part.shape[2], part.shape[1]))
    return path


def time_scene(scene: Path, out: Path, options: ScoringOptions) -> float:
    """Seconds of a whole scoring, products included."""
    start = time.perf_counter()
    score("flood", post=scene, out=out, options=options)
    return time.perf_counter() - start


def main() -> None:
    """Measure in turns and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--cols", type=int, default=4096)
    parser.add_argument("--turns", type=int, default=2, help="how often each of the two is measured")
    parser.add_argument("--threads", type=int, default=max(1, available_cores() - 1))
    parser.add_argument("--model-repository", type=Path, default=None)
    asked = parser.parse_args()
    options = ScoringOptions(overwrite=True, quiet=True, threads=asked.threads, model_repository=asked.model_repository)
    graph, whole, chips = [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        scene = write_scene(Path(folder) / "scene.tif", asked.rows, asked.cols)
        for _ in range(asked.turns):
            seconds, chips = graph_seconds(scene, options)
            graph.append(seconds)
            whole.append(time_scene(scene, Path(folder) / "out", options))
    ratio = sum(whole) / sum(graph)
    print(
        json.dumps(
            {
                "rows": asked.rows,
                "cols": asked.cols,
                "chips": chips,
                "threads": asked.threads,
                "cores": available_cores(),
                "graph_seconds": [round(seconds, 2) for seconds in graph],
                "scene_seconds": [round(seconds, 2) for seconds in whole],
                "ratio": round(ratio, 3),
                "target": TARGET,
                "reached": ratio <= TARGET,
            }
        )
    )


if __name__ == "__main__":
    main()
