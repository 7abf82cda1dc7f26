"""How fast training patches can be simulated: interferograms per second, on numpy and on torch.

CPU seconds are counted too, since the machine may be busy with something else: patches per CPU second are what one free
core would give. Run: ``python benchmarks/simulate.py [--size 224] [--patches 40] [--device cpu]``.
"""

import argparse
import json
import time
from collections.abc import Callable

import torch

from tocsin.simulate import NumpyRandom, RandomSource, interferogram
from training.random import TorchRandom


def rate(source: Callable[[int], RandomSource], size: int, patches: int) -> dict[str, float]:
    """Patches per second and per CPU second, all threads together, after one patch to warm up."""
    interferogram(source(0), (size, size))
    wall, cpu = time.perf_counter(), time.process_time()
    for seed in range(1, patches + 1):
        scene = interferogram(source(seed), (size, size))
    # Reading one number waits for whatever a device still has to do.
    float(scene.deformation_rad[0, 0])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"patches_per_second": round(patches / wall, 1), "patches_per_cpu_second": round(patches / cpu, 1)}


def main() -> None:
    """Print the rates of both libraries as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224, help="Rows and columns of a patch, px.")
    parser.add_argument("--patches", type=int, default=40, help="Patches to simulate with each library.")
    parser.add_argument("--device", default="cpu", help="Torch device.")
    options = parser.parse_args()
    # One thread, as in each worker of a data loader.
    torch.set_num_threads(1)
    result = {
        "size_px": options.size,
        "numpy": rate(NumpyRandom, options.size, options.patches),
        f"torch {options.device}": rate(lambda seed: TorchRandom(seed, options.device), options.size, options.patches),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
