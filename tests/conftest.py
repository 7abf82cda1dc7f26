"""Data sets, markers that skip with a reason, and an environment without the developer's own settings."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --fast."""
    parser.addoption("--fast", action="store_true", help="skip tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, and say why."""
    reasons = {
        "data": None if _data_folder() else "TOCSIN_DATA does not name the folder of the data sets",
        "gpu": None if Path("/dev/nvidia0").exists() else "there is no CUDA device",
        "slow": "--fast was given" if config.getoption("--fast") else None,
        "triton": None if find_spec("pytriton") else "the triton extra is not installed",
    }
    for item in items:
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _own_settings_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide every TOCSIN_* variable of the developer but the data sets."""
    for name in os.environ:
        if name.startswith("TOCSIN_") and name != "TOCSIN_DATA":
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def root() -> Path:
    """Root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of the public data sets; skips without TOCSIN_DATA."""
    folder = _data_folder()
    if folder is None:
        pytest.skip("TOCSIN_DATA does not name the folder of the data sets")
    return folder


@pytest.fixture(scope="session")
def sen1floods11(data: Path) -> Path:
    """Folder that holds S1Hand/ and LabelHand/ of Sen1Floods11."""
    folder = data / "sen1floods11/v1.1/data/flood_events/HandLabeled"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


def _data_folder() -> Path | None:
    named = os.environ.get("TOCSIN_DATA")
    folder = Path(named).resolve() if named else None
    return folder if folder is not None and folder.is_dir() else None
