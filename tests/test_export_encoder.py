"""A flood model over an encoder becomes a graph as any other."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("onnx", reason="needs the extra train")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra cpu")

from export import flood  # noqa: E402 - after the skips: they need torch
from export.graph import to_onnx  # noqa: E402
from tocsin.manifest import Architecture  # noqa: E402
from training.networks import NetworkConfig, build, parameter_count  # noqa: E402
from training.start import Start, adapt, merge  # noqa: E402

VIT = {"family": "vit", "widths": [16], "depths": [2], "heads": [2], "patch_px": 8, "chip_px": 32, "channels_in": 4}
CONFIG = NetworkConfig.model_validate({"family": "encoder", "encoder": VIT, "decoder_width": 8})


@pytest.mark.slow
def test_a_transformer_with_merged_updates_becomes_a_graph_of_free_size(checkpoint_facts):
    """Weights that low-rank updates were merged into give a graph that says at any size what torch says."""
    torch.manual_seed(4)
    network = build(CONFIG)
    adapt(network.encoder, Start(learns="lora", rank=2))
    with torch.no_grad():
        for name, each in network.named_parameters():
            if "lora_B" in name:
                each.normal_(0, 0.2)
    merge(network.encoder, torch.randn(1, 4, 32, 32))
    network.requires_grad_(True)
    architecture = Architecture(name="vit", parameters=parameter_count(network), config=CONFIG.model_dump(mode="json"))
    facts = checkpoint_facts.model_copy(update={"architecture": architecture})
    module = flood.module(facts, network.state_dict())
    graph = to_onnx(module, flood.facts(facts))
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    for shape in ((1, 2, 32, 32), (3, 2, 64, 96)):
        s1_db = random.normal(-15, 4, shape).astype(np.float32)
        s1_db[:, :, :5] = np.nan
        (said,) = session.run(None, {"s1": s1_db})
        with torch.inference_mode():
            expected = module(torch.from_numpy(s1_db)).numpy()
        np.testing.assert_allclose(said, expected, atol=1e-5)
        assert np.isnan(said[:, :, :5]).all()
