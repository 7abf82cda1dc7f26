"""Compare networks for flood: equal short training on simulated scenes, judged on real chips that none has seen.

    python -m benchmarks.networks --data DATA [--steps 400] [--work DIR] [--only NAME]

Prints one row a network: parameters, size of the FP32 graph, pooled and mean IoU of water on the hand-labelled chips of
Sen1Floods11 (no real label was used), and milliseconds for a 512 px chip in ONNX Runtime with two threads, all measured
in the same run.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from export.graph import to_onnx
from export.model import prepare
from tocsin.evaluation import add_counts, count_water
from tocsin.manifest import Architecture, Calibration, DataSource, MetricRow, Training
from training.checkpoints import CheckpointFacts, save
from training.datasets import Sen1Floods11, SimulatedFloods
from training.fit import SIMULATED_SEED, Run, Weights, fit, predict
from training.networks import NetworkConfig, build, parameter_count
from training.recipe import Recipe, Stage, read_recipe

CANDIDATES = {
    "U-Net 16": NetworkConfig(widths=(16, 32, 64, 128, 256)),
    "U-Net 32, half resolution": NetworkConfig(widths=(32, 64, 128, 224), stem_stride=2),
    "Residual U-Net 32, half resolution": NetworkConfig(stage="residual", widths=(32, 64, 128, 192), stem_stride=2),
    "ConvNeXt U-Net 40, half resolution": NetworkConfig(stage="convnext", widths=(40, 80, 160, 240), stem_stride=2),
    "SegFormer-B0": NetworkConfig(family="segformer", widths=(32, 64, 160, 256)),
}
REPEATS = 5


def main() -> None:
    """Train, judge and time every candidate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds sen1floods11")
    parser.add_argument("--work", type=Path, default=Path("checkpoints/networks"))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--only", choices=sorted(CANDIDATES))
    arguments = parser.parse_args()
    base = read_recipe("flood")
    simulated = SimulatedFloods(
        base.data.simulated_chips, base.data.chip_px, SIMULATED_SEED, cache=arguments.work / "simulated.npz"
    )
    chips = tuple(Sen1Floods11(arguments.data / "sen1floods11").chips())
    print("| network | parameters | FP32 graph, MB | pooled IoU | mean IoU of wet chips | ms a 512 px chip |")
    print("|---|---|---|---|---|---|")
    for name, network in CANDIDATES.items():
        if arguments.only not in {None, name}:
            continue
        stage = Stage(name="compared", steps=arguments.steps, batch=16, learning_rate=1e-3)
        recipe = base.model_copy(update={"network": network, "stages": (stage,)})
        weights = fit(Run(recipe, arguments.work, (), (), simulated), recipe.stages)
        counts = []
        for chip, logits in zip(chips, predict(recipe, weights, chips), strict=True):
            water = torch.sigmoid(logits).numpy() >= recipe.threshold
            counts.append(count_water(water, chip.label, np.isfinite(chip.s1_db).all(axis=0)))
        mean = np.mean([count.iou for count in counts if count.labelled])
        megabytes, milliseconds = _graph(recipe, weights, arguments.work)
        row = f"{parameter_count(build(network)):,} | {megabytes:.1f} | {add_counts(counts).iou:.3f} | {mean:.3f}"
        print(f"| {name} | {row} | {milliseconds:.0f} |", flush=True)


def _graph(recipe: Recipe, weights: Weights, work: Path) -> tuple[float, float]:
    """Export the network and time it."""
    config = recipe.network.model_dump(mode="json")
    source = DataSource(name="simulated", chips=0, licence="Apache-2.0", attribution="none")
    metric = MetricRow(
        dataset="none",
        split="none",
        metric="none",
        value=0,
        baseline_name="none",
        baseline_value=0,
        n=1,
        command="none",
    )
    facts = CheckpointFacts(
        hazard="flood",
        name="compared",
        version="0.0.0",
        architecture=Architecture(name="compared", parameters=parameter_count(build(recipe.network)), config=config),
        normalisation=recipe.normalisation,
        calibration=Calibration(kind="none"),
        threshold=recipe.threshold,
        training=Training(data=(source,), seed=recipe.seed, recipe={}),
        metrics=(metric,),
        tocsin="0.0.0",
    )
    save(work / "compared.safetensors", weights, facts)
    prepared = prepare(work / "compared.safetensors")
    content = to_onnx(prepared.module, prepared.facts)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    chip = {"s1": np.random.default_rng(0).normal(-15, 4, (1, 2, 512, 512)).astype(np.float32)}
    session.run(None, chip)
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        session.run(None, chip)
        times.append(time.perf_counter() - start)
    return len(content) / 1e6, 1e3 * min(times)


if __name__ == "__main__":
    main()
