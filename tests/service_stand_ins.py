"""A service for tests: the real application over models whose answers are known; conftest loads this."""

import shutil
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

CHIP = 64
ENDS_WITHIN_S = 120
"""How long a loaded machine may take for what takes a second on a quiet one."""


@contextmanager
def opened(settings, **named):
    """Lend a client of a service that runs in this process, its workers beside it."""
    pytest.importorskip("bentoml", reason="needs the extra serve")
    from starlette.testclient import TestClient

    from serving.app import create_app

    here = {"base_url": "http://127.0.0.1", "client": ("127.0.0.1", 50_000), "raise_server_exceptions": False}
    with TestClient(create_app(settings), **{**here, **named}) as client:
        yield client


def settings_of(state, models, **named):
    """Return the settings of a service over small models."""
    pytest.importorskip("pydantic_core", reason="needs the extra serve")
    from serving.settings import ServiceSettings

    own = {"threads": 1, "sync_wait_s": ENDS_WITHIN_S, "token_requests_per_minute": 100_000}
    own["inspect_timeout_s"] = ENDS_WITHIN_S
    return ServiceSettings(state=state, model_repository=models, **{**own, **named})


@pytest.fixture(scope="session")
def small_models(tmp_path_factory, logistic_models, volcano_models, landslide_models):
    """Return a repository with the small model of every hazard."""
    folder = tmp_path_factory.mktemp("service_models")
    for repository in (logistic_models, volcano_models, landslide_models):
        shutil.copytree(repository, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def service(tmp_path_factory, small_models):
    """Return a client of a service that asks this machine for no token."""
    with opened(settings_of(tmp_path_factory.mktemp("state"), small_models)) as client:
        yield client


@pytest.fixture(scope="session")
def chip_bytes(tmp_path_factory):
    """Return a GeoTIFF of one chip, VV and VH in dB: water in its left half, a hole, dry ground."""
    rasterio = pytest.importorskip("rasterio")
    from rasterio.transform import from_origin

    values = np.full((2, CHIP, CHIP), -10.0, np.float32)
    values[1, :, : CHIP // 2] = -30.0
    values[:, :8, :8] = np.nan
    path = tmp_path_factory.mktemp("chip") / "chip.tif"
    profile = {"driver": "GTiff", "height": CHIP, "width": CHIP, "count": 2, "dtype": "float32", "crs": "EPSG:32630"}
    with rasterio.open(path, "w", **profile, nodata=np.nan, transform=from_origin(5e5, 4.4e6, 10, 10)) as raster:
        raster.write(values)
        raster.descriptions = ("VV", "VH")
    return path.read_bytes()


@contextmanager
def listening(app):
    """Serve an application over HTTP on a free port of this machine, and lend its address."""
    uvicorn = pytest.importorskip("uvicorn", reason="needs the extra serve")

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until = time.monotonic() + ENDS_WITHIN_S
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < until
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
