import json
import shutil

import pytest
from batch_stand_ins import deadly, entry_of, scenes_named
from s3_stand_in import s3_server

from serving.batch.cluster import LOCAL, open_cluster
from serving.batch.fingerprint import Hashes
from serving.batch.journal import open_journal
from serving.batch.manifest_file import read_manifest
from serving.batch.run import Dispatch, Means, run
from serving.batch.scenes import Scene, plan_scenes
from serving.batch.settings import BatchSettings
from serving.batch.storage import RECEIPT, LocalTarget, open_target
from serving.batch.worker import Order, carry_out
from tocsin.errors import ProductExistsError, RuntimeUnavailableError
from tocsin.repository import load_model
from tocsin.scoring import Scorer
from tocsin.scoring_job import ScoringOptions

PRODUCTS = ["class.tif", "item.json", "polygons.geojson", "probability.tif", "quicklook.png"]


@pytest.fixture(scope="module")
def model(logistic_models):
    """Return the hash of the model of these tests."""
    return load_model("flood", logistic_models).sha256


@pytest.fixture(scope="module")
def warm():
    """Return a scorer and hashes that live as long as a worker."""
    with Scorer() as scorer:
        yield scorer, Hashes()


@pytest.fixture
def place(tmp_path):
    """Return a target that is ready."""
    target = LocalTarget(tmp_path / "out")
    target.prepare()
    return target


@pytest.fixture
def order(place, model, logistic_models, write_raster, backscatter, tmp_path):
    """Return a function that makes the order of a scene of 64 px."""
    write_raster(tmp_path / "in/a.tif", backscatter(64, 64))

    def make(**more):
        scene = Scene("a", "flood", {"post": str(tmp_path / "in/a.tif")} | more.pop("inputs", {}), more.pop("row", {}))
        options = ScoringOptions(model_repository=logistic_models, quiet=True)
        return Order(scene, options, more.pop("sha256", model), str(place.folder), **more)

    return make


def entry(outcome):
    """Return the entry of an outcome."""
    return json.loads(outcome.line)


def names(folder):
    """Return the names of a scene's files without its id."""
    return sorted(path.name.partition("_")[2] for path in folder.iterdir() if path.name != RECEIPT)


# One scene on one worker.


def test_scene_becomes_products_and_an_entry(order, warm, place):
    """Products lie in DIR/HAZARD/ID, the entry names them relative to DIR, and nothing is left aside."""
    outcome = carry_out(order(), *warm)
    assert outcome.state == "done"
    assert names(place.folder / "flood/a") == PRODUCTS
    made = entry(outcome)
    assert made["result"]["products"]["class"] == "flood/a/a_class.tif"
    assert made["result"]["summary"]["water_km2"] > 0
    assert made["result"]["provenance"]["inputs"][0]["href"].endswith("in/a.tif")
    assert list((place.state / "work").iterdir()) == []


def test_scene_that_is_done_is_kept(order, warm, place):
    """With its key in the journal and its products there a scene is kept; with a product gone it is scored again."""
    first = entry(carry_out(order(), *warm))
    known = {"key": first["key"], "products": tuple(first["result"]["products"].values())}
    place.forget_receipt("flood/a")
    before = (place.folder / "flood/a/a_class.tif").stat().st_ino
    assert carry_out(order(**known), *warm).state == "kept"
    assert (place.folder / "flood/a/a_class.tif").stat().st_ino == before
    (place.folder / "flood/a/a_quicklook.png").unlink()
    assert carry_out(order(**known), *warm).state == "done"
    assert names(place.folder / "flood/a") == PRODUCTS


@pytest.mark.parametrize("change", [{"row": {"threshold": 0.3}}, {"inputs": {"orbit_pass": "ascending"}}])
def test_changed_option_scores_again(order, warm, place, change):
    """Another option or input of the row gives another key, and other products in place of the old."""
    first = entry(carry_out(order(), *warm))
    known = {"key": first["key"], "products": tuple(first["result"]["products"].values())}
    again = carry_out(order(**known, **change), *warm)
    assert again.state == "done"
    assert entry(again)["key"] != first["key"]


def test_scene_finished_before_its_batch_was_killed_is_taken_over(order, warm, place):
    """Products whose entry no journal has are not made again: their receipt is the entry."""
    first = carry_out(order(), *warm)
    before = (place.folder / "flood/a/a_class.tif").stat().st_ino
    second = carry_out(order(), *warm)
    assert second == first
    assert (place.folder / "flood/a/a_class.tif").stat().st_ino == before
    assert entry(carry_out(order(row={"threshold": 0.3}), *warm))["key"] != entry(first)["key"]


def test_failure_that_lasts_is_kept_and_any_other_is_tried(order, warm, tmp_path):
    """The same broken file is not opened again; after another kind of failure, or another file, it is."""
    (tmp_path / "in/a.tif").write_bytes(b"no raster")
    first = carry_out(order(), *warm)
    assert (first.state, first.code) == ("failed", "not_a_raster")
    key = entry(first)["key"]
    assert carry_out(order(key=key, code="not_a_raster"), *warm).state == "kept"
    assert carry_out(order(key=key, code="internal"), *warm).state == "failed"
    (tmp_path / "in/a.tif").write_bytes(b"another")
    assert carry_out(order(key=key, code="not_a_raster"), *warm).state == "failed"


def test_products_go_when_the_new_input_cannot_be_scored(order, warm, tmp_path, place):
    """A scene whose file became a broken one keeps no products of the old file."""
    carry_out(order(), *warm)
    (tmp_path / "in/a.tif").write_bytes(b"no raster")
    assert carry_out(order(), *warm).code == "not_a_raster"
    assert not (place.folder / "flood/a").exists()


def test_file_that_vanished_is_the_failure_of_its_scene(order, warm, tmp_path, place):
    """A missing file fails with its path, and leaves no folder."""
    (tmp_path / "in/a.tif").unlink()
    outcome = carry_out(order(), *warm)
    assert (outcome.state, outcome.code) == ("failed", "usage")
    assert "a.tif" in outcome.message
    assert not (place.folder / "flood").exists()


def test_model_that_is_not_the_one_of_the_batch_is_refused(order, warm, place):
    """A worker with other weights than the batch began with publishes nothing."""
    outcome = carry_out(order(sha256="f" * 64), *warm)
    assert outcome.code == "model_invalid"
    assert not (place.folder / "flood").exists()


@pytest.fixture(scope="module")
def bucket():
    """Return the objects of a server that speaks S3, which every s3:// URL of these tests means."""
    with s3_server() as (objects, environment), pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield objects


def test_bucket_gets_products_and_gives_inputs(bucket, order, warm, tmp_path, model):
    """Inputs come from a bucket and are named by their URL; products go to one, and are kept the next time."""
    bucket["/k/in/a.tif"] = (tmp_path / "in/a.tif").read_bytes()
    asked = order(inputs={"post": "s3://k/in/a.tif"})
    asked = Order(asked.scene, asked.options, model, "s3://k/out")
    outcome = carry_out(asked, *warm)
    assert outcome.state == "done", outcome.message
    made = entry(outcome)
    assert sorted(path.partition("/a_")[2] for path in bucket if path.startswith("/k/out/flood/a/")) == PRODUCTS
    assert made["result"]["provenance"]["inputs"][0]["href"] == "s3://k/in/a.tif"
    item = json.loads(bucket["/k/out/flood/a/a_item.json"])
    assert [link["href"] for link in item["links"] if link["rel"] == "derived_from"] == ["s3://k/in/a.tif"]
    known = {"key": made["key"], "products": tuple(made["result"]["products"].values())}
    assert carry_out(Order(asked.scene, asked.options, model, "s3://k/out", **known), *warm).state == "kept"
    bucket["/k/in/a.tif"] += b"more"
    assert carry_out(Order(asked.scene, asked.options, model, "s3://k/out", **known), *warm).state == "done"
    missing = Order(Scene("b", "flood", {"post": "s3://k/in/b.tif"}, {}), asked.options, model, "s3://k/out")
    assert carry_out(missing, *warm).code == "usage"


def test_bucket_that_is_away_can_pass(order, warm, model, bucket, monkeypatch):
    """A bucket that answers with an error is a failure that can pass, not one of the scene."""

    def fall(*_):
        raise OSError(5, "reset by peer")

    monkeypatch.setattr("obstore.fsspec.FsspecStore.ukey", fall)
    asked = order(inputs={"post": "s3://k/in/a.tif"})
    assert carry_out(asked, *warm).code == "runtime_unavailable"


def test_manifest_in_a_bucket_is_read(bucket):
    """Relative paths are relative to the manifest's URL, and a pattern finds objects."""
    bucket["/m/set/m.csv"] = b"hazard,post\nflood,in/a.tif\n"
    bucket["/m/set/in/a.tif"] = b"x"
    with read_manifest("s3://m/set/m.csv", None) as (rows, base):
        (scene,) = plan_scenes(rows, base)
    assert (scene.id, scene.inputs) == ("a", {"post": "s3://m/set/in/a.tif"})
    with read_manifest("s3://m/set/in/*.tif", "flood") as (rows, base):
        assert plan_scenes(rows, base, "flood") == [scene]


def test_journal_in_a_bucket_is_read_back(bucket):
    """Lines go up as segments, the end joins them, and a new batch finds them either way."""
    target = open_target("s3://j/out")
    target.prepare()
    with open_journal(target) as journal:
        journal.append(entry_of("a"))
        journal.send()
        journal.append(entry_of("b"))
    assert len([path for path in bucket if path.startswith("/j/")]) == 2
    with open_journal(target) as journal:
        journal.append(entry_of("c"))
        journal.join()
    assert [path for path in bucket if path.startswith("/j/")] == ["/j/out/.tocsin/journal.jsonl"]
    with open_journal(target) as journal:
        assert [each.id for each in journal.entries([("flood", name) for name in "abc"])] == ["a", "b", "c"]


# A cluster of real processes.


@pytest.fixture(scope="module")
def scheduler():
    """Return the address of a Dask cluster of two processes."""
    import dask
    from distributed import LocalCluster

    with (
        dask.config.set(LOCAL),
        LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster,
    ):
        yield cluster.scheduler_address


@pytest.fixture
def manifest(tmp_path, write_raster, backscatter):
    """Return a manifest of three scenes and a broken one."""
    for name in "abc":
        write_raster(tmp_path / f"in/{name}.tif", backscatter(64, 80))
    (tmp_path / "in/broken.tif").write_bytes(b"no raster")
    rows = "".join(f"flood,in/{name}.tif\n" for name in ("a", "b", "c", "broken"))
    (tmp_path / "m.csv").write_text("hazard,post\n" + rows)
    return tmp_path / "m.csv"


@pytest.fixture
def settings(manifest, scheduler, logistic_models, tmp_path):
    """Return a function that makes the settings of that batch on that cluster."""

    def make(**more):
        options = ScoringOptions(model_repository=logistic_models, threads=1, quiet=True, **more)
        return BatchSettings(manifest=str(manifest), out=str(tmp_path / "out"), scheduler=scheduler, options=options)

    return make


def test_batch_is_scored_kept_and_renewed(settings, tmp_path, write_raster, backscatter):
    """A batch scores what can be scored; the next one keeps it all but a scene whose file changed."""
    first = run(settings())
    assert (first.summary.done, first.summary.skipped, first.summary.failed) == (3, 0, 1)
    assert [(failure.id, failure.code) for failure in first.failures] == [("broken", "not_a_raster")]
    assert first.summary.km2 == pytest.approx(3 * 64 * 80 * 1e-4, rel=0.01)
    assert {"journal", "catalog", "report", "ranking"} <= set(first.products)
    assert not list((tmp_path / "out").rglob(RECEIPT))
    write_raster(tmp_path / "in/b.tif", backscatter(64, 80, water=(slice(0, 20), slice(None))))
    second = run(settings())
    assert (second.summary.done, second.summary.skipped, second.summary.failed) == (1, 2, 1)
    assert second.summary.km2 == first.summary.km2
    assert run(settings(overwrite=True)).summary.done == 3


def test_products_of_somebody_else_are_refused(settings, tmp_path):
    """A folder of a scene that is in no journal stops the batch before any work, unless it may be replaced."""
    run(settings())
    shutil.rmtree(tmp_path / "out/.tocsin")
    with pytest.raises(ProductExistsError, match="flood/"):
        run(settings())
    assert run(settings(overwrite=True)).summary.done == 3


def test_model_that_is_not_there_is_refused_at_once(settings, tmp_path):
    """An unknown precision is refused before any scene."""
    from tocsin.errors import ModelUnknownError

    with pytest.raises(ModelUnknownError):
        run(settings(precision="int8"))


def test_scheduler_that_is_not_there_is_refused(settings, monkeypatch):
    """No answer at the address is said within the time to connect."""
    monkeypatch.setattr("serving.batch.cluster.CONNECT_S", 0.5)
    with pytest.raises(RuntimeUnavailableError, match="--scheduler"):
        run(settings().model_copy(update={"scheduler": "tcp://127.0.0.1:9"}))


def test_scene_that_kills_workers_is_given_up(place):
    """A scene is handed over twice when its worker dies, then fails; one that kills once is done by another."""
    settings = BatchSettings(manifest="m.csv", out=str(place.folder), workers=2)
    told = []
    with open_journal(place) as journal, open_cluster(settings) as cluster:
        means = Means(cluster, journal, place, lambda *said: told.append(said))
        runner = Dispatch(settings, ScoringOptions(), {"flood": "0" * 64}, means, deadly)
        count = runner.run(scenes_named("a", "poison", "b", "lethal", "c"))
        assert (count.done, count.failed) == (4, 1)
        found = {
            each.id: each for each in journal.entries(scene.name for scene in scenes_named("poison", "lethal", "a"))
        }
    assert found["poison"].error.code == "worker_lost"
    assert [found[name].attempts for name in ("poison", "lethal", "a")] == [3, 2, 1]
    assert cluster.dashboard.startswith("http://127.0.0.1:")
