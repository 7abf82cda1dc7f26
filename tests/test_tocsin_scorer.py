"""Many scenes with one scorer: what is opened once, what is told, what an accident costs."""

import numpy as np
import pytest
import rasterio

from tocsin import Scorer, scoring
from tocsin.errors import RuntimeUnavailableError, TocsinError
from tocsin.runtimes.fake import FakeRuntime


class StoppedError(TocsinError):
    """What a caller raises to end a scoring."""


@pytest.fixture
def opened(monkeypatch):
    """Return the runtimes that were opened; each answers that everything is half water."""
    runtimes = []

    def open_fake(*_):
        runtimes.append(FakeRuntime(lambda inputs: {"water": inputs["s1"][:, :1] * 0 + 0.5}))
        return runtimes[-1]

    monkeypatch.setattr(scoring, "open_runtime", open_fake)
    return runtimes


@pytest.fixture
def scenes(tmp_path, backscatter, write_raster):
    """Return two scenes of several windows each."""
    return [write_raster(tmp_path / f"{name}.tif", backscatter(100, 150)) for name in ("a", "b")]


def test_model_and_runtime_are_opened_once(opened, scenes, logistic_models, tmp_path, monkeypatch):
    """Scene after scene runs in the same runtime, whatever else its options say; the end closes it."""
    loaded = []
    load = scoring.load_model
    monkeypatch.setattr(scoring, "load_model", lambda *given: loaded.append(given) or load(*given))
    with Scorer() as scorer:
        for overlap, scene in zip((0, 16), scenes, strict=True):
            scorer.score("flood", post=scene, out=tmp_path, model_repository=logistic_models, overlap=overlap)
        assert len(loaded) == len(opened) == 1
        assert not opened[0].closed
        scorer.score("flood", post=scenes[0], out=tmp_path / "2", model_repository=logistic_models, threads=1)
        assert len(opened) == 2
    assert all(runtime.closed for runtime in opened)


def test_a_scorer_gives_what_score_gives(scenes, logistic_models, score_flood, tmp_path):
    """The rasters of a scene do not depend on what the scorer did before."""
    alone = score_flood(scenes[1], out=tmp_path / "alone")
    with Scorer() as scorer:
        for scene in scenes:
            again = scorer.score("flood", post=scene, out=tmp_path / "kept", model_repository=logistic_models)
    assert again.summary == alone.summary
    values = []
    for result in (alone, again):
        with rasterio.open(result.products["class"]) as raster:
            values.append(raster.read())
    assert np.array_equal(*values)


def test_progress_counts_every_window(opened, scenes, logistic_models, tmp_path):
    """What is told rises by one to the number of windows, also when nothing is shown."""
    told = []
    with Scorer() as scorer:
        named = {"post": scenes[0], "out": tmp_path, "model_repository": logistic_models, "quiet": True}
        planned = scorer.score("flood", dry_run=True, **named)
        scorer.score("flood", on_progress=lambda done, total: told.append((done, total)), **named)
    assert opened
    assert told == [(done, planned.summary.windows) for done in range(1, planned.summary.windows + 1)]


def test_what_progress_raises_ends_the_scoring(opened, scenes, logistic_models, tmp_path):
    """Nothing of the scene is left, and the next one runs in a runtime of its own."""

    def stop(done, _total):
        if done == 2:
            raise StoppedError("a cancelled job", "to go on", "nothing")

    with Scorer() as scorer:
        with pytest.raises(StoppedError):
            scorer.score("flood", post=scenes[0], out=tmp_path, model_repository=logistic_models, on_progress=stop)
        assert not list(tmp_path.glob("*_class.tif"))
        assert not list(tmp_path.glob(".*"))
        assert opened[0].closed
        scorer.score("flood", post=scenes[0], out=tmp_path, model_repository=logistic_models)
    assert len(opened) == 2


def test_a_failed_runtime_is_opened_anew(scenes, logistic_models, tmp_path, monkeypatch):
    """A server that went away is asked again for the next scene."""

    def gone(_inputs):
        raise RuntimeUnavailableError("a server that left", "one that is there", "start it")

    answers = iter([gone, lambda inputs: {"water": inputs["s1"][:, :1] * 0}])
    monkeypatch.setattr(scoring, "open_runtime", lambda *_: FakeRuntime(next(answers)))
    with Scorer() as scorer:
        with pytest.raises(RuntimeUnavailableError):
            scorer.score("flood", post=scenes[0], out=tmp_path, model_repository=logistic_models)
        assert scorer.score("flood", post=scenes[0], out=tmp_path, model_repository=logistic_models).status == "ok"
