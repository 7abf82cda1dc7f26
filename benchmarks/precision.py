"""What a precision is worth on this CPU: chips a second of every graph of a model, beside its network in PyTorch.

    python -m benchmarks.precision [flood volcano ...] [--turns 9] [--batch 1] [--threads N]

All run in turns in one process on the same chips and threads, so that whatever else the machine does falls on all; each
ratio is the median over the turns of the ratios within a turn. PyTorch runs the same network eagerly in float32, with
random weights (they cost the same), its scaling and calibration included.
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
from tocsin.runtimes import RuntimeOptions, available_cores, open_runtime
from training.networks import NetworkConfig, build
from training.networks.landslide import LandslideConfig, LandslideNetwork
from training.networks.volcano import VolcanoConfig, VolcanoNetwork

Chips = Mapping[str, np.ndarray]
TARGETS = {("int8", "fp32"): 2.0}
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
    """Return seconds [turn] of each contender, after one run of each that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(turns + 1):
        for name, run in contenders.items():
            started = time.perf_counter()
            run(chips)
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return {name: np.array(values) for name, values in seconds.items()}


def compare(name: str, asked: argparse.Namespace) -> None:
    """Print the table of one model."""
    manifest = load_model(name, asked.model_repository).manifest
    module = NETWORKS[manifest.hazard](manifest)
    contenders = {TORCH: TorchReference(module, manifest).run}
    for precision in manifest.precisions:
        options = RuntimeOptions(precision=precision, threads=asked.threads)
        contenders[precision] = open_runtime(load_model(name, asked.model_repository, precision), options).run
    seconds = in_turns(contenders, chips_of(manifest, asked.batch), asked.turns)
    print(f"\n{name} {manifest.version}, {manifest.chip_px} px, batch {asked.batch}, {asked.threads} threads, ", end="")
    print(f"{asked.turns} turns\n\n| runs | chips/s, best turn | x {TORCH} | x ONNX Runtime fp32 |\n|---|---|---|---|")
    for runs, values in seconds.items():
        ratios = [float(np.median(seconds[base] / values)) for base in (TORCH, "fp32")]
        print(f"| {runs} | {asked.batch / values.min():.2f} | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    best = max(float(np.median(seconds[TORCH] / seconds[each])) for each in manifest.precisions)
    print(f"\nbest precision {best:.2f} x {TORCH} (target {AGAINST_TORCH:g})")
    if "int8" in seconds:
        print(f"int8 {np.median(seconds['fp32'] / seconds['int8']):.2f} x fp32 (target {TARGETS['int8', 'fp32']:g})")


def main() -> None:
    """Measure every model that was named, all by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["flood", "volcano"])
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--model-repository", type=Path, default=None)
    asked = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(asked.threads)
    for name in asked.models:
        compare(name, asked)


if __name__ == "__main__":
    main()
