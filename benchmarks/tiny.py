"""Scores of the packaged tiny model on held-out scenes, over all phrases and by attribute.

python benchmarks/tiny.py                                   # sam-ft/tiny on 500 scenes
python benchmarks/tiny.py --model_name_or_path out/tiny     # a model that you trained
"""

import argparse
import tempfile
from collections.abc import Callable

from sam_ft.arguments import DataArguments, LossArguments, ModelArguments
from sam_ft.commands.build import load_data, load_sam
from sam_ft.commands.build_sam3 import build_sam3_trainer
from sam_ft.data.synthetic.scene_phrases import ATTRIBUTES, attribute_values, words_for
from sam_ft.evaluation.predictions import score
from sam_ft.training.training_arguments import Sam3TrainingArguments


COLUMNS = {
    "mask AP50": "mask_AP50",
    "mask AP": "mask_AP",
    "presence": "presence_accuracy",
    "rejected": "near_miss_rejection",
}


def evaluate(model_name: str, scenes: int, seed: int):
    """Run the model on the held-out scenes.

    Args:
        model_name (`str`): Folder, Hub id or packaged model.
        scenes (`int`): Number of scenes.
        seed (`int`): Random seed of the scenes.

    Returns:
        `tuple`: The rows, the stored predictions, and the category id of each phrase.
    """
    model_args = ModelArguments(model_name_or_path=model_name, pairs_per_chunk=64)
    data_args = DataArguments(dataset_name="synthetic-stream", scene_eval_images=scenes, scene_seed=seed)
    data = load_data(data_args, with_train=False)
    model, processor = load_sam(model_args, seed, to_train=False)
    with tempfile.TemporaryDirectory() as folder:
        training_args = Sam3TrainingArguments(
            output_dir=folder, report_to=[], num_pictures=0, per_device_eval_batch_size=16, dataloader_num_workers=0
        )
        trainer = build_sam3_trainer(model, processor, data, data_args, LossArguments(), training_args)
        trainer.evaluate()
    return list(data.validation.remove_columns("image")), trainer.evaluator.store, data.category_ids


def line(name: str, evaluated: tuple, is_scored: Callable[[str], bool] = lambda _: True) -> str:
    """Format one line of the table.

    Args:
        name (`str`): First cell.
        evaluated (`tuple`): Result of [`evaluate`].
        is_scored (`Callable[[str], bool]`): Whether a phrase counts; all by default.
    """
    rows, store, category_ids = evaluated
    metrics = score(rows, store, category_ids, with_masks=True, is_counted=is_scored).metrics
    pairs = sum(is_scored(phrase["text"]) for row in rows for phrase in row["phrases"])
    numbers = [f"{metrics[key]:.3f}" if metrics.get(key, -1) >= 0 else "" for key in COLUMNS.values()]
    return f"| {name} | {pairs} | {' | '.join(numbers)} |"


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_name_or_path", default="sam-ft/tiny")
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument(
        "--seed", type=int, default=0, help="random seed of the scenes; validation scenes are never trained on"
    )
    args = parser.parse_args()
    evaluated = evaluate(args.model_name_or_path, args.scenes, args.seed)
    print(f"| phrases | pairs | {' | '.join(COLUMNS)} |\n|{'---|' * (2 + len(COLUMNS))}")
    print(line("all", evaluated))
    for attribute in ATTRIBUTES:
        for value in attribute_values(attribute):
            words = set(words_for(attribute, value))
            print(line(f"{attribute}: {value}", evaluated, lambda text, words=words: bool(words & set(text.split()))))
    for length in range(1, 5):
        name = f"{length} word{'s' * (length > 1)}"
        print(line(name, evaluated, lambda text, length=length: len(text.split()) == length))


if __name__ == "__main__":
    main()
