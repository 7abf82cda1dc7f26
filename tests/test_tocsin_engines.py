import numpy as np
import pytest

from tocsin.engines import (
    Card,
    EngineRecord,
    ExamCase,
    engines_folder,
    find_engine,
    judge,
    list_engines,
    read_exam,
    runs_on,
    state_folder,
    write_exam,
)
from tocsin.errors import ModelInvalidError, RuntimeUnavailableError
from tocsin.repository import load_model

CARD = Card("Fake RTX", "8.9")
VERSION = "11.4.0.106"


@pytest.fixture(scope="module")
def model(convolving_models):
    """Return the model that the engines are of."""
    return load_model("flood", convolving_models, "fp16")


def test_finds_the_engine_of_this_card(fake_engine, model, tmp_path) -> None:
    """Of engines for several cards the one that fits is found, and its record is what was written."""
    fake_engine(capabilities=("8.0",))
    wanted = fake_engine()
    found = find_engine(model, "datacenter", VERSION, CARD, tmp_path / "engines")
    assert found == wanted
    assert found.plan() == model.path.read_bytes()
    assert EngineRecord.model_validate_json((found.folder / "engine.json").read_bytes()) == wanted.record


def test_of_several_the_largest_batch(fake_engine, model, tmp_path) -> None:
    """When two fit, the one of the larger batch is taken, whatever their names."""
    small = {"name": "s1", "smallest": (1, 2, 32, 32), "usual": (1, 2, 64, 64), "largest": (2, 2, 64, 64)}
    fake_engine(profile=(small,))
    wanted = fake_engine()
    fake_engine(profile=(small | {"largest": (3, 2, 64, 64)},))
    assert find_engine(model, "datacenter", VERSION, CARD, tmp_path / "engines") == wanted


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"graph_sha256": "0" * 64}, "of graph 000000000000"),
        ({"tensorrt": "10.16.1.11"}, "of TensorRT 10.16.1.11"),
        ({"capabilities": ("8.0", "9.0")}, "for compute capability 8.0 9.0"),
        (
            {
                "profile": (
                    {"name": "s1", "smallest": (1, 2, 32, 32), "usual": (1, 2, 32, 32), "largest": (8, 2, 32, 32)},
                )
            },
            "for other shapes",
        ),
        (
            {
                "profile": (
                    {"name": "s2", "smallest": (1, 2, 32, 32), "usual": (1, 2, 64, 64), "largest": (8, 2, 64, 64)},
                )
            },
            "for other shapes",
        ),
        (
            {"profile": ({"name": "s1", "smallest": (1, 2, 32), "usual": (1, 2, 64), "largest": (8, 2, 64)},)},
            "for other shapes",
        ),
    ],
)
def test_a_stale_engine_is_refused_with_the_command(fake_engine, model, tmp_path, changes, reason) -> None:
    """Another graph, TensorRT, card or shape is named, and so is what builds a fresh one."""
    fake_engine(**changes)
    with pytest.raises(RuntimeUnavailableError, match=reason) as caught:
        find_engine(model, "datacenter", VERSION, CARD, tmp_path / "engines")
    assert caught.value.todo == "run tocsin export engine flood --precision fp16 --flavour datacenter"
    assert model.sha256[:12] in caught.value.expected


def test_no_engine_says_what_builds_one(fake_engine, model, tmp_path) -> None:
    """Without an engine of the flavour the command is named; with one of another precision, that one, too."""
    fake_engine(flavour="rtx")
    with pytest.raises(RuntimeUnavailableError, match="no engine of flood in fp16 for datacenter") as caught:
        find_engine(model, "datacenter", VERSION, CARD, tmp_path / "engines")
    assert "--flavour datacenter" in caught.value.todo
    fake_engine(precision="fp32")
    with pytest.raises(RuntimeUnavailableError, match="only in fp32") as caught:
        find_engine(model, "datacenter", VERSION, CARD, tmp_path / "engines")
    assert "--precision fp32" in caught.value.todo


@pytest.mark.parametrize(
    ("built", "runs", "compatible", "fits"),
    [
        ("10.16.1.11", "11.4.0.106", True, True),
        ("11.4.0.106", "11.4.0.107", True, True),
        ("11.4.0.106", "10.16.1.11", True, False),
        ("11.4.0.106", "11.4.0.107", False, False),
    ],
)
def test_version_compatible_engines_run_on_later_versions(
    fake_engine, model, tmp_path, built, runs, compatible, fits
) -> None:
    """Such an engine runs on its own version and on later ones; any other on its own alone."""
    fake_engine(tensorrt=built, version_compatible=compatible)
    if fits:
        assert find_engine(model, "datacenter", runs, CARD, tmp_path / "engines").record.key.tensorrt == built
    else:
        with pytest.raises(RuntimeUnavailableError, match=f"of TensorRT {built}"):
            find_engine(model, "datacenter", runs, CARD, tmp_path / "engines")


@pytest.mark.parametrize(
    ("hardware", "capability", "fits"),
    [
        ("exact", "8.0", True),
        ("exact", "8.6", False),
        ("same-capability", "8.0", True),
        ("same-capability", "9.0", False),
        ("ampere-plus", "9.0", True),
        ("ampere-plus", "12.0", True),
        ("ampere-plus", "7.5", False),
    ],
)
def test_cards_that_may_load_it(fake_engine, hardware, capability, fits) -> None:
    """An engine built on 8.0 runs on what it was built for, and on later cards when it was built so."""
    key = fake_engine(capabilities=("8.0",), hardware=hardware).record.key
    assert runs_on(key, Card("any", capability)) is fits


def test_a_broken_record_is_refused(fake_engine, tmp_path) -> None:
    """A record that is none is an error that names the file, not an engine that is passed over."""
    engine = fake_engine()
    (engine.folder / "engine.json").write_text("{}")
    with pytest.raises(ModelInvalidError, match=r"engine\.json"):
        list(list_engines("flood", tmp_path / "engines"))


def test_working_folders_are_no_engines(fake_engine, tmp_path) -> None:
    """A folder that is being written is not looked at."""
    engine = fake_engine()
    engine.folder.rename(engine.folder.with_name(".tocsin-1234.part"))
    assert list(list_engines("flood", tmp_path / "engines")) == []


@pytest.mark.parametrize("name", ["engine.plan", "exam.npz"])
def test_a_changed_file_is_refused(fake_engine, name) -> None:
    """A plan or an exam that is missing or is not the record's is refused by its name."""
    engine = fake_engine()
    read = engine.plan if name == "engine.plan" else engine.exam
    (engine.folder / name).write_bytes(b"another")
    with pytest.raises(ModelInvalidError, match=f"{name} with sha256"):
        read()
    (engine.folder / name).unlink()
    with pytest.raises(ModelInvalidError, match=f"{name}, which cannot be read"):
        read()


def test_every_field_makes_another_key(fake_engine) -> None:
    """Two engines share a folder only when everything about them is the same."""
    key = fake_engine().record.key
    changes = [
        {"graph_sha256": "0" * 64},
        {"precision": "fp32"},
        {"flavour": "rtx"},
        {"tensorrt": "11.4"},
        {"capabilities": ("8.0",)},
        {"hardware": "ampere-plus"},
        {"version_compatible": True},
        {"stripped": True},
        {"profile": (key.profile[0].model_copy(update={"largest": (9, 2, 64, 64)}),)},
    ]
    ids = {key.id, *(key.model_copy(update=each).id for each in changes)}
    assert len(ids) == len(changes) + 1
    assert key.model_copy().id == key.id


def test_an_exam_comes_back(tmp_path) -> None:
    """Chips and answers are read as they were written, NaN included; the same ones are the same bytes."""
    rng = np.random.default_rng(0)
    cases = [
        ExamCase(
            {"pre": rng.random((2, 3), np.float32), "dem": np.full((2, 1), np.nan, np.float32)},
            {"mask": np.float32([[k]])},
        )
        for k in range(11)
    ]
    content = write_exam(cases)
    assert content == write_exam(cases)
    for written, read in zip(cases, read_exam(content), strict=True):
        for one, other in ((written.inputs, read.inputs), (written.answers, read.answers)):
            assert one.keys() == other.keys()
            for name, array in one.items():
                np.testing.assert_array_equal(other[name], array)


def test_answers_are_judged() -> None:
    """Within the tolerance nothing is wrong; a difference, a NaN elsewhere or another shape is."""
    wanted = {"water": np.float32([[0.25, np.nan]])}
    assert judge({"water": np.float32([[0.251, np.nan]])}, wanted, {"water": 2e-3}) == ""
    assert (
        judge({"water": np.float32([[0.253, np.nan]])}, wanted, {"water": 2e-3})
        == "water off by 0.003, more than 0.002"
    )
    assert judge({"water": np.float32([[0.25, 0.5]])}, wanted, {"water": 2e-3}) == "water with NaN in other places"
    assert judge({"water": np.float32([[np.nan, np.nan]])}, wanted, {"water": 1}) == "water with NaN in other places"
    assert "shape (2,)" in judge({"water": np.float32([0.25, np.nan])}, wanted, {"water": 1})
    nothing = {"water": np.float32([[np.nan, np.nan]])}
    assert judge(nothing, nothing, {"water": 1e-9}) == ""


def test_where_engines_and_caches_lie(monkeypatch, tmp_path) -> None:
    """TOCSIN_ENGINES names the engines; else they lie among the caches: TOCSIN_STATE, else the user's cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert state_folder() == tmp_path / "cache" / "tocsin"
    assert engines_folder() == tmp_path / "cache" / "tocsin" / "engines"
    monkeypatch.setenv("TOCSIN_STATE", str(tmp_path / "state"))
    assert engines_folder() == tmp_path / "state" / "engines"
    monkeypatch.setenv("TOCSIN_ENGINES", str(tmp_path / "mine"))
    assert engines_folder() == tmp_path / "mine"
    monkeypatch.delenv("TOCSIN_STATE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert state_folder() == tmp_path / "home" / ".cache" / "tocsin"
