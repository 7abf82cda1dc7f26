"""A real Triton server: the same maps, and every fault survived without a hand. The tests share one server."""

import json
import os
import signal
import subprocess
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

pytestmark = pytest.mark.triton
pytest.importorskip("tritonclient.grpc", reason="needs the extra triton")

import tocsin  # noqa: E402
from tocsin.errors import ModelInvalidError, RuntimeUnavailableError, UsageError  # noqa: E402
from tocsin.runtimes import RuntimeOptions, open_runtime  # noqa: E402
from tocsin.runtimes.triton_wire import Away, Endpoint, HttpWire, Question, open_wire  # noqa: E402
from tocsin.simulate import FloodSettings, NumpyRandom, flood_scene  # noqa: E402
from tocsin.simulate.demo_landslide import write_landslides  # noqa: E402

TRANSPORTS = ("grpc", "http", "memory")
CLIENTS = 200


def chips(batch=1, size=32, seed=0):
    """Return chips [batch, 2, size, size] in dB with holes."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(-30, 0, (batch, 2, size, size)).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    return values


@pytest.fixture(scope="module")
def flood_file(tmp_path_factory):
    """Return a flood scene of two chips with a hole."""
    import rasterio
    from affine import Affine

    scene = flood_scene(NumpyRandom(3), (500, 800), FloodSettings(pre_event=False))
    values = np.asarray(scene.post_db, dtype=np.float32)
    values[:, 100:140, 100:180] = np.nan
    path = tmp_path_factory.mktemp("scene") / "flood.tif"
    profile = {"driver": "GTiff", "dtype": "float32", "count": 2, "nodata": float("nan"), "crs": "EPSG:32630"}
    with rasterio.open(
        path, "w", height=500, width=800, transform=Affine(10.0, 0.0, 5e5, 0.0, -10.0, 4.4e6), **profile
    ) as raster:
        raster.write(values)
        raster.descriptions = ("VV", "VH")
    return path


def classes(result):
    """Return the class raster of a result."""
    import rasterio

    with rasterio.open(result.products["class"]) as raster:
        return raster.read(1)


def same_classes(result, reference):
    """Assert that two results hold the same class raster, and that it is not all the same class."""
    ours, theirs = classes(result), classes(reference)
    assert len(np.unique(theirs)) > 1
    np.testing.assert_array_equal(ours, theirs)


@pytest.fixture(scope="module")
def flood_in_process(flood_file, tmp_path_factory):
    """Return the result of the flood scene without a server."""
    return tocsin.score("flood", post=flood_file, out=tmp_path_factory.mktemp("local"), quiet=True)


@pytest.fixture(scope="module")
def landslide_files(tmp_path_factory):
    """Return the acquisitions of a small simulated pair."""
    files = write_landslides(tmp_path_factory.mktemp("landslides"), (150, 130))
    return {"pre": files.pre, "post": files.post}


@pytest.fixture(scope="module")
def landslides_in_process(landslide_files, tmp_path_factory):
    """Return what the shipped model says of them in this process."""
    return tocsin.score("landslide", **landslide_files, out=tmp_path_factory.mktemp("local"), quiet=True)


def test_ready_names_every_model(triton_server):
    """The first event lists what is served, each after a chip; a corrupt graph is named with the reason."""
    ready = triton_server.wait_for("ready")
    assert ready["models"] == ["busy", "flood", "identity", "landslide", "volcano"]
    refused = triton_server.wait_for("model_refused", "corrupt")
    assert "model.onnx of 8 bytes" in refused["message"]
    assert "not ready: corrupt" in ready["message"]
    model = triton_server.model()
    absent = replace(model, manifest=model.manifest.model_copy(update={"name": "corrupt"}))
    with pytest.raises(RuntimeUnavailableError, match="corrupt"):
        open_runtime(absent, RuntimeOptions(runtime=triton_server.url("grpc")))


def test_speaks_to_whoever_asks(triton_server):
    """Readiness and metrics are where a monitor looks for them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{triton_server.http}/v2/health/ready", timeout=60) as answer:
        assert answer.status == 200
    with urllib.request.urlopen(f"http://127.0.0.1:{triton_server.metrics}/metrics", timeout=60) as answer:
        assert b"nv_inference_request_success" in answer.read()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_same_flood_map(triton_server, flood_file, flood_in_process, tmp_path, transport):
    """Class rasters are those of a run in this process, pixel for pixel, and provenance says what ran."""
    options = {"runtime": triton_server.url(transport), "shared_memory": transport == "memory", "batch": 2}
    result = tocsin.score("flood", post=flood_file, out=tmp_path, quiet=True, **options)
    same_classes(result, flood_in_process)
    told = result.provenance
    assert (told.runtime, told.device, told.precision) == ("http" if transport == "http" else "grpc", "cpu", "fp32")
    assert told.sha256 == flood_in_process.provenance.sha256


def test_the_same_volcano_map(triton_server, tmp_path, write_raster):
    """A model with four outputs gives the same classes and the same verdict over gRPC and shared memory."""
    from affine import Affine

    row, col = np.mgrid[:230, :230] - 115
    rng = np.random.default_rng(1)
    phase = 14 * np.exp(-(row**2 + col**2) / 900) + rng.normal(0, 0.3, row.shape)
    phase = np.angle(np.exp(1j * phase)).astype(np.float32)[np.newaxis]
    phase[:, :20, :30] = np.nan
    path = write_raster(tmp_path / "ifg.tif", phase, transform=Affine(100.0, 0, 5e5, 0, -100.0, 4.4e6))
    results = [
        tocsin.score("volcano", interferogram=path, out=tmp_path / tag, quiet=True, runtime=runtime)
        for tag, runtime in (("local", "onnx"), ("server", triton_server.url("memory")))
    ]
    np.testing.assert_array_equal(*map(classes, results))
    assert results[0].summary == results[1].summary


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_same_landslide_map(triton_server, landslide_files, landslides_in_process, tmp_path, transport):
    """A model of three inputs, without heights, gives the same cells and the same mask."""
    options = {"runtime": triton_server.url(transport), "shared_memory": transport == "memory"}
    result = tocsin.score("landslide", **landslide_files, out=tmp_path, quiet=True, **options)
    np.testing.assert_array_equal(classes(result), classes(landslides_in_process))
    assert result.summary == landslides_in_process.summary
    assert result.provenance.sha256 == landslides_in_process.provenance.sha256


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_batch_comes_back_in_order(triton_server, transport):
    """Samples travel at the same time and are put together in order; a chip of NaN only stays NaN, and alone."""
    given = chips(7)
    given[3] = np.nan
    with triton_server.open(transport=transport) as runtime:
        assert runtime.shared_memory == (transport == "memory")
        np.testing.assert_array_equal(runtime.run({"s1": given})["water"], given[:, :1])


@pytest.mark.parametrize("transport", ["grpc", "http"])
@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 2, 4096, 32), (9, 2, 32, 32)])
def test_a_wrong_shape_is_the_clients_fault(triton_server, transport, shape):
    """Who does not use our client is told what is wrong, in one line and without a traceback."""
    wire = open_wire(Endpoint.parse(triton_server.url(transport)))
    question = Question({"s1": np.zeros(shape, np.float32)}, {"water": (shape[0], 1, *shape[2:])})
    with pytest.raises(UsageError) as raised:
        wire.ask("identity", question, 60.0)
    wire.close()
    assert "Traceback" not in str(raised.value)


def test_other_weights_are_refused(triton_server):
    """A manifest of another graph under the same name is not answered with this one's weights."""
    model = triton_server.model("flood")
    other = model.artifact.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(ModelInvalidError, match=model.sha256):
        open_runtime(replace(model, artifact=other), RuntimeOptions(runtime=triton_server.url("grpc")))


def test_a_full_queue_refuses(triton_server):
    """Beyond the queue clients are refused at once with the code for it; those who wait get the right answer."""
    given = [chips(seed=k) for k in range(CLIENTS)]
    refusals = []

    def ask(k):
        wire = open_wire(Endpoint.parse(triton_server.url(("grpc", "http")[k % 2])))
        try:
            return wire.ask("busy", Question({"s1": given[k]}, {"water": (1, 1, 32, 32)}), 300.0)["water"]
        except Away as away:
            refusals.append(away)
            return None
        finally:
            wire.close()

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(ask, range(CLIENTS)))
    assert refusals
    assert {str(away) for away in refusals if not away.queue_full} == set()
    right = [k for k, answer in enumerate(answers) if answer is not None]
    assert len(right) + len(refusals) == CLIENTS
    assert right
    for k in right:
        np.testing.assert_array_equal(answers[k], given[k][:, :1])
    # Its canary would slow down every test to come.
    wire = HttpWire(Endpoint.parse(triton_server.url("http")))
    wire.unload("busy")
    wire.close()


def test_two_hundred_clients(triton_server):
    """All at the same time, every client gets the answer to its own chips."""

    def score(k):
        given = chips(2, seed=k)
        with triton_server.open(transport=TRANSPORTS[k % 3]) as runtime:
            return np.array_equal(runtime.run({"s1": given})["water"], given[:, :1], equal_nan=True)

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert all(pool.map(score, range(CLIENTS)))


def test_a_killed_backend_comes_back(triton_server):
    """The interpreter of a model is killed: the launcher loads the model anew, the client's batch is answered."""
    seen, given = len(triton_server.events), {"s1": chips(3, 64)}
    with triton_server.open("flood", "memory") as runtime:
        expected = runtime.run(given)["water"]
        os.kill(triton_server.stub("flood"), signal.SIGKILL)
        np.testing.assert_array_equal(runtime.run(given)["water"], expected)
    triton_server.wait_for("model_down", "flood", after=seen)
    triton_server.wait_for("model_back", "flood", after=seen)


def test_a_server_that_is_killed_mid_scene_comes_back(
    triton_server, flood_file, flood_in_process, tmp_path, monkeypatch
):
    """The server is killed between two chips: the scene goes on when it is back, and the map is the same."""
    from tocsin.runtimes.triton import TritonRuntime

    seen, run, calls = len(triton_server.events), TritonRuntime.run, []

    def run_and_kill(self, inputs):
        calls.append(1)
        if len(calls) == 2:
            os.kill(triton_server.server(), signal.SIGKILL)
        return run(self, inputs)

    monkeypatch.setattr(TritonRuntime, "run", run_and_kill)
    options = {"runtime": triton_server.url("memory"), "deadline_s": 300}
    result = tocsin.score("flood", post=flood_file, out=tmp_path, quiet=True, **options)
    assert len(calls) == 2
    same_classes(result, flood_in_process)
    triton_server.wait_for("server_down", after=seen)
    triton_server.wait_for("ready", "flood", after=seen)


def control(server, *words):
    """Return exit code and JSON of `tocsin triton load` or `unload`."""
    command = [*server.command, "triton", *words, "--http-port", str(server.http), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, json.loads(done.stdout)


def test_models_are_loaded_and_unloaded_by_name(triton_server):
    """An unloaded model is gone until it is loaded again; the launcher does not bring it back by itself."""
    seen = len(triton_server.events)
    assert control(triton_server, "unload", "identity") == (0, {"model": "identity", "state": "unloaded"})
    with pytest.raises(RuntimeUnavailableError, match="identity"):
        triton_server.open()
    assert control(triton_server, "unload", "absent")[1]["error"]["code"] == "model_unknown"
    assert control(triton_server, "load", "identity") == (0, {"model": "identity", "state": "loaded"})
    with triton_server.open() as runtime:
        np.testing.assert_array_equal(runtime.run({"s1": chips()})["water"], chips()[:, :1])
    assert [event["event"] for event in triton_server.events[seen:]] == []


def test_tls_an_admin_key_and_another_precision(guarded_server, monkeypatch):
    """Over gRPC with TLS who knows the authority gets what INT8 gives in process; without the key nothing changes."""
    server, paths = guarded_server
    model = server.model("flood", "int8")
    secure = RuntimeOptions(runtime=f"grpcs://localhost:{server.grpc}", precision="int8", deadline_s=60)
    with pytest.raises(RuntimeUnavailableError):
        open_runtime(model, secure)
    with pytest.raises(RuntimeUnavailableError):
        open_runtime(model, RuntimeOptions(runtime=server.url("grpc"), precision="int8"))
    monkeypatch.setenv("TOCSIN_TRITON_CA", paths["cert"])
    with open_runtime(model, RuntimeOptions(precision="int8")) as local:
        expected = local.run({"s1": chips(2, 64)})["water"]
    with open_runtime(model, secure) as runtime:
        assert runtime.precision == "int8"
        assert not runtime.shared_memory
        np.testing.assert_array_equal(runtime.run({"s1": chips(2, 64)})["water"], expected)
    with pytest.raises(ModelInvalidError, match="in int8"):
        open_runtime(server.model("flood"), secure.model_copy(update={"precision": "fp32"}))
    code, said = control(server, "unload", "flood")
    assert (code, said["error"]["code"]) == (5, "runtime_unavailable")
    assert control(server, "unload", "flood", "--admin-key-file", paths["admin"])[0] == 0
