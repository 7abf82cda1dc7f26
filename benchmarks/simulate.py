"""How fast training patches can be simulated: interferograms and landslide pairs per second, on numpy and on torch.

CPU seconds are counted too, since the machine may be busy with something else: patches per CPU second are what one free
core would give. Run: ``python benchmarks/simulate.py [--size 224] [--chip 128] [--patches 40] [--device cpu]``.
"""

import argparse
import json
import time
from collections.abc import Callable

import torch

from tocsin.simulate import NumpyRandom, RandomSource, interferogram, landslide_pair
from training.random import TorchRandom


def interferogram_patch(random: RandomSource, size: int) -> float:
    """Simulate an interferogram; reading one number of it waits for whatever a device still has to do."""
    return float(interferogram(random, (size, size)).deformation_rad[0, 0])


def landslide_chip(random: RandomSource, size: int) -> float:
    """Simulate one to three acquisitions before and after, half of them with landslides; read one number."""
    return float(landslide_pair(random, (size, size)).post_db[0, 0, 0, 0])


def rate(simulate: Callable[[int], float], patches: int) -> dict[str, float]:
    """Patches per second and per CPU second, all threads together, after one patch to warm up."""
    simulate(0)
    wall, cpu = time.perf_counter(), time.process_time()
    for seed in range(1, patches + 1):
        simulate(seed)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"patches_per_second": round(patches / wall, 1), "patches_per_cpu_second": round(patches / cpu, 1)}


def main() -> None:
    """Print the rates of both libraries as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224, help="Rows and columns of an interferogram, px.")
    parser.add_argument("--chip", type=int, default=128, help="Rows and columns of a landslide chip, px.")
    parser.add_argument("--patches", type=int, default=40, help="Patches to simulate with each library.")
    parser.add_argument("--device", default="cpu", help="Torch device.")
    options = parser.parse_args()
    # One thread, as in each worker of a data loader.
    torch.set_num_threads(1)
    sources: dict[str, Callable[[int], RandomSource]] = {
        "numpy": NumpyRandom,
        f"torch {options.device}": lambda seed: TorchRandom(seed, options.device),
    }
    scenes = {"interferogram": (interferogram_patch, options.size), "landslide": (landslide_chip, options.chip)}
    result = {
        name: {"size_px": size}
        | {
            library: rate(
                lambda seed, source=source, simulate=simulate, size=size: simulate(source(seed), size), options.patches
            )
            for library, source in sources.items()
        }
        for name, (simulate, size) in scenes.items()
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
