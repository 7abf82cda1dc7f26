"""What a precision is worth on this CPU: chips a second of every graph of a model, beside its network in PyTorch.

    python -m benchmarks.precision [flood volcano ...] [--turns 9] [--batch 1] [--threads N]

All run in turns in one process on the same chips and threads, so that whatever else the machine does falls on all; each
ratio is the median over the turns of the ratios within a turn, once of time by the clock and once of processor time,
which says more while others use the processor too. PyTorch runs the same network eagerly in float32, with random
weights (they cost the same), its scaling and calibration included. One thread by default: with more, PyTorch's waiting
threads spin, and on a shared machine that flatters everything else beyond belief.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from export.graphs import FloodGraph, VolcanoGraph
from export.landslide_graph import LandslideGraph
from export.parity import TorchReference
from tocsin.manifest import DYNAMIC, Manifest
from tocsin.repository import load_model
from tocsin.runtimes import RuntimeOptions, open_runtime
from training.networks import NetworkConfig, build
from training.networks.landslide import LandslideConfig, LandslideNetwork
from training.networks.volcano import VolcanoConfig, VolcanoNetwork

Chips = Mapping[str, np.ndarray]
AGAINST_FP32 = 2.0
AGAINST_TORCH = 3.0
TORCH = "PyTorch eager fp32"


def flood(manifest: Manifest) -> nn.Module:
    """Return the network of a flood model, random weights."""
    network = build(NetworkConfig.model_validate(manifest.architecture.config))
    return FloodGraph(network, manifest.inputs[0].normalisation, manifest.calibration)


def landslide(manifest: Manifest) -> nn.Module:
    """Return the network of a landslide model, random weights."""
    network = LandslideNetwork(LandslideConfig.model_validate(manifest.architecture.config))
    return LandslideGraph(network, manifest.calibration, {})


def volcano(manifest: Manifest) -> nn.Module:
    """Return the network of a volcano model, random weights."""
    network = VolcanoNetwork(VolcanoConfig.model_validate(manifest.architecture.config)).eval()
    return VolcanoGraph(network, manifest.calibration, {})


NETWORKS = {"flood": flood, "landslide": landslide, "volcano": volcano}


def chips_of(manifest: Manifest, batch: int) -> Chips:
    """Return noise of the chip's size in every input: what it holds does not change how long it takes."""
    random = np.random.default_rng(0)
    sizes = {
        spec.name: [manifest.chip_px if each == DYNAMIC else each for each in spec.shape] for spec in manifest.inputs
    }
    return {name: random.normal(-1, 1, (batch, *size)).astype(np.float32) for name, size in sizes.items()}


def in_turns(contenders: Mapping[str, Callable[[Chips], object]], chips: Chips, turns: int) -> dict[str, np.ndarray]:
    """Return seconds [turn, by the clock and of the processor] of each contender; its first run does not count."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for turn in range(turns + 1):
        for name, run in contenders.items():
            started = time.perf_counter(), time.process_time()
            run(chips)
            if turn:
                seconds[name].append((time.perf_counter() - started[0], time.process_time() - started[1]))
    return {name: np.array(values) for name, values in seconds.items()}


def compare(name: str, asked: argparse.Namespace) -> None:
    """Print the table of one model."""
    manifest = load_model(name, asked.model_repository).manifest
    contenders = {TORCH: TorchReference(NETWORKS[manifest.hazard](manifest), manifest).run}
    for precision in manifest.precisions:
        options = RuntimeOptions(precision=precision, threads=asked.threads)
        contenders[precision] = open_runtime(load_model(name, asked.model_repository, precision), options).run
    seconds = in_turns(contenders, chips_of(manifest, asked.batch), asked.turns)

    def times(runs: str, base: str) -> tuple[float, float]:
        clock, processor = np.median(seconds[base] / seconds[runs], axis=0)
        return float(clock), float(processor)

    print(f"\n{name} {manifest.version}: {manifest.chip_px} px, batch {asked.batch}, {asked.threads} threads, ", end="")
    print(f"{asked.turns} turns; x by the clock (x in processor time)\n")
    print(f"| runs | chips/s, best turn | x {TORCH} | x ONNX Runtime fp32 |\n|---|---|---|---|")
    for runs, values in seconds.items():
        ratios = " | ".join("{:.2f} ({:.2f})".format(*times(runs, base)) for base in (TORCH, "fp32"))
        print(f"| {runs} | {asked.batch / values[:, 0].min():.2f} | {ratios} |")
    best = max(manifest.precisions, key=lambda runs: times(runs, TORCH)[0])
    print("\nbest, {}: {:.2f} ({:.2f}) x {}, target {:g}".format(best, *times(best, TORCH), TORCH, AGAINST_TORCH))
    if "int8" in seconds:
        print("int8: {:.2f} ({:.2f}) x fp32, target {:g}".format(*times("int8", "fp32"), AGAINST_FP32), flush=True)


def main() -> None:
    """Measure every model that was named, all by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["flood", "volcano"])
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model-repository", type=Path, default=None)
    asked = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(asked.threads)
    for name in asked.models:
        compare(name, asked)


if __name__ == "__main__":
    main()
