"""Is this machine able to score a scene: what is installed, which models are whole, and one real run of a graph."""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from tocsin.errors import TocsinError

PYTHON = (3, 11)
LEAST_FREE_BYTES = 2 << 30
"""A large scene's products and working files, with room to spare."""

EXTRAS = {
    "cpu or gpu": "onnxruntime",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt_rtx",
    "triton": "pytriton",
    "serve": "bentoml",
    "train": "torch",
    "batch": "dask",
    "dev": "pytest",
}
"""The package that tells whether an extra is there, by extra."""

SECRET = frozenset({"TOCSIN_JOB_STORE", "TOCSIN_TOKEN", "TOCSIN_TOKENS", "TOCSIN_WEBHOOK_SECRET"})


class Check(BaseModel):
    """One thing that was looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    ok: bool
    required: bool = Field(description="scoring does not work while this is not ok")
    found: str
    todo: str = Field(default="", description="what to do when it is not ok")
    exit_code: int = Field(default=0, description="exit code of the command line while this is required and not ok")


class Diagnosis(BaseModel):
    """Everything that was looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ok: bool = Field(description="scoring works here")
    checks: tuple[Check, ...]

    @property
    def exit_code(self) -> int:
        """Exit code of the first required check that failed, 0 when there is none."""
        return next((check.exit_code for check in self.checks if check.required and not check.ok), 0)


def diagnose(repository: Path | None, variables: Mapping[str, str]) -> Diagnosis:
    """Look at everything that scoring needs.

    Parameters
    ----------
    repository : Path or None
        Folder of the models; found as scoring finds it when None.
    variables : mapping of str to str
        Environment variables that tocsin reads, by name, with their meaning.
    """
    checks = [_python(), _gdal(), _proj(), _disk(), _machine()]
    checks += _models(repository)
    checks += [_run(repository, "cpu", required=True), _run(repository, "cuda", required=False)]
    checks += [_extra(name, module) for name, module in EXTRAS.items()]
    checks += [_variable(name, variables) for name in sorted(os.environ) if name.startswith("TOCSIN_")]
    return Diagnosis(ok=all(check.ok for check in checks if check.required), checks=tuple(checks))


def _python() -> Check:
    found = f"{platform.python_version()} at {sys.executable}"
    todo = f"install Python {PYTHON[0]}.{PYTHON[1]} or newer"
    return Check(name="python", ok=sys.version_info >= PYTHON, required=True, found=found, todo=todo, exit_code=5)


def _gdal() -> Check:
    try:
        import rasterio
    except ImportError as error:
        todo = "install the system library that the message names (libexpat1 on Debian), or rasterio"
        return Check(name="gdal", ok=False, required=True, found=str(error), todo=todo, exit_code=5)
    found = f"GDAL {rasterio.__gdal_version__}, rasterio {rasterio.__version__}, numpy {metadata.version('numpy')}"
    return Check(name="gdal", ok=True, required=True, found=found)


def _proj() -> Check:
    def locate() -> str:
        import pyproj

        east, north = pyproj.Transformer.from_crs(4326, 32633, always_xy=True).transform(15.0, 0.0)
        assert abs(east - 500_000) < 1
        assert abs(north) < 1
        return f"PROJ {pyproj.proj_version_str}"

    return _attempt("proj", locate, required=True)


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    found = f"{free / 2**30:.1f} GiB free in the working directory"
    return Check(name="disk", ok=free >= LEAST_FREE_BYTES, required=False, found=found, todo="free some space")


def _machine() -> Check:
    from tocsin.runtimes import available_cores

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found = f"{platform.machine()}, {available_cores()} cores, {memory:.0f} GiB memory, {platform.platform()}"
    return Check(name="machine", ok=True, required=False, found=found)


def _models(repository: Path | None) -> list[Check]:
    from tocsin.repository import find_repository, list_models, verify_model

    try:
        folder = find_repository(repository)
        names = list_models(folder)
    except TocsinError as error:
        return [_failed("models", error, required=True)]
    if not names:
        todo = "give --model-repository, or install the whole wheel"
        return [Check(name="models", ok=False, required=True, found=f"none in {folder}", todo=todo, exit_code=4)]

    def describe(name: str) -> Callable[[], str]:
        return lambda: f"{verify_model(name, folder).version}, every hash right, in {folder / name}"

    return [_attempt(f"model {name}", describe(name), required=True) for name in names]


def _run(repository: Path | None, device: str, *, required: bool) -> Check:
    """Run one chip through the graph of every model: the only proof that a runtime works."""

    def run() -> str:
        import numpy as np

        from tocsin.repository import list_models, load_model
        from tocsin.runtimes import RuntimeOptions, open_runtime
        from tocsin.runtimes.triton import canary_of

        names = list_models(repository)
        for name in names:
            model = load_model(name, repository)
            with open_runtime(model, RuntimeOptions.model_validate({"device": device})) as runtime:
                answer = runtime.run(canary_of(model.manifest).inputs)
            assert set(answer) == {output.name for output in model.manifest.outputs}, name
            assert all(np.isfinite(values).all() for values in answer.values()), name
        version = metadata.version(_distribution("onnxruntime"))
        return f"onnxruntime {version} ran a chip of {', '.join(names)} on {device}"

    return _attempt(f"runtime onnx on {device}", run, required=required)


def _distribution(module: str) -> str:
    return metadata.packages_distributions().get(module, [module])[0]


def _extra(name: str, module: str) -> Check:
    there = find_spec(module) is not None
    found = f"{module} {'is' if there else 'is not'} installed"
    todo = "" if there else f"pip install 'tocsin[{name.split(maxsplit=1)[0]}]' when you need it"
    return Check(name=f"extra {name}", ok=there, required=False, found=found, todo=todo)


def _variable(name: str, variables: Mapping[str, str]) -> Check:
    value = "(set, not shown)" if name in SECRET else os.environ[name]
    if name in variables:
        return Check(name=name, ok=True, required=False, found=value)
    return Check(name=name, ok=False, required=False, found=f"{value}: tocsin reads no such variable", todo="unset it")


def _attempt(name: str, action: Callable[[], str], *, required: bool) -> Check:
    try:
        return Check(name=name, ok=True, required=required, found=action())
    except TocsinError as error:
        return _failed(name, error, required=required)
    except (ImportError, AssertionError, RuntimeError) as error:
        found = f"{type(error).__name__}: {error}"
        todo = "install tocsin again, with its extra cpu"
        return Check(name=name, ok=False, required=required, found=found, todo=todo, exit_code=5)


def _failed(name: str, error: TocsinError, *, required: bool) -> Check:
    return Check(name=name, ok=False, required=required, found=error.given, todo=error.todo, exit_code=error.exit_code)
