"""A small encoder, a simulated series: the fitted graph, its folder, and the commands around it."""

import csv
import json
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pystac.validation import validate_dict

onnx = pytest.importorskip("onnx", reason="needs the extra train")
pytest.importorskip("onnxruntime", reason="needs the extra cpu")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from export.anomaly.encoder import cut_encoder, running  # noqa: E402
from export.anomaly.fitting import FitRequest, fit_series, measure_parity  # noqa: E402
from export.anomaly.graph import fitted_graph  # noqa: E402
from tocsin.anomaly.fitting import fit, score  # noqa: E402
from tocsin.anomaly.manifest import GRAPH, INPUT, MANIFEST, MAP, SCORE, read_model  # noqa: E402
from tocsin.anomaly.settings import FitSettings  # noqa: E402
from tocsin.cli import main  # noqa: E402
from tocsin.errors import ModelInvalidError, ProductExistsError, UsageError, WrongDatesError  # noqa: E402
from tocsin.runtimes import RuntimeOptions  # noqa: E402
from tocsin.runtimes.onnx import OnnxRuntime  # noqa: E402

SHAPE = (90, 100)
EVENT = 20


def encoder_graph(path, names=("features_1", "features_2", "features_3")):
    """Write a graph as a volcano model has it: three strided convolutions of cosine, sine, validity, and a head."""
    random = np.random.default_rng(5)
    nodes = [
        helper.make_node("IsNaN", ["phase"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "phase"], ["angle"]),
        helper.make_node("Not", ["missing"], ["present"]),
        helper.make_node("Cast", ["present"], ["valid"], to=TensorProto.FLOAT),
        helper.make_node("Cos", ["angle"], ["cosine"]),
        helper.make_node("Sin", ["angle"], ["sine"]),
        helper.make_node("Concat", ["cosine", "sine", "valid"], ["map_0"], axis=1),
    ]
    constants = [numpy_helper.from_array(np.zeros((), np.float32), "zero")]
    channels, last = 3, "map_0"
    for number, (step, name) in enumerate(zip((4, 2, 2), names, strict=True)):
        weights = random.normal(0, 1 / step, (6, channels, step, step)).astype(np.float32)
        constants.append(numpy_helper.from_array(weights, f"weights_{number}"))
        nodes.append(helper.make_node("Conv", [last, f"weights_{number}"], [f"sum_{number}"], strides=[step, step]))
        nodes.append(helper.make_node("Relu", [f"sum_{number}"], [name]))
        channels, last = 6, name
    nodes.append(helper.make_node("ReduceMax", [last], ["deformation"], keepdims=0))
    graph = helper.make_graph(
        nodes,
        "volcano",
        [helper.make_tensor_value_info("phase", TensorProto.FLOAT, ["batch", 1, 224, 224])],
        [helper.make_tensor_value_info("deformation", TensorProto.FLOAT, None)],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def quiet(count, seed=0):
    """Return epochs of smooth delay, m, with a corner that is never measured."""
    random = np.random.default_rng(seed)
    row, col = np.mgrid[: SHAPE[0], : SHAPE[1]]
    mixed = random.uniform(-0.01, 0.01, (count, 2, 1, 1))
    motion = mixed[:, 0] * np.sin(row / 30) + mixed[:, 1] * np.cos(col / 40)
    motion = (motion + random.normal(0, 1e-3, motion.shape)).astype(np.float32)
    motion[:, :20, :30] = np.nan
    return motion


@pytest.fixture(scope="module")
def graph_path(tmp_path_factory):
    """Return the file of a volcano graph."""
    return encoder_graph(tmp_path_factory.mktemp("volcano") / "model.onnx")


@pytest.fixture(scope="module")
def model(graph_path):
    """Return what stands for the repository's model."""
    manifest = SimpleNamespace(
        name="volcano",
        version="1.2.3",
        architecture=SimpleNamespace(name="tiny"),
        licence="Apache-2.0",
        attribution="none",
    )
    return SimpleNamespace(path=graph_path, sha256="1" * 64, manifest=manifest)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """Write a series of 24 epochs with an uplift in epoch 20, fitted until epoch 15."""
    row, col = np.mgrid[: SHAPE[0], : SHAPE[1]]
    inc = quiet(24)
    inc[EVENT] += (0.15 * np.exp(-((row - 50) ** 2 + (col - 60) ** 2) / 150)).astype(np.float32)
    path = tmp_path_factory.mktemp("series") / "licsalert_014A_07688_131313.npz"
    write_series(path, inc)
    return path


def write_series(path, inc):
    """Write increments as a series of twelve-day steps."""
    np.savez(
        path,
        inc=inc,
        cml=np.cumsum(inc, axis=0),
        dates=np.array([str(day(at)) for at in range(len(inc))]),
        lats=np.linspace(1.0, 1.0 - 0.001 * (inc.shape[1] - 1), inc.shape[1]),
        lons=np.linspace(5.0, 5.0 + 0.001 * (inc.shape[2] - 1), inc.shape[2]),
        dem=np.zeros(inc.shape[1:]),
    )


def day(at):
    """Return the day of an epoch."""
    return date(2020, 1, 1) + timedelta(days=12 * at)


@pytest.fixture(scope="module")
def fitted_folder(series, model, tmp_path_factory):
    """Fit and write a model."""
    folder = tmp_path_factory.mktemp("fitted") / "model"
    fit_series(FitRequest(series, day(15), FitSettings()), model).write(folder)
    return folder


@pytest.mark.parametrize("method", ["padim", "wmaha", "nlml", "wnlml"])
def test_graph_is_the_reference(method, graph_path, tmp_path):
    """Scores and maps of the graph are those of numpy, with holes, large motion and nothing at all."""
    settings = FitSettings(method=method, channels=9)
    encoder = cut_encoder(graph_path, settings.layers)
    cases = np.concatenate([quiet(3, seed=4), np.full((1, *SHAPE), np.nan, np.float32), 20 * quiet(1, seed=6)])
    cases[1, 30:70, 40:] = np.nan
    cases[2, 5, 60] = np.inf
    with running(encoder) as encode:
        result = fit(quiet(14), encode, settings)
        wanted = score(cases, encode, result.fitted)
    path = tmp_path / GRAPH
    onnx.save(fitted_graph(encoder, result.fitted, {"kind": "anomaly"}), path)
    with OnnxRuntime(path, RuntimeOptions()) as runtime:
        given = runtime.run({INPUT: cases[:, None]})
        alone = [runtime.run({INPUT: case[None, None]}) for case in cases]
    np.testing.assert_allclose(given[SCORE][:, 0], wanted.score, rtol=2e-4)
    np.testing.assert_allclose(given[MAP][:, 0], wanted.maps, rtol=2e-3, atol=2e-3 * np.nanmax(wanted.maps))
    np.testing.assert_allclose(np.concatenate([each[SCORE] for each in alone]), given[SCORE], rtol=1e-5)


def test_nan_never_spreads_in_the_graph(fitted_folder):
    """The map is NaN exactly where motion is missing or was never fitted."""
    motion = quiet(1, seed=8)
    motion[0, 60:64, 70:75] = np.nan
    with OnnxRuntime(fitted_folder / GRAPH, RuntimeOptions()) as runtime:
        given = runtime.run({INPUT: motion[:, None]})
    np.testing.assert_array_equal(np.isnan(given[MAP][0, 0]), np.isnan(motion[0]))
    assert np.isfinite(given[SCORE]).all()


def test_a_graph_of_another_fit_is_refused(graph_path):
    """Parity is a gate: what differs from the reference is not written."""
    settings = FitSettings(channels=9)
    encoder = cut_encoder(graph_path, settings.layers)
    with running(encoder) as encode:
        result, other = fit(quiet(14), encode, settings), fit(2 * quiet(14, seed=1), encode, settings)
        content = fitted_graph(encoder, other.fitted, {}).SerializeToString()
        with pytest.raises(ModelInvalidError, match="difference"):
            measure_parity(content, result, encode, quiet(14))


def test_a_model_without_named_features_is_refused(tmp_path):
    """The error says what has to be exported."""
    path = encoder_graph(tmp_path / "other.onnx", ("a", "b", "c"))
    with pytest.raises(ModelInvalidError, match="features"):
        cut_encoder(path, (1, 2, 3))


def test_manifest_and_graph_say_the_same(fitted_folder):
    """The folder holds two files, the hash fits, and the graph alone explains itself."""
    manifest, graph = read_model(fitted_folder)
    assert {path.name for path in fitted_folder.iterdir()} == {GRAPH, MANIFEST}
    said = {each.key: json.loads(each.value) for each in onnx.load(graph).metadata_props}
    assert said["threshold"] == manifest.threshold == max(each.score for each in manifest.fit_epochs)
    assert said["settings"]["method"] == "wnlml"
    assert manifest.series.frame == "014A_07688_131313"
    assert len(manifest.fit_epochs) == 16
    assert manifest.encoder.version == "1.2.3"


def test_an_existing_folder_is_kept(fitted_folder, series, model, tmp_path):
    """Without overwrite nothing is replaced, and what is no fitted model never is."""
    fitted = fit_series(FitRequest(series, day(15), FitSettings(channels=4)), model)
    with pytest.raises(ProductExistsError, match="--overwrite"):
        fitted.write(fitted_folder)
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="no fitted model"):
        fitted.write(tmp_path, overwrite=True)


@pytest.mark.parametrize("until", [date(2019, 12, 31), date(2025, 1, 1), day(3)])
def test_days_that_leave_nothing_to_fit(until, series, model):
    """A day outside the series, or too few epochs before it, is an error."""
    with pytest.raises(WrongDatesError):
        fit_series(FitRequest(series, until, FitSettings()), model)


def test_empty_epochs_are_left_out_and_said(series, model, tmp_path):
    """An epoch without measurement, and one that is constant, are no normal epochs."""
    inc = np.load(series)["inc"].copy()
    inc[3], inc[5] = np.nan, 0.0
    path = tmp_path / "holed.npz"
    write_series(path, inc)
    manifest = fit_series(FitRequest(path, day(15), FitSettings(channels=4)), model).manifest
    assert manifest.left_out == (day(3), day(5))
    assert len(manifest.fit_epochs) == 14


@pytest.fixture
def _repository(model, monkeypatch):
    """Let commands find the small model."""
    monkeypatch.setattr("tocsin.repository.load_model", lambda *_: model)


@pytest.mark.usefixtures("_repository")
def test_fit_and_score_from_the_command_line(series, tmp_path, capsys):
    """A fitted model scores the event as anomalous and a later quiet epoch lower; products appear."""
    fitted, out = str(tmp_path / "fitted"), tmp_path / "out"
    assert main(["anomaly", "fit", str(series), "-o", fitted, "--fit-until", str(day(15)), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "anomaly"
    results = []
    for at in (EVENT, 22):
        order = ["anomaly", "score", str(series), "--date", str(day(at)), "--model", fitted, "-o", str(out), "--json"]
        assert main(order) == 0
        results.append(json.loads(capsys.readouterr().out))
    event, other = results
    assert event["summary"]["score"] > other["summary"]["score"]
    assert event["hazard"] == "volcano"
    assert set(event["summary"]) == {"score", "threshold", "anomalous"}
    assert set(event["products"]) == {"anomaly", "quicklook", "item"}
    assert all((out / path.rpartition("/")[2]).is_file() for path in event["products"].values())
    item = json.loads(Path(event["products"]["item"]).read_text())
    validate_dict(item | {"stac_extensions": []})
    assert item["properties"]["datetime"][:10] == str(day(EVENT))
    assert item["properties"]["tocsin:summary"] == event["summary"]
    assert item["properties"]["tocsin:provenance"]["sha256"] == event["provenance"]["sha256"]
    assert set(item["assets"]) == {"anomaly", "quicklook"}
    assert main(["anomaly", "score", str(series), "--date", str(day(22)), "--model", fitted, "-o", str(out)]) == 2


@pytest.mark.usefixtures("_repository")
def test_evaluate_from_the_command_line(series, tmp_path, capsys):
    """The event ranks first, every epoch has a row, and baselines stand beside."""
    path = tmp_path / "scores.csv"
    order = ["evaluate", "anomaly", "--data", str(series), "--fit-until", str(day(15)), "--predictions", str(path)]
    assert main([*order, "--event", str(day(EVENT)), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["events"][0]["rank"] == 1
    assert set(report["events"][0]["baselines"]) == {"largest", "deviation", "pixel_z"}
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert [row["id"] for row in rows] == [str(day(at)) for at in range(24)]
    assert main(order) == 0
    assert "HIGHEST LATER" in capsys.readouterr().out


@pytest.mark.usefixtures("_repository")
@pytest.mark.parametrize(
    ("options", "code", "exit_code"),
    [
        (["--fit-until", "2019-01-01"], "wrong_dates", 3),
        (["--fit-until", "soon"], "wrong_dates", 3),
        (["--fit-until", "2020-06-01", "--method", "magic"], "usage", 2),
        (["--fit-until", "2020-06-01", "--layers", "one"], "usage", 2),
        (["--fit-until", "2020-06-01", "--layers", "1,9,3"], "usage", 2),
    ],
)
def test_wrong_input_has_its_code(series, options, code, exit_code, capsys):
    """Days and choices that make no sense end as their error, as JSON."""
    assert main(["evaluate", "anomaly", "--data", str(series), *options, "--json"]) == exit_code
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code


@pytest.mark.usefixtures("_repository")
def test_a_series_of_two_epochs_is_refused(tmp_path, capsys):
    """Too short to be a series at all."""
    path = tmp_path / "two.npz"
    write_series(path, quiet(2))
    assert main(["anomaly", "fit", str(path), "-o", str(tmp_path / "m"), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "wrong_dates"
    assert not (tmp_path / "m").exists()


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("method", ["padim", "wmaha", "nlml", "wnlml"])
def test_the_intrusion_of_erta_ale_ranks_first_or_second(method, data):
    """Fitted until 2016, the increment of 2017-02-04 stands out among seven years of later ones, and alarms."""
    from export.anomaly.evaluation import evaluate_anomaly
    from tocsin.repository import list_models, load_model

    if "volcano" not in list_models():
        pytest.skip("the repository holds no volcano model")
    path = data / "licsar_series/licsalert_erta_ale_014A_07688_131313.npz"
    request = FitRequest(path, date(2016, 12, 31), FitSettings(method=method))
    report = evaluate_anomaly(request, load_model("volcano"), RuntimeOptions(), [date(2017, 2, 4)])
    (event,) = report.events
    assert event.rank <= 2
    assert event.auroc >= 0.97
    assert event.anomalous
