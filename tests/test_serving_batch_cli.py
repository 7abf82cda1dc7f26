import csv
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tocsin.cli.border import main

SCENES = 24
KILLS = 20
MOST_S = 900
PAUSES = random.Random(7)  # noqa: S311 - moments of kills, no secret


@pytest.fixture
def archive(tmp_path, write_raster, backscatter):
    """Return a manifest of small scenes of different sizes and a broken one."""
    with (tmp_path / "m.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["hazard", "post", "priority"])
        for number in range(SCENES):
            size = 40 + 3 * number
            water = (slice(None), slice(0, 5 + number))
            write_raster(tmp_path / f"in/s{number:02d}.tif", backscatter(size, size, water=water))
            rows.writerow(["flood", f"in/s{number:02d}.tif", number % 3])
        (tmp_path / "in/broken.tif").write_bytes(b"no raster")
        rows.writerow(["flood", "in/broken.tif", 1])
    return tmp_path / "m.csv"


@pytest.fixture
def command(archive, logistic_models):
    """Return a function that returns the command of a batch into a folder."""

    def words(out, *more):
        start = [sys.executable, "-c", "import sys; from tocsin.cli import main; sys.exit(main())"]
        models = ["--model-repository", str(logistic_models)]
        return [
            *start,
            "batch",
            str(archive),
            "-o",
            str(out),
            "--json",
            "--workers",
            "2",
            "--threads",
            "1",
            *models,
            *more,
        ]

    return words


@pytest.fixture
def started():
    """Return a function that starts a command in a process group of its own; none outlives the test."""
    processes = []

    def start(command):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(command, start_new_session=True, **pipes))
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def lines(out):
    """Count the lines of the journal."""
    journal = out / ".tocsin/journal.jsonl"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def killed(process, out, more):
    """Kill a whole process group once the journal has so many lines more, and a moment; False when it had ended."""
    begun, until = lines(out), time.monotonic() + MOST_S
    while lines(out) < begun + more and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    time.sleep(PAUSES.uniform(0, 0.15))
    ended = process.poll() is not None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=MOST_S)
    return not ended


def timeless(value):
    """Return a JSON document without what says when and how long it was scored."""
    if isinstance(value, dict):
        gone = {"seconds", "started", "created", "end_datetime", "temporal", "attempts"}
        return {key: timeless(each) for key, each in value.items() if key not in gone}
    return [timeless(each) for each in value] if isinstance(value, list) else value


def made(out):
    """Return what a batch left: every file by name, with its content where no time stands in it."""
    found = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file() and ".tocsin" not in path.parts):
        name = path.relative_to(out).as_posix()
        if path.suffix == ".json":
            found[name] = timeless(json.loads(path.read_bytes()))
        elif path.suffix in {".tif", ".geojson"} and "ranking" not in name:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = None
    return found


def results(out):
    """Return the last line of the journal about each scene, times aside."""
    rows = [json.loads(line) for line in (out / ".tocsin/journal.jsonl").read_text().splitlines()]
    return {row["id"]: timeless(row) for row in rows}


@pytest.mark.slow
def test_batch_that_was_killed_twenty_times_is_as_one_that_was_not(command, started, tmp_path):
    """Files, rasters, polygons and the journal's results are those of an undisturbed run, and nothing is left over."""
    calm = tmp_path / "calm"
    undisturbed = started(command(calm))
    told, said = undisturbed.communicate(timeout=MOST_S)
    assert undisturbed.returncode == 7, said
    assert json.loads(told)["summary"]["done"] == SCENES
    kills, hunted = 0, [tmp_path / "hunted0"]
    while kills < KILLS:
        if killed(started(command(hunted[-1])), hunted[-1], PAUSES.choice((0, 1, 1, 2))):
            kills += 1
        else:
            # This one came to its end between two kills: it stays as it is, and the next kills meet another.
            hunted.append(tmp_path / f"hunted{len(hunted)}")
    for out in hunted:
        last = started(command(out))
        told, said = last.communicate(timeout=MOST_S)
        assert last.returncode == 7, said
        summary = json.loads(told)["summary"]
        assert summary["done"] + summary["skipped"] == SCENES
        assert made(out) == made(calm)
        assert results(out) == results(calm)
        assert list((out / ".tocsin/work").iterdir()) == []


@pytest.mark.slow
def test_interrupt_ends_a_batch_with_its_journal_whole(command, started, tmp_path):
    """Ctrl-C in the terminal reaches every process: exit 6, no half product, and the next run goes on."""
    out = tmp_path / "out"
    process = started(command(out))
    while lines(out) < 2 and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    told, said = process.communicate(timeout=MOST_S)
    assert process.returncode == 6, said
    assert json.loads(told)["status"] == "partial"
    assert "Traceback" not in said
    kept = lines(out)
    assert all(len(list(folder.iterdir())) >= 5 for folder in (out / "flood").iterdir())
    again = started(command(out))
    told, said = again.communicate(timeout=MOST_S)
    summary = json.loads(told)["summary"]
    assert (again.returncode, summary["skipped"] + summary["done"]) == (7, SCENES), said
    assert summary["skipped"] >= kept - 1


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["gone.csv", "-o", "out"], 2, "gone.csv"),
        (["m.csv", "-o", "m.csv"], 2, "-o"),
        (["m.csv", "-o", "out", "--hazard", "fire"], 2, "--hazard fire"),
        (["m.csv", "-o", "out", "--scheduler", "nowhere"], 2, "--scheduler nowhere"),
        (["m.csv", "-o", "out", "--memory", "1MB"], 2, "--memory"),
    ],
)
def test_what_holds_for_the_whole_batch_is_refused(arguments, exit_code, said, tmp_path, monkeypatch, capsys):
    """A manifest, target or option that cannot be meant ends the command before any work, in one JSON object."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.csv").write_text("hazard,post\nflood,a.tif\n")
    assert main(["batch", *arguments, "--json"]) == exit_code
    assert said in json.loads(capsys.readouterr().out)["error"]["given"]
    assert not list(tmp_path.rglob("*_class.tif"))
