"""The wheel, installed elsewhere: it carries commands and models, and runs under numpy 2."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

SCENE = """
from pathlib import Path
import sys
from tocsin.simulate import write_flood_scene
print(write_flood_scene(Path(sys.argv[1])).post)
"""

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command without this environment's settings and return its stdout."""
    done = subprocess.run([str(each) for each in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, from a copy so that the checkout stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=root).split("\0")
    for name in filter(None, listed):
        if (root / name).is_file():
            target = folder / "copy" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((root / name).read_bytes())
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, folder / "copy", cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the bin folder of a fresh environment with the wheel and its extra cpu."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    pip = [folder / "bin/python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    run(*pip, "-c", root / "constraints.txt", f"{wheel}[cpu]", cwd=folder)
    return folder / "bin"


def test_wheel_holds_four_packages_and_the_models(wheel: Path, root: Path):
    """The wheel carries every module and every file of the model repository, and no test."""
    import zipfile

    names = set(zipfile.ZipFile(wheel).namelist())
    top = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert top == {"tocsin", "training", "export", "serving", "model_repository"}
    shipped = {path.relative_to(root).as_posix() for path in (root / "model_repository").rglob("*") if path.is_file()}
    assert shipped
    assert shipped <= names
    recipes = {path.relative_to(root).as_posix() for path in (root / "training").rglob("*.yaml")}
    assert recipes <= names
    page = {path.relative_to(root).as_posix() for path in (root / "serving/batch/page").iterdir()}
    assert page <= names


def test_environment_has_numpy_2(elsewhere: Path, tmp_path: Path):
    """Without the triton extra users get numpy 2."""
    assert run(elsewhere / "python", "-c", "import numpy; print(numpy.__version__)", cwd=tmp_path).startswith("2.")


def test_models_are_found_from_anywhere(elsewhere: Path, tmp_path: Path):
    """An installed wheel lists its models from any working directory, beside the package."""
    found = json.loads(run(elsewhere / "tocsin", "models", "--json", cwd=tmp_path))
    assert "flood" in [model["name"] for model in found["models"]]
    assert Path(found["repository"]).is_relative_to(elsewhere.parent)


def test_doctor_is_content(elsewhere: Path, tmp_path: Path):
    """In an environment with the extra cpu scoring works, and the doctor says so."""
    assert json.loads(run(elsewhere / "tocsin", "doctor", "--json", cwd=tmp_path))["ok"] is True


def test_wheel_scores_a_scene(elsewhere: Path, tmp_path: Path):
    """`tocsin flood` of the wheel maps a simulated scene, without torch being there."""
    scene = run(elsewhere / "python", "-c", SCENE, tmp_path / "scene", cwd=tmp_path).strip()
    result = json.loads(run(elsewhere / "tocsin", "flood", scene, "-o", "out", "--json", cwd=tmp_path))
    assert result["status"] == "ok"
    assert result["summary"]["water_km2"] > 0
    for path in result["products"].values():
        assert (tmp_path / path).is_file()


def test_commands_of_missing_extras_say_what_to_install(elsewhere: Path, tmp_path: Path):
    """`tocsin train` without torch exits 5 and names the extra."""
    done = subprocess.run(
        [elsewhere / "tocsin", "train", "flood", "--json"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (5, "runtime_unavailable")
    assert "tocsin[train]" in error["todo"]
