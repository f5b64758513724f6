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

import sam_ft


ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = Path(os.environ.get("INSTALLED", "."))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A copy of the package without its weights, which take half of the time of a build."""
    folder = tmp_path_factory.mktemp("sources")
    for name in ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.cfg"):
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


def test_launch_files_refer_to_files_of_this_release():
    wheel = f"sam_ft-{sam_ft.__version__}-py3-none-any.whl"
    assert wheel in (ROOT / "examples" / "hf_jobs.py").read_text(encoding="utf-8")
    assert wheel in (ROOT / "docs" / "quick_start.md").read_text(encoding="utf-8")
    task = yaml.safe_load((ROOT / "examples" / "skypilot.yaml").read_text(encoding="utf-8"))
    named = {word for word in task["run"].split() if "/" in word and (ROOT / word.split("/")[0]).is_dir()}
    assert "recipes/sam3_ft.py" in named
    assert all((ROOT / name).is_file() for name in {*named, task["envs"]["CONFIG"]})


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    """Return a function that runs `sam-ft` of the installed wheel in an empty folder and returns its output."""
    folder = tmp_path_factory.mktemp("empty")
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}

    def run(*words, status=0, program="sam-ft"):
        done = subprocess.run(
            [PROGRAMS.resolve() / program, *words], cwd=folder, env=variables, capture_output=True, text=True
        )
        assert done.returncode == status, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    run.folder = folder
    return run


@pytest.mark.install
def test_commands_of_the_installed_wheel(call):
    output = call("demo-run")
    assert "new phrases" in output
    model = "out/demo"
    call("check", "--config", "demo")
    call("convert", "--config", "demo", "--target_dir", "converted")
    images = str(next(call.folder.glob("converted/**/*.png")).parent)
    call(
        "predict",
        "--model_name_or_path",
        model,
        "--images",
        images,
        "--phrases",
        "star",
        "--outputs",
        "coco",
        "overlays",
    )
    assert list(call.folder.glob("out/predictions/**/coco.json"))
    assert "l4" in call("plan", "--config", "sam3_lora_24gb", "--card", "l4").lower()
    call("evaluate", "--config", "demo", "--model_name_or_path", model, "--output_dir", "out/evaluation")
    call("export", "--model_name_or_path", "sam-ft/tiny", "--format", "transformers", "--output_path", "out/exported")
    call("finetune", "--config", "sam2_smoke", "--max_steps", "2", "--output_dir", "out/sam2")
    launch = ["launch", "--quiet", "--cpu", "--num_processes", "2", "-m", "sam_ft", "finetune", "--config", "demo"]
    call(*launch, "--max_steps", "2", "--output_dir", "out/two", program="accelerate")


@pytest.mark.install
@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("demo", ["demo", "--model_name_or_path", "sam-ft/tiny"]),
        ("onnx", ["export", "--model_name_or_path", "sam-ft/tiny", "--format", "onnx", "--output_path", "out/onnx"]),
        ("quantization", ["finetune", "--config", "sam3_qlora", "--model_name_or_path", "sam-ft/tiny", "--dataset_name", "synthetic"]),
        ("ray", ["predict", "--model_name_or_path", "sam-ft/tiny", "--images", ".", "--phrases", "star", "--engine", "ray"]),
    ],
)  # fmt: skip
def test_a_missing_extra_is_named(call, extra, words):
    from PIL import Image

    Image.new("RGB", (64, 64)).save(call.folder / "a.png")
    lines = call(*words, status=1).strip().splitlines()
    assert f"sam-ft[{extra}]" in lines[-1]
