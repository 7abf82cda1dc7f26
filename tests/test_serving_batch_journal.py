import os

import pytest
from batch_stand_ins import KEY, dispatch, done, entry_of, fail, scenes_named

from serving.batch.fingerprint import Hashes, scene_key
from serving.batch.journal import FILE, open_journal
from serving.batch.retry import Attempts
from serving.batch.scenes import Scene
from serving.batch.settings import RetrySettings
from serving.batch.storage import LocalTarget
from tocsin.errors import RuntimeUnavailableError, StorageFullError, UsageError
from tocsin.scoring_job import ScoringOptions


@pytest.fixture
def target(tmp_path):
    """Return a target that is ready."""
    place = LocalTarget(tmp_path / "out")
    place.prepare()
    return place


# The journal.


def test_last_line_about_a_scene_holds(target):
    """After reopening, each scene is as its last line says, in the order that is asked for."""
    with open_journal(target) as journal:
        for entry in (entry_of("a", code="truncated"), entry_of("b"), entry_of("a")):
            journal.append(entry)
    with open_journal(target) as journal:
        assert journal.noted(("flood", "a")).code is None
        names = [("flood", "b"), ("flood", "never"), ("flood", "a")]
        assert [entry.id for entry in journal.entries(names)] == ["b", "a"]


def test_line_that_a_kill_cut_short_is_cut_off(target):
    """Every length of a torn last line leaves the lines before it, and appending goes on after them."""
    path = target.folder / FILE
    with open_journal(target) as journal:
        journal.append(entry_of("a"))
        whole = path.read_bytes()
        journal.append(entry_of("b"))
    both = path.read_bytes()
    for length in (len(whole) + 1, len(whole) + 40, len(both) - 1):
        path.write_bytes(both[:length])
        with open_journal(target) as journal:
            assert journal.noted(("flood", "b")) is None
            journal.append(entry_of("c"))
            assert [entry.id for entry in journal.entries([("flood", "a"), ("flood", "c")])] == ["a", "c"]


def test_line_that_cannot_be_read_costs_its_scene_only(target, caplog):
    """A damaged line is said to be damaged, and the others hold."""
    with open_journal(target) as journal:
        journal.append(entry_of("a"))
        journal.append(entry_of("b"))
    path = target.folder / FILE
    path.write_bytes(path.read_bytes().replace(b'{"id":"a"', b'{"id":"a', 1))
    with open_journal(target) as journal:
        assert journal.noted(("flood", "a")) is None
        assert journal.noted(("flood", "b")) is not None
    assert "done again" in caplog.text


# The target.


def test_products_appear_by_one_rename_and_replace(target):
    """A folder made aside is in place whole, instead of what was there, and nothing is left aside."""
    for text in ("old", "new"):
        with target.aside() as folder:
            (folder / "made").mkdir()
            (folder / "made" / f"{text}_class.tif").write_text(text)
            target.publish(folder / "made", "flood/a")
    assert [path.name for path in (target.folder / "flood/a").iterdir()] == ["new_class.tif"]
    assert list((target.state / "work").iterdir()) == []


def test_leftovers_of_a_kill_are_cleared(target):
    """What a killed worker was writing is gone after the next start."""
    (target.state / "work" / "dead").mkdir()
    (target.state / "work" / "dead" / "x_class.tif").write_bytes(b"half")
    target.prepare()
    assert list((target.state / "work").iterdir()) == []


def test_file_appears_whole_or_not_at_all(target):
    """When the block raises, the old content stays."""
    with target.open_whole("catalog.json") as file:
        file.write(b"first")

    def write_half():
        with target.open_whole("catalog.json") as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert (target.folder / "catalog.json").read_bytes() == b"first"


def test_target_that_cannot_be_written_to_is_refused(tmp_path):
    """A file where the folder should be, and a folder below a file, are refused."""
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(UsageError, match="another -o"):
            LocalTarget(place).prepare()


def test_target_takes_one_batch_at_a_time(target):
    """A second batch is refused while a first one writes, and not after it."""
    with target.lock(), pytest.raises(UsageError, match="another batch"), LocalTarget(target.folder).lock():
        pass
    with LocalTarget(target.folder).lock():
        pass


def test_disk_that_fails_is_storage_full(target, monkeypatch):
    """An error of the disk while products are put in place has the code of storage."""

    def full(*_):
        raise OSError(28, "No space left on device")

    with target.aside() as folder:
        (folder / "made").mkdir()
        monkeypatch.setattr("pathlib.Path.rename", full)
        with pytest.raises(StorageFullError, match="No space left"):
            target.publish(folder / "made", "flood/a")


# The key.


def test_key_follows_content_names_model_and_options(tmp_path):
    """The key stays when a file moves or is touched, and changes with content, name, model, unit and options."""

    def key(path="a.tif", model="1" * 64, inputs=None, **options):
        scene = Scene("a", "flood", {"post": str(tmp_path / path)} | (inputs or {}), {})
        return scene_key(scene, ScoringOptions(**options), model, Hashes())

    (tmp_path / "a.tif").write_bytes(b"one")
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved/a.tif").write_bytes(b"one")
    (tmp_path / "b.tif").write_bytes(b"one")
    first = key()
    assert key("moved/a.tif") == first == key(threads=1, quiet=True, batch=4)
    others = [key("b.tif"), key(model="2" * 64), key(inputs={"units": "linear"}), key(threshold=0.4), key(overlap=8)]
    assert len({first, *others}) == 6
    facts = (tmp_path / "a.tif").stat()
    (tmp_path / "a.tif").write_bytes(b"two")
    os.utime(tmp_path / "a.tif", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert key() != first


def test_hash_is_made_once_while_a_file_stays(tmp_path, monkeypatch):
    """A shared file is hashed once, and again after it changed, even with its old time of change."""
    path, hashes = tmp_path / "dem.tif", Hashes()
    path.write_bytes(b"one")
    first = hashes.of(str(path))
    facts = path.stat()
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", None)
        assert hashes.of(str(path)) == first
    path.write_bytes(b"two")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert hashes.of(str(path)) != first


def test_file_that_vanished_has_no_key(tmp_path):
    """A missing input is refused by its path."""
    with pytest.raises(UsageError, match=r"gone\.tif"):
        Hashes().of(str(tmp_path / "gone.tif"))


# What is tried again.


@pytest.mark.parametrize(
    ("code", "delays"),
    [
        ("runtime_unavailable", [2.0, 8.0]),
        ("storage_full", [2.0, 8.0]),
        ("worker_lost", [0.0, 0.0]),
        ("not_a_raster", []),
        ("internal", []),
        ("model_invalid", []),
    ],
)
def test_what_can_pass_is_tried_again(code, delays):
    """A failure that can pass is tried three times, a dead worker's scene handed over twice, anything else once."""
    attempts, seen = Attempts(), []
    while (following := attempts.again(code, RetrySettings())) is not None:
        attempts, delay = following
        seen.append(delay)
    assert seen == delays
    assert attempts.number == len(delays) + 1


def test_failure_that_passes_is_not_in_the_result(target):
    """A scene whose second attempt succeeds is done, with two attempts in the journal."""
    with open_journal(target) as journal:
        runner, _ = dispatch(lambda o: done(o) if o.attempt == 2 else fail(o, "deadline_exceeded"), journal, target)
        count = runner.run(scenes_named("a", "b"))
        assert (count.done, count.failed) == (2, 0)
        assert [entry.attempts for entry in journal.entries([("flood", "a"), ("flood", "b")])] == [2, 2]


def test_bad_scene_stops_nothing(target):
    """Scenes around one that fails for good are done, in their order, and it is tried once."""
    with open_journal(target) as journal:
        runner, client = dispatch(lambda o: fail(o, "truncated") if o.scene.id == "b" else done(o), journal, target)
        count = runner.run(scenes_named("a", "b", "c"))
        assert [order.scene.id for order in client.orders] == ["a", "b", "c"]
        assert (count.done, count.failed, count.finished) == (2, 1, 3)
        assert runner.means.told == [("a", "done", 1), ("b", "failed", 2), ("c", "done", 3)]


def test_defect_is_the_failure_of_its_scene(target):
    """An exception that no worker should raise is written down as internal."""

    def broken(order):
        raise ZeroDivisionError(order.scene.id)

    with open_journal(target) as journal:
        runner, _ = dispatch(broken, journal, target)
        assert runner.run(scenes_named("a")).failed == 1
        assert journal.entry(("flood", "a")).error.code == "internal"


def test_runtime_that_stays_away_stops_the_batch(target):
    """After so many scenes given up one after another the batch ends with its reason, and their lines are kept."""
    with open_journal(target) as journal:
        runner, client = dispatch(lambda o: fail(o, "runtime_unavailable"), journal, target, in_a_row=2, attempts=2)
        with pytest.raises(RuntimeUnavailableError, match="2 scenes"):
            runner.run(scenes_named("a", "b", "c", "d"))
        assert len(client.orders) <= 6
        assert journal.noted(("flood", "b")).code == "runtime_unavailable"


def test_worker_is_told_what_the_journal_knows(target):
    """An order carries key, code and products of the last scoring."""
    with open_journal(target) as journal:
        journal.append(entry_of("a"))
        journal.append(entry_of("b", code="truncated"))
        runner, client = dispatch(done, journal, target)
        runner.run(scenes_named("a", "b", "c"))
    said = [(order.key, order.code, order.products) for order in client.orders]
    assert said == [(KEY, None, ("flood/a/a_class.tif",)), (KEY, "truncated", ()), (None, None, ())]
