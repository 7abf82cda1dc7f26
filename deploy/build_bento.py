"""Build a bento of the service: `python deploy/build_bento.py [--out FOLDER]`, or `make bento`.

The bento is a folder that holds the project's wheel, with the models inside, and every package that it needs in the
version of constraints.txt; deploy/Dockerfile.cpu and deploy/Dockerfile.gpu make images of it. Nothing is fetched here.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from email import message_from_bytes
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("tocsin", "training", "export", "serving", "model_repository", "pyproject.toml", "README.md", "LICENSE")
EXTRAS = ("cpu", "serve")
NO_GPU, GPU = "onnxruntime", "onnxruntime-gpu"
BENTOFILE = """\
service: "bento_service:Tocsin"
description: "Scenes in, decision products out, over HTTP."
include: ["*.py", "wheels/*.whl", "requirements*.txt"]
python:
  requirements_txt: requirements.txt
  lock_packages: false
"""


def main() -> None:
    """Build, and print where the bento is."""
    parser = argparse.ArgumentParser(description="Build a bento of the service.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist/bento", help="folder of the bento; replaced")
    out = parser.parse_args().out.resolve()
    with tempfile.TemporaryDirectory(prefix="tocsin-bento-") as folder:
        built = build(Path(folder))
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(built, out)
    print(out)


def build(folder: Path) -> Path:
    """Build in an empty folder, and return the bento's."""
    context, home = folder / "context", folder / "home"
    wheel = build_wheel(folder / "sources", context / "wheels")
    shutil.copy(ROOT / "deploy/bento_service.py", context)
    lines = [f"./wheels/{wheel.name}", *requirements(wheel)]
    (context / "requirements.txt").write_text("\n".join(lines) + "\n")
    on_gpu = [line.replace(f"{NO_GPU}==", f"{GPU}==") for line in lines]
    (context / "requirements-gpu.txt").write_text("\n".join(on_gpu) + "\n")
    (context / "bentofile.yaml").write_text(BENTOFILE)
    # What the build imports must not depend on who builds: neither on their settings nor on their tokens.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}
    clean |= {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True", "TOCSIN_STATE": str(folder / "state")}
    version = metadata.version("tocsin")
    command = [sys.executable, "-m", "bentoml", "build", "--version", version, "."]
    done = subprocess.run(command, cwd=context, env=clean, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return home / "bentos/tocsin" / version


def build_wheel(copy: Path, out: Path) -> Path:
    """Build the project's wheel from a copy, so that nothing of an earlier build gets in, and return its path."""
    copy.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return next(out.glob("*.whl"))


def requirements(wheel: Path) -> list[str]:
    """Return every package that the wheel needs to serve, each in the version of constraints.txt."""
    rows = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(row.split("==") for row in rows if row and not row.startswith("#"))
    return [f"{name}=={pins[name]}" for name in sorted(needed(wheel))]


def needed(wheel: Path) -> set[str]:
    """Return the names of what the wheel needs, as it says itself, and of what that needs, as installed here."""
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        said = message_from_bytes(opened.read(name)).get_all("Requires-Dist") or []
    found = set[tuple[str, frozenset[str]]]()
    waiting = wanted_of(said, frozenset(EXTRAS))
    while waiting:
        need = waiting.pop()
        if need not in found:
            found.add(need)
            waiting |= wanted_of(metadata.requires(need[0]) or [], need[1])
    return {name for name, _ in found}


def wanted_of(requires: list[str], extras: frozenset[str]) -> set[tuple[str, frozenset[str]]]:
    """Return those requirements, by name and extras, whose markers hold here with these extras."""
    needs = [Requirement(text) for text in requires]
    held = [
        need for need in needs if need.marker is None or any(need.marker.evaluate({"extra": e}) for e in (*extras, ""))
    ]
    return {(canonicalize_name(need.name), frozenset(need.extras)) for need in held}


if __name__ == "__main__":
    main()
