"""The benchmark of a GPU host: what it counts and prints, and that it says clearly when there is no GPU."""

import subprocess
import sys

import numpy as np
import onnx
import pytest

pytest.importorskip("torch", reason="needs the extra train")

from tocsin.errors import RuntimeUnavailableError
from tocsin.repository import load_model
from tocsin.runtimes.cuda import CudaRuntime


@pytest.fixture(scope="module")
def gpu(root):
    """Return the module; benchmarks are no package of the distribution."""
    sys.path.insert(0, str(root))
    try:
        from benchmarks import gpu
    finally:
        sys.path.remove(str(root))
    return gpu


def test_without_a_card_it_says_so(gpu, monkeypatch, capsys) -> None:
    """On a machine without a GPU it fails at once, with one line that says why."""

    def refuse():
        raise RuntimeUnavailableError("CUDA, whose cudaSetDevice failed", "a card with a driver", "check nvidia-smi")

    try:
        CudaRuntime()
    except RuntimeUnavailableError:
        expected = "benchmarks.gpu needs a GPU: given "
    else:
        monkeypatch.setattr(gpu, "CudaRuntime", refuse)
        expected = "benchmarks.gpu needs a GPU: given CUDA, whose cudaSetDevice failed"
    monkeypatch.setattr(sys, "argv", ["benchmarks.gpu", "flood"])
    with pytest.raises(SystemExit) as caught:
        gpu.main()
    assert str(caught.value.code).startswith(expected)
    assert capsys.readouterr().out == ""


def test_multiplications_are_counted(gpu, make_convolving_graph) -> None:
    """Two convolutions of 3 x 3, 2 to 8 to 1 bands, over two chips of 32 x 64."""
    graph = onnx.load_from_string(make_convolving_graph())
    counted = gpu.multiplications(graph, {"s1": (2, 2, 32, 64)})
    assert counted == 2 * (2 * 32 * 64) * (8 * 2 * 9 + 1 * 8 * 9)


def test_shipped_graphs_have_known_shapes(gpu) -> None:
    """Every convolution of the shipped flood graph is counted: four times the pixels are four times the work."""
    path = load_model("flood").path
    small = gpu.multiplications(onnx.load(path), {"s1": (1, 2, 256, 256)})
    large = gpu.multiplications(onnx.load(path), {"s1": (1, 2, 512, 512)})
    assert large == 4 * small
    assert small > 1e9


def test_table_and_floors(gpu, passing_parity, convolving_models) -> None:
    """Ratios are medians within turns; floors come from the rates that were measured, and only from those."""
    seconds = {gpu.EAGER: np.array([0.2, 0.4, 0.3]), "engine": np.array([0.1, 0.1, 0.1])}
    rows = list(gpu.table(seconds, dict.fromkeys(seconds, passing_parity), 8))
    assert rows[2].startswith(f"| {gpu.EAGER} | 40.0 | 1.00 | 6e-08 (0.0001) | 0.0000% (0.0100%) | same |")
    assert rows[3].startswith("| engine | 80.0 | 3.00 |")

    model = load_model("flood", convolving_models)
    chips = {"s1": np.zeros((2, 2, 64, 64), np.float32)}
    lines = list(gpu.floors(model, chips, {"copy": 98304.0, "fp16": 2 * 64 * 64 * 432.0}))
    assert lines == [
        "copies: 0.10 MB at 0.0 GB/s, at most 2 chips/s",
        "arithmetic in fp16: 0.00 GFLOP at 0.0 TFLOP/s, at most 2 chips/s",
    ]


def test_what_is_missing_is_said(gpu, convolving_models, monkeypatch, capsys) -> None:
    """A runtime that is not there is a line of the output, never a row that is left out in silence."""

    def refuse(*_):
        raise RuntimeUnavailableError("a card that is not there", "a card", "plug one in")

    monkeypatch.setattr(gpu, "open_runtime", refuse)
    monkeypatch.setattr(gpu, "CudaRuntime", refuse)
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    with gpu.ExitStack() as stack:
        assert list(gpu.with_torch(load_model("flood"))) == []
        assert list(gpu.with_onnx("flood", convolving_models, None, stack)) == []
        assert list(gpu.with_tensorrt("flood", convolving_models, None, stack)) == []
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1 + 2 + 4
    assert all(line.startswith("not available: ") for line in said)


@pytest.mark.gpu
@pytest.mark.slow
def test_on_a_card(root) -> None:
    """On a GPU host one run gives a table of every model."""
    command = [sys.executable, "-m", "benchmarks.gpu", "flood", "--turns", "1", "--batch", "1"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "copies: " in done.stdout
