"""The batch as a step of a platform: the CWL tool is valid and runs."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pystac
import pytest
import yaml

import tocsin


def cwltool(*arguments, cwd):
    """Run cwltool with the commands of this environment."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    command = [sys.executable, "-m", "cwltool", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def tool(root):
    """Return the tool's file."""
    return root / "deploy" / "tocsin-batch.cwl"


def test_the_tool_is_valid(tool, tmp_path):
    """Cwltool finds nothing to say against it."""
    checked = cwltool("--strict", "--validate", tool, cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert "is valid CWL" in checked.stdout + checked.stderr


def test_the_tool_names_this_version_and_the_exit_code_of_failed_scenes(tool):
    """A batch of which some scenes failed is done: its report says which."""
    facts = yaml.safe_load(tool.read_text())
    assert facts["hints"]["SoftwareRequirement"]["packages"]["tocsin"]["version"] == [tocsin.__version__]
    assert facts["successCodes"] == [0, 7]


@pytest.mark.slow
def test_a_catalog_goes_in_and_a_catalog_comes_out(tool, logistic_models, write_raster, backscatter, tmp_path):
    """One scene is mapped, a broken one is told: the catalog that comes out holds the item of the first."""
    scenes = tmp_path / "scenes"
    write_raster(scenes / "good.tif", backscatter(64, 64))
    (scenes / "bad.tif").write_text("no raster")
    catalog = pystac.Catalog("scenes", "two scenes")
    for name in ("good", "bad"):
        item = pystac.Item(name, None, None, datetime(2026, 1, 1, tzinfo=UTC), {"tocsin:hazard": "flood"})
        item.add_asset("post", pystac.Asset(f"../{name}.tif"))
        catalog.add_item(item)
    catalog.normalize_and_save(str(scenes), pystac.CatalogType.SELF_CONTAINED)
    out = tmp_path / "out"
    options = ("--outdir", out, tool, "--catalog", scenes, "--model_repository", logistic_models, "--workers", "1")
    ran = cwltool("--no-container", *options, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    result = json.loads((out / "result.json").read_text())
    assert (result["summary"]["done"], result["summary"]["failed"]) == (1, 1)
    assert [failure["id"] for failure in result["failures"]] == ["bad"]
    items = [item.id for item in pystac.Catalog.from_file(str(out / "products/catalog.json")).get_items(recursive=True)]
    assert items == ["good"]
    assert (out / "products/report.html").is_file()
