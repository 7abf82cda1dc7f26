"""Jobs without a service: settings over a folder, scorers that do as they are told, a server that can be held up."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from stand_ins import make_result

PATIENCE_S = 240
"""How long a loaded machine may take for what takes seconds on a quiet one."""


def until(holds, what, patience_s=PATIENCE_S):
    """Wait until something holds, and return it."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come")


class ToldScorer:
    """Scores as it is told: so many windows, then a file and a result, or an error.

    Parameters
    ----------
    windows
        Of the scene.
    raises
        What each scoring in turn raises after its first window; once they are used up, scorings succeed.
    at_window
        Called with the number of every window before progress is told.
    """

    def __init__(self, windows=3, raises=(), at_window=lambda _: None):
        self.windows = windows
        self.raises = list(raises)
        self.at_window = at_window
        self.scored = []

    def score(self, hazard, *, out, options, on_progress, **inputs):
        """Do it."""
        self.scored.append((hazard, inputs, options))
        Path(out).mkdir(parents=True)
        for window in range(1, self.windows + 1):
            self.at_window(window)
            on_progress(window, self.windows)
            if self.raises:
                raise self.raises.pop(0)
        (Path(out) / "scene_class.tif").write_bytes(b"classes")
        return make_result(products={"class": f"{out}/scene_class.tif"})


@pytest.fixture
def job_settings(tmp_path):
    """Return settings over a state folder of the test's own."""
    pytest.importorskip("huey", reason="needs the extra serve")
    from serving.settings import ServiceSettings

    return ServiceSettings(state=tmp_path / "state", cancel_grace_s=1, runtime_patience_s=0)


@pytest.fixture
def job_folders(job_settings):
    """Return its folders."""
    from serving.jobs.folders import Folders

    return Folders(job_settings.state)


@pytest.fixture
def job_store(job_settings, job_folders):
    """Return its store, opened beside that of `jobs`."""
    from serving.jobs.store import JobStore, store_url

    store = JobStore(store_url(job_settings))
    yield store
    store.close()


@pytest.fixture
def jobs(job_settings):
    """Return its jobs; nobody works on them."""
    from serving.jobs import Jobs

    with Jobs(job_settings) as jobs:
        yield jobs


def submit(jobs, **named):
    """Submit a job of one input in its folder."""
    from serving.jobs import NewJob

    new = NewJob(**{"token": "desk", "hazard": "flood", "inputs": {"post": "in/scene.tif"}} | named)
    (jobs.make_folder(new.id) / "in" / "scene.tif").write_bytes(b"scene")
    return jobs.submit(new)


class HeldServer:
    """A Triton server of one flood model, whose windows wait until they are allowed; smaller chips pass (the canary).

    Attributes
    ----------
    asked : int
        Windows that came.
    """

    def __init__(self, sha256, port=0):
        self.asked = 0
        self._sha256 = sha256
        self._allowed = threading.Semaphore(0)
        self._free = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.answer(json.dumps(outer.config()).encode())

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                split = int(self.headers["Inference-Header-Content-Length"])
                shape = json.loads(body[:split])["inputs"][0]["shape"]
                if shape[-1] > 32:
                    outer.asked += 1
                    outer.wait()
                s1 = np.frombuffer(body[split:], dtype=np.float32).reshape(shape)
                water = (1 / (1 + np.exp(s1[:, 1:2] + 21))).astype(np.float32)
                spec = {"name": "water", "datatype": "FP32", "shape": list(water.shape)}
                spec["parameters"] = {"binary_data_size": water.nbytes}
                head = json.dumps({"model_name": "flood", "model_version": "1", "outputs": [spec]}).encode()
                self.answer(head + water.tobytes(), {"Inference-Header-Content-Length": str(len(head))})

            def answer(self, body, headers=None):
                self.send_response(200)
                for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                """A killed worker leaves its question unheard."""

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def config(self):
        """Return what says which graph is served."""
        said = {"precision": "fp32", "graph_sha256": self._sha256}
        parameters = {key: {"string_value": value} for key, value in said.items()}
        return {"parameters": parameters, "instance_group": [{"kind": "KIND_CPU"}]}

    def wait(self):
        """Hold a window up."""
        while not self._free.is_set() and not self._allowed.acquire(timeout=0.02):
            """Look again."""

    def allow(self, windows=1):
        """Answer so many that wait or come."""
        self._allowed.release(windows)

    def let_go(self):
        """Answer all that wait, and whatever comes."""
        self._free.set()

    def close(self):
        """Stop."""
        self.let_go()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def held_server(repository, port=0):
    """Serve the flood model of a repository."""
    facts = json.loads((repository / "flood" / "manifest.json").read_text())
    server = HeldServer(facts["artifacts"][0]["sha256"], port)
    try:
        yield server
    finally:
        server.close()
