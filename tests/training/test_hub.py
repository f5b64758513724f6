"""Uploads to a local server with the Hub's HTTP API, and models that an independent process loads from it."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from transformers import Sam3Model, TrainingArguments

from sam_ft import PredictOptions, Sam3Predictor
from sam_ft.commands.run_card import format_command_line
from sam_ft.models.families import PACKAGED_MODELS
from sam_ft.models.loading import load_as_trained, load_model
from sam_ft.models.sam3.concept_files import add_concept_files, write_concepts
from sam_ft.models.sam3.concepts import ConceptEntry
from sam_ft.options.model import ModelOptions
from sam_ft.training.hub_files import replace_local_paths, stage_model
from sam_ft.training.hub_upload import HubUploader

from ..hub_server import TOKEN, HubServer
from .common import ROOT, RUN_SCRIPTS, as_run, outputs_by_run


RUN = [
    "--dataset_name", "synthetic", "--scene_train_images", "3", "--scene_eval_images", "2", "--max_steps", "2", "--probe_images", "1",
    "--gradient_accumulation_steps", "1", "--eval_strategy", "steps", "--eval_steps", "1", "--save_strategy", "steps", "--save_steps", "1",
    "--logging_steps", "1", "--dataloader_num_workers", "0", "--use_cpu", "true", "--num_pictures", "1",
    "--lr_scale", "1", "--output_dir", "out/mine", "--push_to_hub", "true", "--hub_model_id", "someone/shapes",
]  # fmt: skip
SAM2_NAMES = ["someone/clicks", "someone/clicks-merged"]
SAM2_PROMPTS = {"input_points": torch.tensor([[[[20.0, 30.0]]]]), "input_labels": torch.tensor([[[1]]])}
# Script of a user without this package: models of SAM 3 by name, and of SAM 2 behind `--`.
INDEPENDENT_USER = """
import sys, numpy, torch
from peft import PeftModel
from transformers import Sam2Model, Sam2Processor, Sam3Model, Sam3Processor
image = (numpy.indices((96, 96)).sum(0)[..., None] * [1, 2, 3] % 256).astype("uint8")
predictions, end = {}, sys.argv.index("--")
for name in sys.argv[2:end]:
    if name.startswith("peft:"):
        name = name[5:]
        model = PeftModel.from_pretrained(Sam3Model.from_pretrained(name + "-base"), name)
        key = "peft:" + name
    else:
        model, key = Sam3Model.from_pretrained(name), name
    inputs = Sam3Processor.from_pretrained(name)(images=image, text="red circle", return_tensors="pt")
    with torch.no_grad():
        output = model.eval()(**inputs)
    predictions[key] = {"logits": output.pred_logits, "masks": output.pred_masks, "inputs": dict(inputs)}
prompts = {"input_points": torch.tensor([[[[20.0, 30.0]]]]), "input_labels": torch.tensor([[[1]]])}
for name in sys.argv[end + 1 :]:
    model = Sam2Model.from_pretrained(name).eval()
    side = Sam2Processor.from_pretrained(name).target_size
    pixels = torch.linspace(-1, 1, 3 * side * side).view(1, 3, side, side)
    if model.prompt_encoder.input_image_size == side:  # an adapter's base may have another canvas
        with torch.no_grad():
            predictions[name] = model(pixels, **prompts).pred_masks
assert not any(m.startswith("sam_ft") for m in sys.modules)
torch.save(predictions, sys.argv[1])
"""
SAM2_RUN = [
    "--dataset_name", "synthetic", "--scene_train_images", "3", "--scene_eval_images", "2", "--max_steps", "1", "--eval_strategy", "no",
    "--save_strategy", "no", "--dataloader_num_workers", "0", "--use_cpu", "true", "--report_to", "none", "--num_pictures", "1", "--eval_clicks", "1",
    "--resolution", "64", "--model_name_or_path", "sam-ft/random-tiny-sam2", "--push_to_hub", "true", "--hub_strategy", "end",
]  # fmt: skip
SAM2_RUNS = {
    "sam2 adapter": [
        "--lora",
        "attention",
        "--lora_r",
        "2",
        "--hub_merged",
        "true",
        "--hub_model_id",
        "someone/clicks",
        "--output_dir",
        "out/clicks",
    ],
}


def start(script, hub, folder, home, *arguments, **environment):
    (folder / "script.py").write_text(script)
    variables = {**os.environ, **hub.environment(home), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, str(folder / "script.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=variables)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


REFUSED = {
    "wrong token": (["--hub_token", "wrong", "--hub_model_id", "someone/new"], "hf auth login"),
    "another's": (["--hub_model_id", "other/shapes"], "owner/name"),
    "no name": (["--hub_model_id", "some one/x"], "owner/name"),
}


_COMMON = [
    "--images",
    "data/test_shapes/*/val/*.png",
    "--workers",
    "0",
    "--score_threshold",
    "0",
    "--max_detections",
    "3",
]
CONCEPTS = [
    "--report_to", "none", "--concept_tokens", "4", "--max_steps", "1", "--hub_model_id", "someone/cracks", "--hub_strategy", "end",
    "--output_dir", "out/cracks", "--hub_pictures", "false", "--eval_strategy", "no",
]  # fmt: skip
PREDICTED = {
    "from the Hub": ["--model_name_or_path", "someone/shapes", *_COMMON],
    "from here": ["--model_name_or_path", "out/mine", "--predictions_dir", "out/local", *_COMMON],
}
# Script of a user of this package who loads pushed concepts; pushes leave nothing in the cache.
CONCEPT_USER = """
import sys, numpy, torch
from PIL import Image
from sam_ft import PredictOptions, Sam3Predictor
options = PredictOptions(score_threshold=0.0)
image = Image.fromarray((numpy.indices((96, 96)).sum(0)[..., None] * [1, 2, 3] % 256).astype("uint8"))
added = Sam3Predictor.from_pretrained("sam-ft/tiny", concepts=["someone/cracks"], options=options)
alone = Sam3Predictor.from_pretrained("someone/cracks", options=options)
phrases = alone.model.concepts.index.phrases
torch.save({name: vars(p(image, phrases)) for name, p in (("added", added), ("alone", alone))}, sys.argv[1])
"""


@pytest.fixture(scope="module")
def pushes(tmp_path_factory):
    """Server, folder of the runs, and output of each run by name, after all pushes."""
    folder = tmp_path_factory.mktemp("hub")
    adapter = [
        "--report_to",
        "none",
        "--lora",
        "attention",
        "--lora_r",
        "2",
        "--hub_merged",
        "true",
        "--hub_private_repo",
        "true",
        "--hub_strategy",
        "checkpoint",
        "--hub-token",
        TOKEN,
    ]
    # The token is passed by option, by YAML file and by the environment.
    (folder / "full.yaml").write_text(f"hub_token: {TOKEN}\nreport_to: tensorboard\n")
    full = [
        "--config",
        "full.yaml",
        "--hub_model_id",
        "someone/full",
        "--output_dir",
        "out/full",
        "--hub_strategy",
        "end",
    ]
    private = ["--hub_pictures", "false", "--hub_private_repo", "true"]
    arguments = {"adapter": adapter, "full": full, "again": full + private, "concepts": CONCEPTS}
    arguments |= {name: ["--output_dir", "out/refused", *words] for name, (words, _) in REFUSED.items()}
    runs = [as_run(name, "sam3_ft.py", [*RUN, *words]) for name, words in arguments.items()]
    runs += [as_run(name, "sam2_ft.py", [*SAM2_RUN, *words]) for name, words in SAM2_RUNS.items()]
    runs += [as_run(name, "sam3_predict.py", words) for name, words in PREDICTED.items()]
    (folder / "concept_user.py").write_text(CONCEPT_USER)
    runs.append(as_run("concept user", folder / "concept_user.py", ["concepts.pt"]))
    with HubServer() as hub:
        output = start(RUN_SCRIPTS, hub, folder, folder / "cache", json.dumps(runs), PYTHONPATH=str(ROOT))
        parts = outputs_by_run(output, runs)
        ended = [
            line
            for name in ("adapter", "full", "again", "concepts", "concept user", *SAM2_RUNS, *PREDICTED)
            for line in parts[name].splitlines()
            if line.startswith(("exit", "`"))
        ]
        assert not ended
        yield hub, folder, parts


@pytest.fixture(scope="module")
def predictions(pushes):
    """Model outputs of an independent process that loads from the Hub, by name."""
    hub, folder, _ = pushes
    names = ["someone/shapes", "peft:someone/shapes", "someone/shapes-merged", "someone/full", "--", *SAM2_NAMES]
    file = folder / "predictions.pt"
    start(INDEPENDENT_USER, hub, folder, folder / "independent", file, *names, PYTHONPATH="")
    return torch.load(file, weights_only=False)


def check_same_as_local(prediction, folder):
    """Compare outputs of an independent process with those of the model in a run's folder."""
    model = load_model(ModelOptions(str(folder))).eval()
    inputs = {k: v for k, v in prediction["inputs"].items() if isinstance(v, torch.Tensor) and k != "original_sizes"}
    with torch.no_grad():
        local = Sam3Model.forward(model, **inputs)
    # Merged weights add float32 numbers in another order.
    torch.testing.assert_close(prediction["logits"], local.pred_logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(prediction["masks"], local.pred_masks, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "name, run",
    [
        ("someone/shapes", "mine"),
        ("peft:someone/shapes", "mine"),
        ("someone/shapes-merged", "mine"),
        ("someone/full", "full"),
    ],
)
def test_independent_process_loads_the_pushed_model(pushes, predictions, name, run):
    check_same_as_local(predictions[name], pushes[1] / "out" / run)


def test_files_pushed_with_an_adapter(pushes):
    hub, folder, outputs = pushes
    files = hub.repos["someone/shapes"]
    expected_files = {
        "README.md", "adapter_model.safetensors", "adapter_config.json", "processor_config.json", "tokenizer.json", "thresholds.json",
        "trained_phrases.json", "run.yaml", "report.html", "card/1.png", "base_fingerprint.json",
    }  # fmt: skip
    assert expected_files <= files.keys()
    allowed = expected_files | {"eval_results.json", "tokenizer_config.json"}
    assert {name for name in files if not name.startswith(("last-checkpoint/", "card/"))} <= allowed, (
        "nothing else of the folder"
    )
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "someone/shapes-base"
    texts = [content.decode() for name, content in files.items() if name.endswith((".md", ".json", ".yaml", ".html"))]
    assert len(texts) > 8
    assert not any(str(folder) in text for text in texts)
    assert "--lora attention" in files["README.md"].decode(), "the command, without its token"
    assert "last-checkpoint/optimizer.pt" in files
    assert "last-checkpoint/training_args.bin" not in files, "a pickle that holds the token"
    assert json.loads(files["last-checkpoint/adapter_config.json"])["base_model_name_or_path"] == "someone/shapes-base"
    assert hub.commits["someone/shapes"][0].startswith("Training in progress, step")
    assert hub.commits["someone/shapes"][-1] == "Tuned model"
    assert len(hub.commits["someone/shapes-base"]) == 1
    private = {name: value for name, value in hub.private.items() if "clicks" not in name}
    assert private == {
        "someone/shapes": True,
        "someone/shapes-base": True,
        "someone/shapes-merged": True,
        "someone/full": False,
        "someone/cracks": False,
    }
    card = ModelCard(files["README.md"].decode())
    assert card.data.base_model == "someone/shapes-base"
    assert card.data.library_name == "peft"
    assert "adapter_model.safetensors" not in hub.repos["someone/shapes-merged"]
    merged = ModelCard(hub.repos["someone/shapes-merged"]["README.md"].decode())
    assert merged.data.library_name == "transformers"
    assert "/shapes-base" in outputs["adapter"]


def test_pushed_concepts_are_a_small_repository_that_others_load(pushes):
    hub, folder, _ = pushes
    files = hub.repos["someone/cracks"]
    assert {"README.md", "concepts.safetensors", "concepts.json"} <= files.keys()
    assert [name for name in files if name.endswith(".safetensors")] == ["concepts.safetensors"]
    assert sum(map(len, files.values())) < 64 * 1024
    card = ModelCard(files["README.md"].decode())
    assert card.data.library_name == "sam-ft"
    assert 'load_file(hf_hub_download("someone/cracks", "concepts.safetensors"))' in card.text
    loaded = torch.load(folder / "concepts.pt", weights_only=False)
    predictor = Sam3Predictor.from_pretrained(
        str(folder / "out/cracks"), options=PredictOptions(score_threshold=0.0), device="cpu"
    )
    pixels = np.indices((96, 96)).sum(0)[..., None] * [1, 2, 3] % 256
    local = vars(predictor(Image.fromarray(pixels.astype("uint8")), predictor.model.concepts.index.phrases))
    assert len(local["presence"]) > 1
    assert loaded["alone"] == loaded["added"] == local


def test_a_local_base_of_concepts_is_pushed_with_them(tmp_path, monkeypatch):
    """`concepts.json` names the pushed base."""
    base, folder = tmp_path / "base", tmp_path / "run"
    shutil.copytree(PACKAGED_MODELS["sam-ft/tiny"], base)
    folder.mkdir()
    model = load_as_trained(ModelOptions(str(base)))
    concepts = add_concept_files(model, [], base=str(base), revision="main")
    concepts.add(ConceptEntry("crack"), torch.randn(2, concepts.info.width))
    write_concepts(folder, concepts)
    uploader, uploads = HubUploader(TrainingArguments(output_dir=str(folder), report_to=[])), {}
    uploader.args.hub_base, uploader.repo_id = None, "someone/cracks"
    monkeypatch.setattr(uploader, "_create_companion", lambda _: None)
    monkeypatch.setattr(
        uploader, "_upload", lambda draft, name, *_, **__: uploads.update({name: {f.name for f in draft.iterdir()}})
    )
    assert uploader.find_or_push_base(model) == uploader.find_or_push_base(model) == "someone/cracks-base"
    assert {"model.safetensors", "config.json"} <= uploads["someone/cracks-base"]
    stage_model(folder, tmp_path / "draft", base="someone/cracks-base")
    written, staged = (json.loads((f / "concepts.json").read_text()) for f in (folder, tmp_path / "draft"))
    assert staged == written | {"base": "someone/cracks-base", "revision": None}
    concepts.info.base = "sam-ft/tiny"
    assert uploader.find_or_push_base(model) == "sam-ft/tiny"


def test_no_file_contains_the_token(pushes):
    """All local and uploaded files: card, settings, logs, report, pickles, TensorBoard events."""
    hub, folder, outputs = pushes
    written = [file for file in (folder / "out").rglob("*") if file.is_file()]
    assert {"README.md", "run.yaml", "training.log", "report.html", "training_args.bin"} <= {f.name for f in written}
    assert any("tfevents" in file.name for file in written)
    assert not [file for file in written if TOKEN.encode() in file.read_bytes()]
    uploaded = [
        (repo, name)
        for repo, files in hub.repos.items()
        for name, content in files.items()
        if TOKEN.encode() in content
    ]
    assert not uploaded
    assert TOKEN not in "".join(outputs.values())


def test_full_weights_and_a_second_push(pushes):
    hub, _, outputs = pushes
    # The finished run is started again: it trains nothing and pushes everything, now without pictures.
    assert hub.commits["someone/full"] == ["Tuned model", "Tuned model"]
    assert "resuming from" in outputs["again"]
    first, second = hub.history["someone/full"]
    assert {"card/1.png", "report.html"} <= first.keys()
    assert "card/1.png" in first["README.md"].decode()
    assert not any(name.startswith("card/") or name == "report.html" for name in second), (
        "what was pushed before is gone, too"
    )
    assert "card/1.png" not in second["README.md"].decode()
    assert first["model.safetensors"] == second["model.safetensors"]
    assert "this run is finished" in outputs["again"]
    for files in (first, second):
        assert re.search(r"\| time \| 0 min [1-9]\d* s of training", files["README.md"].decode())
        assert re.search(r"\| steps \| 2 ", files["README.md"].decode())


def test_prediction_by_hub_id(pushes):
    """The adapter, its base, its thresholds and its phrases, all from the Hub."""
    _, folder, outputs = pushes
    assert "thresholds: 0 for all phrases" in outputs["from the Hub"]
    assert "prompts: arrow, circle" in outputs["from the Hub"], "the trained phrases"
    first, second = (
        json.loads((folder / "out" / name / "results.json").read_text()) for name in ("predictions", "local")
    )
    assert len(first) == len(second) > 10
    assert all(entry["segmentation"] == two["segmentation"] for entry, two in zip(first, second, strict=True))


@pytest.mark.parametrize("name", REFUSED)
def test_refused_push_stops_before_training(pushes, name):
    lines = pushes[2][name].splitlines()
    assert "exit 1" in lines
    assert REFUSED[name][1] in next(line for line in lines if line.startswith("`push_to_hub`: "))
    assert "Traceback" not in pushes[2][name]
    assert "memory options" not in pushes[2][name]


def test_local_paths_are_replaced(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/data")
    here = str(tmp_path)
    text = f"{here}/out {here}-2/out 'a {here}' /data/x https://huggingface.co/datasets/x my/data/x /data-2"
    assert (
        replace_local_paths(text)
        == f"./out {here}-2/out 'a .' ~/x https://huggingface.co/datasets/x my/data/x /data-2"
    )


def test_recorded_command_hides_secrets_only(monkeypatch, tmp_path):
    arguments = ["x.py", "--hub_token", "hf_1", "--geometry_token", "always", "--hub_token=hf_2", "--phrases", "a b"]
    arguments += [
        "--hub-token",
        "hf_3",
        "--hub-token=hf_4",
        "--dataset_name",
        str(tmp_path),
        "--replay=" + str(tmp_path),
    ]
    monkeypatch.setattr("sys.argv", arguments)
    path = f"path/to/{tmp_path.name}"
    assert format_command_line() == (
        f"accelerate launch --quiet x.py --geometry_token always --phrases 'a b' --dataset_name {path} --replay={path}"
    )


def test_sam2_loads_from_the_hub(pushes, predictions):
    """An adapter with its base, and whole weights, loaded by a process without this package."""
    _, folder, parts = pushes
    assert predictions.keys() & set(SAM2_NAMES) == {"someone/clicks-merged"}
    pixels = torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64)
    model = load_model(ModelOptions(str(folder / "out/clicks"))).eval()
    with torch.no_grad():
        masks = model(pixels, **SAM2_PROMPTS).pred_masks
    assert torch.allclose(masks, predictions["someone/clicks-merged"], atol=1e-5)
    card = ModelCard((folder / "out" / "clicks" / "README.md").read_text())
    assert card.data.base_model == "someone/clicks-base"
    assert "sam2" in card.data.tags
    assert "pushed http" in parts["sam2 adapter"]
