"""Comparison of models and results files."""

import dataclasses
import json
from pathlib import Path

import pytest

from sam_ft.arguments import DataArguments, EvalArguments, LossArguments, ModelArguments
from sam_ft.commands.candidates import Candidate, evaluate_model, evaluate_results, parse_candidates
from sam_ft.commands.key_conversion import to_dataset_options, to_read_options
from sam_ft.commands.report_columns import build_columns
from sam_ft.commands.report_pictures import BEST, WORST, draw_pictures
from sam_ft.commands.run import Run
from sam_ft.data.loading import load_phrase_dataset
from sam_ft.metrics.thresholds import Thresholds
from sam_ft.training.training_arguments import Sam3TrainingArguments


@pytest.fixture(scope="module")
def evaluated(tuned, new_shapes, tmp_path_factory):
    """Evaluate the bundled tiny model, a fine-tuned run of it, and the run's results as an external file."""
    data_args = DataArguments(dataset_name=str(new_shapes), probe_phrases=["circle", "red square"], probe_images=6)
    data = load_phrase_dataset(to_dataset_options(data_args), to_read_options(data_args), with_train=False)
    trained = {"star", "heart", "cross"}
    models = []
    for name, source in (("base", "sam-ft/tiny"), ("mine", str(tuned.folder))):
        training_args = Sam3TrainingArguments(
            output_dir=str(tmp_path_factory.mktemp(name)), report_to=[], num_pictures=0, use_cpu=True,
            disable_tqdm=True, dataloader_num_workers=0, per_device_eval_batch_size=10,
        )  # fmt: skip
        run = Run(ModelArguments(pairs_per_chunk=64), data_args, LossArguments(), training_args)
        models.append(evaluate_model(Candidate(name, source), data, trained, run))
    file = f"{training_args.output_dir}/eval/results.json"
    models.append(evaluate_results(Candidate("file", file), data, trained, with_masks=True))
    return data, models, file


def test_columns_contain_differences_from_the_first_model(evaluated, tuned):
    _, models, _ = evaluated
    base, mine, file = build_columns(models, EvalArguments(bootstrap_samples=40))
    assert mine.metrics["mask_AP50"] == pytest.approx(tuned.after["eval_mask_AP50"], abs=1e-3)
    assert file.metrics["mask_AP50"] == pytest.approx(mine.metrics["mask_AP50"])
    difference, low, high = mine.differences["mask_AP50"]
    assert difference == pytest.approx(mine.metrics["mask_AP50"] - base.metrics["mask_AP50"])
    assert low <= high
    low, high = mine.intervals["mask_AP50"]
    assert low < mine.metrics["mask_AP50"] + 0.1
    assert high > mine.metrics["mask_AP50"] - 0.1
    low, high = mine.intervals["retention_presence_agreement"]
    assert 0 <= low <= mine.metrics["retention_presence_agreement"] <= high <= 1
    assert "retention_presence_agreement" not in base.metrics
    assert 0 <= mine.metrics["F1@thresholds"] <= 1  # the thresholds are saved with the run
    assert mine.notes
    assert not base.notes
    assert {"star", "circle"} <= mine.phrases.keys()
    assert len(mine.curves["star"]) == 101


def test_pictures_show_the_best_and_worst_examples(evaluated):
    data, models, _ = evaluated
    pictures = draw_pictures(models, data, 1)
    assert {BEST, WORST} <= pictures.keys()
    worst, *_ = pictures[WORST]
    assert "base" in worst.caption
    assert [caption.split(":")[0] for caption, _ in worst.panels] == ["base", "mine", "file", "ground truth"]
    assert draw_pictures(models, data, 0) == {}


def test_thresholds_are_saved_with_the_weights(tuned):
    saved = json.loads((tuned.folder / "thresholds.json").read_text())
    assert Thresholds(**saved).num_images == 50
    assert set(saved["phrases"]) >= {"star", "heart", "cross"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("{}", "expected a list of COCO results"),
        ('[{"image_id": 1}]', "result 0: expected image_id"),
        ('[{"image_id": 99999, "category_id": 1, "score": 1, "bbox": [1, 1, 2, 2]}]', "`image_id` is 99999"),
        ('[{"image_id": 1, "category_id": 1, "score": NaN, "bbox": [1, 1, 2, 2]}]', "expected image_id"),
        (
            '[{"image_id": 1, "category_id": 4, "score": 1, "bbox": [1, 1, 2, 2], "segmentation": [[1, 2, 3]]}]',
            "`segmentation` cannot be read",
        ),
        ('[{"image_id": 1, "category_id": 99, "score": 1, "bbox": [1, 1, 2, 2]}]', "`category_id` is 99"),
    ],
)
def test_error_of_an_invalid_results_file_contains_its_path(evaluated, tmp_path, content, message):
    file = tmp_path / "results.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=f"`compare`: .*results.json.*{message}"):
        evaluate_results(Candidate("x", str(file)), evaluated[0], None, with_masks=True)


def test_compared_models_have_unique_names(tmp_path):
    assert [c.name for c in parse_candidates(["base=facebook/sam3", "out/one/"], "out/two")] == ["base", "one", "two"]
    with pytest.raises(ValueError, match="two candidates are called 'two'"):
        parse_candidates(["other/two"], "out/two")
    assert parse_candidates([], "out/lr=1e-4")[0].source == "out/lr=1e-4"
    with pytest.raises(ValueError, match="has no name that a folder can have"):
        parse_candidates(["../x=out/one"], "out/two")
    with pytest.raises(ValueError, match="there is no file"):
        parse_candidates(["x=none.json"], "out/two")
    with pytest.raises(ValueError, match="has no name that a folder can have"):
        parse_candidates(["=x"], "out/two")


def test_results_outside_the_evaluated_pairs_are_ignored(evaluated, tmp_path):
    """The ground truth of an unlabelled phrase is undefined."""
    data, models, file = evaluated
    results = json.loads(Path(file).read_text())
    data = dataclasses.replace(data, category_ids=data.category_ids | {"zebra": 999})
    unlabelled = [{"image_id": 1, "category_id": 999, "score": 1.0, "bbox": [1, 1, 20, 20]}]
    (tmp_path / "more.json").write_text(json.dumps([*results, *unlabelled]))
    evaluation = evaluate_results(Candidate("x", str(tmp_path / "more.json")), data, None, with_masks=True)
    assert evaluation.scored.metrics["mask_AP50"] == pytest.approx(models[1].scored.metrics["mask_AP50"])
    boxes = [{k: v for k, v in result.items() if k != "segmentation"} for result in results]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    evaluation = evaluate_results(Candidate("x", str(tmp_path / "boxes.json")), data, None, with_masks=True)
    assert evaluation.scored.kind == "box"
    assert evaluation.scored.metrics["box_AP50"] == pytest.approx(models[1].scored.metrics["box_AP50"])
