"""Readiness: every check is really made, and none that hangs is waited for twice."""

import asyncio
import json
import threading
import time

import numpy as np
import pytest

from serving.observability import Metrics, ModelCanary, Readiness, canary, probes, readiness
from tocsin.errors import ModelInvalidError, ModelUnknownError, RuntimeUnavailableError
from tocsin.runtimes.fake import FakeRuntime
from tocsin.scoring_job import ScoringOptions

DEAD = RuntimeUnavailableError("a backend at 10.0.0.7:8001", "one that answers", "start it")


class Counted:
    """A check that passes, fails as told, and counts its calls."""

    def __init__(self, error=None):
        self.error, self.calls = error, 0

    def __call__(self):
        """Pass or fail."""
        self.calls += 1
        if self.error is not None:
            raise self.error


@pytest.fixture
def made():
    """Return what makes a readiness that is closed afterwards."""
    opened = []

    def make(checks, **named):
        opened.append(Readiness(checks, **named))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def ask(readiness, times=1):
    """Return the verdicts of probes, one after the other, in one event loop."""

    async def run():
        return [await readiness.verdict() for _ in range(times)]

    return asyncio.run(run())


def test_verdict_is_kept_for_seconds(made):
    """Probes within the fresh time share one check."""
    check = Counted()
    assert all(verdict.ready for verdict in ask(made({"models": check}, fresh_s=60), times=5))
    assert check.calls == 1


def test_probes_at_once_share_one_check(made):
    """Probes that come together wait for the same check."""
    check = Counted()
    ready = made({"models": check}, fresh_s=0)

    async def run():
        return await asyncio.gather(*(ready.verdict() for _ in range(20)))

    assert all(verdict.ready for verdict in asyncio.run(run()))
    assert check.calls == 1


def test_dead_backend_is_not_ready(made):
    """A check that fails makes the service not ready under its name and code; others are still told apart."""
    (verdict,) = ask(made({"models": Counted(DEAD), "workers": Counted()}))
    assert not verdict.ready
    assert {name: error.code for name, error in verdict.errors.items()} == {"models": "runtime_unavailable"}


def test_backend_that_comes_back_is_ready(made):
    """After a failure the next check decides anew."""
    check = Counted(DEAD)
    ready = made({"models": check}, fresh_s=0)
    assert not ask(ready)[0].ready
    check.error = None
    assert ask(ready)[0].ready


def test_defect_of_a_check_is_not_ready(made):
    """An exception that is no error of ours is a runtime that fails, not a crash of the probe."""
    (verdict,) = ask(made({"models": Counted(ZeroDivisionError("by 0"))}))
    assert verdict.errors["models"].code == "runtime_unavailable"


def test_hanging_check_is_not_ready_and_not_repeated(made):
    """A check that hangs ends as deadline_exceeded after its time, is not started a second time, and blocks no loop."""
    release, calls, beats = threading.Event(), [], []

    def hang():
        calls.append(1)
        release.wait()

    async def run():
        async def beat():
            while True:
                beats.append(time.monotonic())
                await asyncio.sleep(0.01)

        pulse = asyncio.create_task(beat())
        verdicts = [await ready.verdict() for _ in range(3)]
        pulse.cancel()
        return verdicts

    ready = made({"models": hang, "workers": Counted()}, timeout_s=0.2, fresh_s=0)
    try:
        verdicts = asyncio.run(run())
    finally:
        release.set()
    assert [list(verdict.errors) for verdict in verdicts] == [["models"]] * 3
    assert verdicts[0].errors["models"].code == "deadline_exceeded"
    assert len(calls) == 1
    assert len(beats) > 10


def test_slow_check_delays_no_probe_while_a_verdict_holds(made, monkeypatch):
    """While a verdict is young enough a probe is told it after a moment; the next one is told what the check found."""
    monkeypatch.setattr(readiness, "PATIENCE_S", 0.01)
    release = threading.Event()
    ready = made({"models": release.wait}, timeout_s=30)
    ready._last = old = readiness.Verdict({}, time.monotonic() - ready.fresh_s - 1)

    async def run():
        told = await ready.verdict()
        release.set()
        await ready._renewal
        return told, await ready.verdict()

    first, second = asyncio.run(run())
    assert first is old
    assert second is not old


def test_old_verdict_is_not_told(made):
    """A verdict beyond its age is no answer: the probe waits for a new one."""
    ready = made({"models": Counted(DEAD)})
    ready._last = readiness.Verdict({}, time.monotonic() - ready.oldest_s)
    assert not ask(ready)[0].ready


def test_probe_says_codes_only(made):
    """/readyz answers 503 with codes; where the backend is stays in the log, as no token is needed."""
    response = asyncio.run(probes.ready(made({"models": Counted(DEAD)})))
    assert response.status_code == 503
    assert json.loads(response.body) == {"ready": False, "failed": {"models": "runtime_unavailable"}}
    assert response.headers["cache-control"] == "no-store"
    assert asyncio.run(probes.ready(made({}))).status_code == 200
    assert probes.live().status_code == 200


def test_verdicts_are_metrics(made):
    """The gauge follows the verdict, and each check tells its seconds."""
    metrics, check = Metrics(), Counted(DEAD)
    ready = made({"models": check}, fresh_s=0, metrics=metrics)
    for error, value in ((DEAD, 0), (None, 1)):
        check.error = error
        ask(ready)
        assert metrics.registry.get_sample_value("tocsin_ready") == value
    assert metrics.registry.get_sample_value("tocsin_check_seconds", {"check": "models"}) >= 0


def test_model_judges_a_chip(logistic_models):
    """A model that answers a valid chip with numbers passes, again and again with one runtime."""
    check = ModelCanary(["flood"], ScoringOptions(model_repository=logistic_models))
    check()
    check()
    check.close()


def test_missing_or_changed_model_fails(logistic_models, tmp_path):
    """A model that is not there, or whose graph is another one than its manifest says, fails with its code."""
    with pytest.raises(ModelUnknownError):
        ModelCanary(["fire"], ScoringOptions(model_repository=logistic_models))()
    folder = tmp_path / "models/flood"
    (folder / "1").mkdir(parents=True)
    (folder / "manifest.json").write_text((logistic_models / "flood/manifest.json").read_text())
    (folder / "1/model.onnx").write_bytes(b"another")
    with pytest.raises(ModelInvalidError):
        ModelCanary(["flood"], ScoringOptions(model_repository=tmp_path / "models"))()


def test_failed_runtime_is_opened_anew(logistic_models, monkeypatch):
    """A runtime whose answer is no number is closed; the next check opens another one."""
    opened = []

    def open_one(_model, _options):
        value = np.float32(np.nan if not opened else 0.5)
        opened.append(FakeRuntime(lambda inputs: {"water": np.full_like(inputs["s1"][:, :1], value)}))
        return opened[-1]

    monkeypatch.setattr(canary, "open_runtime", open_one)
    check = ModelCanary(["flood"], ScoringOptions(model_repository=logistic_models))
    with pytest.raises(RuntimeUnavailableError, match="no number"):
        check()
    check()
    with pytest.raises(RuntimeUnavailableError, match="closed"):
        opened[0].run({})
    assert len(opened) == 2
    check.close()
