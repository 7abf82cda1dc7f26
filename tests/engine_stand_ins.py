"""A small convolving model in both precisions, and fakes of CUDA and TensorRT; conftest loads this.

The fakes are as lazy as a card: what is queued on a stream happens when somebody waits for the stream, so that a result
that is read too early, or an input that is overwritten too early, is wrong. A fake plan is the graph itself, and ONNX
Runtime computes it between addresses of fake memory.
"""

import ctypes
import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest

from tocsin.engines import Card
from tocsin.errors import RuntimeUnavailableError


def convolving_graph(*, half=True, odd=()):
    """Return a graph like the shipped ones: NaN masked, two convolutions, a probability, NaN where nothing was seen.

    The convolutions compute in half precision when asked; `odd` names operators that are put behind the probability.
    """
    helper = pytest.importorskip("onnx.helper", reason="needs the extra train")
    from onnx import TensorProto, numpy_helper

    rng = np.random.default_rng(5)
    inner, numbers = (TensorProto.FLOAT16, np.float16) if half else (TensorProto.FLOAT, np.float32)
    constants = [
        numpy_helper.from_array(rng.normal(0, 0.02, (8, 2, 3, 3)).astype(numbers), "first"),
        numpy_helper.from_array(rng.normal(0, 0.3, (1, 8, 3, 3)).astype(numbers), "second"),
        numpy_helper.from_array(np.float32(0), "zero"),
        numpy_helper.from_array(np.float32(np.nan), "unknown"),
        numpy_helper.from_array(np.array([1], np.int64), "bands"),
    ]
    nodes = [
        helper.make_node("IsNaN", ["s1"], ["missing"], name="find"),
        helper.make_node("Where", ["missing", "zero", "s1"], ["filled"], name="mask"),
        helper.make_node("Cast", ["filled"], ["narrow"], to=inner, name="down"),
        helper.make_node("Conv", ["narrow", "first"], ["a"], pads=[1] * 4, name="convolve"),
        helper.make_node("Relu", ["a"], ["b"], name="bend"),
        helper.make_node("Conv", ["b", "second"], ["c"], pads=[1] * 4, name="gather"),
        helper.make_node("Cast", ["c"], ["logit"], to=TensorProto.FLOAT, name="up"),
        helper.make_node("Sigmoid", ["logit"], ["p0"], name="probability"),
        *(helper.make_node(kind, [f"p{k}"], [f"p{k + 1}"], name=f"odd{k}") for k, kind in enumerate(odd)),
        helper.make_node("Cast", ["missing"], ["holes"], to=TensorProto.FLOAT, name="count"),
        helper.make_node("ReduceMin", ["holes", "bands"], ["both"], keepdims=1, name="nothing"),
        helper.make_node("Cast", ["both"], ["unseen"], to=TensorProto.BOOL, name="unseen"),
        helper.make_node("Where", ["unseen", "unknown", f"p{len(odd)}"], ["water"], name="say"),
    ]
    size = ["height", "width"]
    graph = helper.make_graph(
        nodes,
        "convolving",
        [helper.make_tensor_value_info("s1", TensorProto.FLOAT, ["batch", 2, *size])],
        [helper.make_tensor_value_info("water", TensorProto.FLOAT, ["batch", 1, *size])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return model.SerializeToString()


@pytest.fixture(scope="session")
def make_convolving_graph():
    """Return the function that makes that graph."""
    return convolving_graph


@pytest.fixture(scope="session")
def convolving_models(tmp_path_factory, logistic_models):
    """Return a repository with that model under the name flood, in fp32 and fp16, chips of 64 px."""
    repository = tmp_path_factory.mktemp("convolving")
    (repository / "flood" / "1").mkdir(parents=True)
    facts = json.loads((logistic_models / "flood" / "manifest.json").read_text())
    row = facts["artifacts"][0]
    facts["artifacts"] = []
    for precision, name in (("fp32", "model.onnx"), ("fp16", "model.fp16.onnx")):
        content = convolving_graph(half=precision == "fp16")
        (repository / "flood" / "1" / name).write_bytes(content)
        same = {"path": f"1/{name}", "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        limits = {"limit_difference": 2e-3, "limit_flipped": 5e-3}
        facts["artifacts"].append(row | same | {"precision": precision, "parity": row["parity"] | limits})
    (repository / "flood" / "manifest.json").write_text(json.dumps(facts))
    return repository


@pytest.fixture(scope="session")
def rtx_plan():
    """Return a plan of the FP16 graph that the real TensorRT for RTX built, for one kind of card."""
    trt = pytest.importorskip("tensorrt_rtx", reason="needs the extra tensorrt-rtx")
    from export.engine_plan import build, parse
    from tocsin.engines import EngineKey, InputRange

    graph = convolving_graph()
    key = EngineKey(
        model="flood",
        graph_sha256=hashlib.sha256(graph).hexdigest(),
        precision="fp16",
        flavour="rtx",
        tensorrt=trt.__version__,
        capabilities=("8.9",),
        profile=(InputRange(name="s1", smallest=(1, 2, 32, 32), usual=(2, 2, 64, 64), largest=(8, 2, 64, 64)),),
    )
    return build(parse(trt, graph, "fp16"), key)


class FakeCuda:
    """A card of compute capability 8.9 whose memory is the host's, and whose streams do nothing until waited for."""

    def __init__(self, capability="8.9", room=1 << 30):
        self.capability = capability
        self.room = room
        self.memory = {}
        self.queues = {}
        self.waits = 0

    def card(self):
        """Return the card."""
        return Card("Fake RTX", self.capability)

    def stream(self):
        """Return a new stream."""
        self.queues[len(self.queues) + 1] = []
        return len(self.queues)

    def wait(self, stream):
        """Do what was queued, in order."""
        self.waits += 1
        while self.queues[stream]:
            self.queues[stream].pop(0)()

    def allocate(self, size):
        """Return new memory, full of what is no answer."""
        if size > self.room:
            raise RuntimeUnavailableError("CUDA, whose cudaMalloc failed", "memory", "free some")
        block = self.pinned(size)
        return block.ctypes.data

    def pinned(self, size):
        """Return new memory, full of what is no answer."""
        block = np.full(size, 0xAB, np.uint8)
        self.memory[block.ctypes.data] = block
        return block

    def upload(self, address, source, stream):
        """Queue a copy."""
        self.queues[stream].append(lambda: ctypes.memmove(address, source.ctypes.data, source.nbytes))

    def download(self, target, address, stream):
        """Queue a copy."""
        self.queues[stream].append(lambda: ctypes.memmove(target.ctypes.data, address, target.nbytes))

    def free(self, stream, addresses, pinned):
        """Forget memory that is known, once."""
        self.wait(stream)
        for address in [*addresses, *(block.ctypes.data for block in pinned)]:
            del self.memory[address]


class FakeEngine:
    """An engine whose plan is an ONNX graph; `trt.gain` spoils its answers, as a card that computes wrongly would."""

    def __init__(self, trt, plan):
        import onnxruntime

        self.trt = trt
        self.session = onnxruntime.InferenceSession(plan)
        self.tensors = {item.name: "INPUT" for item in self.session.get_inputs()}
        self.tensors |= {item.name: "OUTPUT" for item in self.session.get_outputs()}
        self.num_io_tensors = len(self.tensors)
        self.contexts = []

    def get_tensor_name(self, index):
        """Return the name of a tensor."""
        return list(self.tensors)[index]

    def get_tensor_mode(self, name):
        """Return whether it is an input or an output."""
        return self.tensors[name]

    def get_tensor_dtype(self, _name):
        """Return its type."""
        return self.trt.border

    def create_runtime_config(self):
        """Return a configuration with a runtime cache."""
        return FakeRuntimeConfig(self.trt)

    def create_execution_context(self, config=None):
        """Return a context; None when the card is full."""
        if self.trt.full:
            return None
        self.contexts.append(FakeContext(self, config))
        return self.contexts[-1]


class FakeContext:
    """Runs the graph between the addresses that it was given."""

    def __init__(self, engine, config):
        self.engine = engine
        self.config = config
        self.addresses = {}
        self.shapes = {}

    def set_tensor_address(self, name, address):
        """Remember where a tensor lies."""
        self.addresses[name] = address
        return name in self.engine.tensors

    def set_input_shape(self, name, shape):
        """Remember a shape; more than eight chips are refused."""
        self.shapes[name] = tuple(shape)
        return shape[0] <= 8

    def get_tensor_shape(self, name):
        """Return a shape: of an output one band of the input's size, unknown as long as that is."""
        if name in self.shapes or not self.shapes:
            return self.shapes.get(name, (-1,))
        batch, _, *size = next(iter(self.shapes.values()))
        return (batch, 1, *size)

    def execute_async_v3(self, stream):
        """Queue the computation."""
        shapes, addresses = dict(self.shapes), dict(self.addresses)

        def compute():
            feed = {name: at(addresses[name], shape) for name, shape in shapes.items()}
            names = [name for name, mode in self.engine.tensors.items() if mode == "OUTPUT"]
            for name, array in zip(names, self.engine.session.run(names, feed), strict=True):
                spoiled = array * np.float32(self.engine.trt.gain)
                at(addresses[name], array.shape)[...] = spoiled

        self.engine.trt.cuda.queues[stream].append(compute)
        return not self.engine.trt.broken


def at(address, shape):
    """Return float32 memory at an address."""
    return np.ctypeslib.as_array((ctypes.c_float * int(np.prod(shape))).from_address(address)).reshape(shape)


class FakeRuntimeConfig:
    """The part of a runtime configuration that holds the cache."""

    def __init__(self, trt):
        self.cache = SimpleNamespace(
            deserialize=lambda blob: trt.caches_read.append(blob) or blob == b"kernels", serialize=lambda: b"kernels"
        )
        self.used = None

    def create_runtime_cache(self):
        """Return the cache."""
        return self.cache

    def set_runtime_cache(self, cache):
        """Use it."""
        self.used = cache


class FakeTensorRT(SimpleNamespace):
    """The module, as far as running an engine goes."""

    def __init__(self, cuda):
        super().__init__(cuda=cuda, __version__="11.4.0.106", gain=1.0, full=False, broken=False, border="FLOAT")
        self.caches_read = []
        self.refitted = []
        self.missing = []
        self.host_code = []
        self.DataType = SimpleNamespace(FLOAT="FLOAT")
        self.TensorIOMode = SimpleNamespace(INPUT="INPUT")

        class ILogger:
            Severity = SimpleNamespace(ERROR=1, INTERNAL_ERROR=0, INFO=3)

        self.ILogger = ILogger

    def Runtime(self, logger):  # noqa: N802 - TensorRT's name
        """Return what loads plans; a plan that is no graph is refused with a reason."""
        runtime = SimpleNamespace(engine_host_code_allowed=False)

        def load(plan):
            self.host_code.append(runtime.engine_host_code_allowed)
            if plan == b"of another version":
                logger.log(1, "Version tag does not match.")
                logger.log(3, "This is not of interest.")
                return None
            return FakeEngine(self, plan)

        runtime.deserialize_cuda_engine = load
        return runtime

    def Refitter(self, _engine, _logger):  # noqa: N802 - TensorRT's name
        """Return what gives an engine its weights."""
        return SimpleNamespace(get_missing_weights=lambda: self.missing, refit_cuda_engine=lambda: True)

    def OnnxParserRefitter(self, _refitter, _logger):  # noqa: N802 - TensorRT's name
        """Return what reads them from a graph."""
        return SimpleNamespace(refit_from_file=lambda path: self.refitted.append(path) or True)


@pytest.fixture
def fake_cuda():
    """Return a fake card."""
    return FakeCuda()


@pytest.fixture
def fake_tensorrt(fake_cuda):
    """Return a fake TensorRT on that card."""
    return FakeTensorRT(fake_cuda)


@pytest.fixture
def fake_engine(convolving_models, tmp_path):
    """Return a function that writes an engine whose plan is the model's FP16 graph, with an exam that it passes."""
    from tocsin import engines
    from tocsin.manifest import FileRecord
    from tocsin.repository import load_model
    from tocsin.runtimes import RuntimeOptions
    from tocsin.runtimes.onnx import OnnxRuntime

    model = load_model("flood", convolving_models, "fp16")
    rng = np.random.default_rng(7)
    chips = rng.uniform(-30, 0, (2, 2, 32, 64)).astype(np.float32)
    chips[:, :, :9] = np.nan
    with OnnxRuntime(model.folder / "1/model.onnx", RuntimeOptions()) as runtime:
        usual = engines.ExamCase({"s1": chips}, runtime.run({"s1": chips}))

    def write(folder=tmp_path / "engines", plan=None, case=usual, **changes):
        plan, exam = model.path.read_bytes() if plan is None else plan, engines.write_exam([case])
        key = {
            "model": "flood",
            "graph_sha256": model.sha256,
            "precision": "fp16",
            "flavour": "datacenter",
            "tensorrt": "11.4.0.106",
            "capabilities": ("8.9",),
            "profile": (
                {"name": "s1", "smallest": (1, 2, 32, 32), "usual": (2, 2, 64, 64), "largest": (8, 2, 64, 64)},
            ),
        }
        key = engines.EngineKey.model_validate(key | changes)
        target = folder / "flood" / key.id
        target.mkdir(parents=True, exist_ok=True)

        def record(name, content):
            (target / name).write_bytes(content)
            return FileRecord(path=name, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))

        made = engines.EngineRecord(
            key=key,
            layers=engines.LayerCount(floating=6, half=3, heavy=2, heavy_half=2),
            plan=record(engines.PLAN, plan),
            exam=record(engines.EXAM, exam),
            tolerances={"water": 2e-3},
            parity=None,
            tocsin="0.1.0",
        )
        (target / engines.RECORD).write_text(made.to_json())
        return engines.Engine(target, made)

    return write
