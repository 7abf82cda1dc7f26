"""What the repository may hold: sizes, words, pins and rooms."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

LARGEST_FILE = 15 << 20
LARGEST_TOTAL = 90 << 20
README_LINES = 150
MODULE_LINES = 400
FUNCTION_LINES = 50
CODE = ("tocsin", "training", "export", "serving")
PLACES = re.compile(
    r"/root/|/home/\w|/work/(?:main|shared)|(?:^|\s)(?:extra-)?index-url|find-links|file://|@ https?://"
)
BOUND_TO_NUMPY = {"numpy", "numpy-typing-compat"}
LIES_INSIDE_THE_SERVER = {"triton_python_backend_utils"}
OPENERS = {"open", "MemoryFile", "DatasetReader", "DatasetWriter", "WarpedVRT"}


@pytest.fixture(scope="module")
def tracked(root: Path) -> list[Path]:
    """Return every file under version control."""
    found = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=False)  # noqa: S607
    if found.returncode:
        pytest.skip("this is no checkout")
    return [root / name for name in found.stdout.decode().split("\0") if name and (root / name).is_file()]


def sources(root: Path) -> list[Path]:
    """Return every module of the four packages."""
    return [path for package in CODE for path in sorted((root / package).rglob("*.py"))]


def test_readme_is_short(root: Path):
    """Who opens the README reads at most 150 lines."""
    assert len((root / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


def test_readme_links_lead_somewhere(root: Path):
    """Every relative link of README and docs names a file that is there."""
    for page in [root / "README.md", root / "CONTRIBUTING.md", *(root / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not link.startswith(("http://", "https://", "mailto:")):
                assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_no_file_is_large(tracked: list[Path]):
    """No tracked file is over 15 MB, and all together are below 90 MB."""
    sizes = {path: path.stat().st_size for path in tracked}
    assert {path: size for path, size in sizes.items() if size > LARGEST_FILE} == {}
    assert sum(sizes.values()) <= LARGEST_TOTAL


def test_modules_and_functions_are_short(root: Path):
    """No module has more than 400 lines, no function more than 50 (commands aside, whose length is options)."""
    long = []
    for path in sources(root):
        text = path.read_text(encoding="utf-8")
        if len(text.splitlines()) > MODULE_LINES:
            long.append(str(path))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and "cli" not in path.parts and path.name != "commands.py":
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if body and (body[-1].end_lineno or 0) - body[0].lineno + 1 > FUNCTION_LINES:
                    long.append(f"{path}:{node.name}")
    assert long == []


def test_no_place_of_a_machine_is_named(tracked: list[Path]):
    """No file names a folder of a developer's machine or a package registry."""
    named = {}
    for path in tracked:
        if path.suffix in {".py", ".toml", ".txt", ".md", ".yaml", ".yml", ".json", ".pbtxt", ".bib", ""} and (
            path.name != Path(__file__).name
        ):
            hits = [line for line in path.read_text(encoding="utf-8").splitlines() if PLACES.search(line)]
            if hits:
                named[str(path)] = hits
    assert named == {}


def test_nothing_is_left_unfinished(root: Path):
    """No marker of unfinished work is left in the four packages."""
    marker = re.compile("TO" + "DO|FIX" + "ME|NotImplemented" + "Error|X" + "XX")
    hits = {
        str(path): match.group() for path in sources(root) if (match := marker.search(path.read_text(encoding="utf-8")))
    }
    assert hits == {}


def test_broad_except_only_at_the_process_border(root: Path):
    """Only a process border swallows everything; elsewhere a broad except cleans up and raises again."""
    swallowing = set()
    for path in sources(root):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ExceptHandler):
                continue
            broad = node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}
            last = node.body[-1]
            if broad and not (isinstance(last, ast.Raise) and last.exc is None):
                swallowing.add(path.relative_to(root).as_posix())
    # The pipeline carries an error from one thread to another; onnxruntime raises a dozen unrelated types; the backend
    # is the border of a server's process, an attempt at a job or at a scene of a batch that of a worker's.
    assert swallowing <= {
        "serving/backends/onnxruntime/model.py",
        "serving/batch/worker.py",
        "serving/jobs/attempt.py",
        "serving/border.py",
        "tocsin/cli/border.py",
        "tocsin/pipeline.py",
        "tocsin/runtimes/onnx.py",
    }


def test_rasters_are_opened_in_one_room(root: Path):
    """Outside tocsin.raster nobody opens a raster with rasterio."""
    outside = []
    for path in sources(root):
        if path.is_relative_to(root / "tocsin/raster"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            opens = (
                isinstance(node, ast.Attribute)
                and node.attr in OPENERS
                and isinstance(node.value, ast.Name | ast.Attribute)
                and ast.unparse(node.value).split(".")[0] == "rasterio"
            )
            imports = (
                isinstance(node, ast.ImportFrom)
                and (node.module or "").split(".")[0] == "rasterio"
                and any(name.name in OPENERS for name in node.names)
            )
            if opens or imports:
                outside.append(f"{path}:{node.lineno}")
    assert outside == []


def test_every_module_says_what_it_is(root: Path):
    """Every module has a docstring, and no room is called utils, helpers, common, manager or misc."""
    for path in sources(root):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path
        assert path.stem not in {"utils", "helpers", "common", "manager", "misc"}, path


def test_every_test_says_what_it_proves(root: Path):
    """Every test has a docstring of one sentence."""
    for path in sorted((root / "tests").glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                said = ast.get_docstring(node)
                assert said, f"{path.name}:{node.name}"
                assert "\n\n" not in said, f"{path.name}:{node.name}"


def pins(path: Path) -> dict[str, str]:
    """Return version by package of a constraints file."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def test_constraints_pin_every_dependency(root: Path):
    """Each package that pyproject names has its pin, gpu and tensorrt aside, which need another machine."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {
        name: wanted for name, wanted in project["optional-dependencies"].items() if name not in {"gpu", "tensorrt"}
    }
    for constraints, left_out in (("constraints.txt", {"triton"}), ("constraints-triton.txt", set())):
        pinned = pins(root / constraints)
        wanted = [*project["dependencies"], *(each for name in extras.keys() - left_out for each in extras[name])]
        names = {re.split(r"[\[<>=]", each, maxsplit=1)[0].lower().replace("_", "-") for each in wanted}
        assert names - pinned.keys() == set(), constraints


def test_constraints_differ_by_numpy_only(root: Path):
    """The two worlds pin the same versions, apart from numpy and what is built for it."""
    two, one = pins(root / "constraints.txt"), pins(root / "constraints-triton.txt")
    assert {name for name in two.keys() & one.keys() if two[name] != one[name]} == BOUND_TO_NUMPY
    assert two["numpy"].startswith("2.")
    assert one["numpy"].startswith("1.26.")
    assert two.keys() - one.keys() == set()


def test_public_names_are_frozen():
    """These are the names that `import tocsin` promises."""
    import tocsin

    assert sorted(tocsin.__all__) == ["AsyncClient", "Client", "Result", "Scorer", "__version__", "errors", "score"]


def imported(folder: Path) -> set[str]:
    """Return the top-level names that the modules of a folder import, also inside functions."""
    names = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {each.name.split(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize(
    ("package", "extras"),
    [
        ("tocsin", ["cpu", "client", "triton"]),
        ("training", ["cpu", "train"]),
        ("export", ["cpu", "train"]),
        ("serving", ["serve", "batch", "triton"]),
    ],
)
def test_every_import_is_declared(package: str, extras: list[str], root: Path):
    """What a package imports is declared in pyproject, not only brought by something else."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(each for extra in extras for each in project["optional-dependencies"][extra])]
    declared = {re.split(r"[\[<>=]", each, maxsplit=1)[0].lower().replace("_", "-") for each in wanted}
    providers = metadata.packages_distributions()
    for name in imported(root / package) - set(sys.stdlib_module_names) - set(CODE) - LIES_INSIDE_THE_SERVER:
        found = {each.lower().replace("_", "-") for each in providers.get(name, [name])}
        assert found & declared, f"{package} imports {name}"
