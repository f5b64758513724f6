"""Files of wheel and sdist, and the commands of an installed wheel in an empty folder (`make test-install`)."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml


ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = Path(os.environ.get("INSTALLED", "."))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A copy of the package without its weights, which take half of the time of a build."""
    folder = tmp_path_factory.mktemp("sources")
    for name in ("LICENSE", "README.md", "pyproject.toml", "setup.cfg"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "sam_ft", folder / "sam_ft", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    for weights in (ROOT / "sam_ft").rglob("*.safetensors"):
        (folder / weights.relative_to(ROOT)).touch()
    return folder


def test_wheel_and_sdist_contain_all_files_of_the_package(sources):
    expected = {file.relative_to(sources).as_posix() for file in (sources / "sam_ft").rglob("*") if file.is_file()}
    assert len([name for name in expected if not name.endswith(".py")]) > 30
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(sources / "dist"), str(sources)]
    done = subprocess.run(build, cwd=sources, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (wheel,) = (sources / "dist").glob("*.whl")  # built from the sdist
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == expected
    (sdist,) = (sources / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert expected <= names


def test_the_documented_extras_are_those_of_the_package():
    import configparser

    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    table = (
        (ROOT / "docs" / "quick_start.md").read_text(encoding="utf-8").partition("## Extras")[2].partition("\n## ")[0]
    )
    for extra in setup["options.extras_require"]:
        assert f"| `{extra}` |" in table, extra


def test_workflows_call_targets_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for file in (ROOT / ".github" / "workflows").glob("*.yml"):
        for entry in yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"]["make"]["strategy"]["matrix"]["include"]:
            assert f"\n{entry['target']}: " in makefile, entry
