import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
onnx = pytest.importorskip("onnx", reason="needs the extra train")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra cpu or gpu")

from export import flood  # noqa: E402 - after the skips: they need torch
from export.graph import OPSET, to_onnx  # noqa: E402
from export.graphs import FloodGraph  # noqa: E402
from tocsin.manifest import DYNAMIC, Calibration, ModelFacts  # noqa: E402


class Constant(torch.nn.Module):
    """A network whose logit is the same everywhere."""

    def __init__(self, logit):
        super().__init__()
        self.logit = torch.nn.Parameter(torch.tensor(logit))

    def forward(self, encoded):
        """Return the logit at every pixel."""
        return self.logit.expand(encoded.shape[0], 1, *encoded.shape[2:])


class Spreading(torch.nn.Module):
    """A network in which every pixel of a chip reaches every other."""

    def forward(self, encoded):
        """Return the mean of the chip plus its first channel."""
        return encoded.mean(dim=(1, 2, 3), keepdim=True) + encoded[:, :1]


def graph_of(network, checkpoint_facts, calibration=None):
    """Return the module that would be exported around a network."""
    calibration = calibration or Calibration(kind="none")
    return FloodGraph(network, checkpoint_facts.normalisation, calibration).eval()


@pytest.fixture(scope="module")
def session(tiny_graph):
    """Return an ONNX Runtime session of the small graph."""
    return onnxruntime.InferenceSession(tiny_graph, providers=["CPUExecutionProvider"])


def chip(seed, shape):
    """Return backscatter [batch, 2, H, W], dB, float32."""
    return np.random.default_rng(seed).normal(-15, 6, shape).astype(np.float32)


def test_calibration_is_inside(checkpoint_facts) -> None:
    """The probability is the sigmoid of logit / temperature + bias."""
    module = graph_of(Constant(3.0), checkpoint_facts, Calibration(kind="temperature", temperature=2.0, bias=0.5))
    water = module(torch.full((1, 2, 32, 32), -12.0))
    assert torch.allclose(water, torch.full((1, 1, 32, 32), 1 / (1 + np.exp(-2.0)), dtype=torch.float32))


def test_nan_only_where_no_band_was_measured(checkpoint_facts) -> None:
    """One missing band still gives an answer; two give NaN there and nowhere else."""
    s1 = torch.full((1, 2, 32, 32), -12.0)
    s1[0, 0, 3, 4] = torch.nan
    s1[0, :, 5, 6] = torch.nan
    s1[0, :, 7, 8] = -9999.0
    missing = torch.isnan(graph_of(Constant(0.0), checkpoint_facts)(s1))[0, 0]
    assert sorted(map(tuple, missing.nonzero().tolist())) == [(5, 6), (7, 8)]


def test_what_stands_for_missing_changes_no_other_pixel(checkpoint_facts) -> None:
    """NaN, infinity or a nodata value in a hole: every other pixel gets the same number, whatever the network mixes."""
    module = graph_of(Spreading(), checkpoint_facts)
    s1 = torch.from_numpy(chip(1, (1, 2, 32, 32)))
    results = []
    for nodata in (float("nan"), float("inf"), -9999.0):
        holed = s1.clone()
        holed[:, :, 8:16, 8:16] = nodata
        results.append(module(holed))
    assert torch.isnan(results[0][0, 0, 8:16, 8:16]).all()
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=0, equal_nan=True)


def test_is_a_valid_graph_of_the_stated_opset(tiny_graph) -> None:
    """The file passes ONNX's own checker, has one opset and no external data."""
    proto = onnx.load_from_string(tiny_graph)
    onnx.checker.check_model(proto, full_check=True)
    assert [(each.domain, each.version) for each in proto.opset_import] == [("", OPSET)]
    assert not any(tensor.external_data for tensor in proto.graph.initializer)


def test_names_and_free_axes_are_the_manifests(session, model_facts) -> None:
    """Inputs and outputs are named and shaped as the manifest says, with batch, height and width free."""
    for given, specs in ((session.get_inputs(), model_facts.inputs), (session.get_outputs(), model_facts.outputs)):
        assert [each.name for each in given] == [spec.name for spec in specs]
        for tensor, spec in zip(given, specs, strict=True):
            assert tensor.type == "tensor(float)"
            fixed = [size if isinstance(size, int) else DYNAMIC for size in tensor.shape]
            assert fixed == [DYNAMIC, *spec.shape]
            assert [size for size in tensor.shape if isinstance(size, str)] == ["batch", "height", "width"]


@pytest.mark.parametrize("shape", [(1, 2, 32, 32), (5, 2, 32, 96), (2, 2, 128, 64)])
def test_takes_any_batch_and_multiple_of_32(session, shape) -> None:
    """Sizes that were not traced run, and give one value per pixel."""
    (water,) = session.run(None, {"s1": chip(0, shape)})
    assert water.shape == (shape[0], 1, *shape[2:])
    assert np.isfinite(water).all()


def test_a_result_does_not_depend_on_its_neighbours(session) -> None:
    """A chip gives the same bits alone, in a batch, and beside a chip of NaN."""
    chips = chip(0, (3, 2, 64, 64))
    chips[1] = np.nan
    (together,) = session.run(None, {"s1": chips})
    for index in range(3):
        (alone,) = session.run(None, {"s1": chips[index : index + 1]})
        np.testing.assert_array_equal(alone[0], together[index])


def test_explains_itself(session, model_facts) -> None:
    """The facts come back from the metadata of the file alone, as a runtime shows it."""
    assert ModelFacts.from_metadata(session.get_modelmeta().custom_metadata_map) == model_facts


def test_holds_no_path_of_this_machine(tiny_graph) -> None:
    """Neither source files nor folders of the machine that exported it are in the file, nor any stack trace."""
    folders = (Path(flood.__file__).resolve().parents[1], Path(sys.prefix), Path.home(), Path.cwd())
    for trace in (*(str(folder).encode() for folder in folders), b"site-packages", b".py", b"line "):
        assert trace not in tiny_graph
    proto = onnx.load_from_string(tiny_graph)
    assert not any(node.metadata_props or node.doc_string for node in proto.graph.node)


AGAIN = """
import sys
from pathlib import Path
from export.graph import to_onnx
from export.model import prepare
prepared = prepare(Path(sys.argv[1]))
Path(sys.argv[2]).write_bytes(to_onnx(prepared.module, prepared.facts))
"""


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(tiny_checkpoint, tiny_graph, tmp_path, root) -> None:
    """Neither the process, nor its hash seed, nor the working directory shows in the graph."""
    out = tmp_path / "again.onnx"
    environment = os.environ | {"PYTHONHASHSEED": "12345", "PYTHONPATH": str(root)}
    subprocess.run(
        [sys.executable, "-c", AGAIN, str(tiny_checkpoint), str(out)],
        check=True,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
    )
    assert out.read_bytes() == tiny_graph


def test_the_same_process_writes_the_same_bytes(checkpoint_facts, model_facts) -> None:
    """Exporting twice in one process gives the same file, too."""
    module = graph_of(Constant(1.0), checkpoint_facts)
    assert to_onnx(module, model_facts) == to_onnx(module, model_facts)
