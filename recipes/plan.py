"""
Will a run fit this device, how long will it take, what would make it fit? Told from a few real steps, before the run.

    accelerate launch --quiet recipes/plan.py --config recipes/configs/sam3_full_24gb.yaml --dataset_name path/to/coco
    accelerate launch --quiet recipes/plan.py --config recipes/configs/sam3_lora_24gb.yaml --dataset_name path/to/coco --memory_gb 16

Takes the keys and YAML files of sam3_ft.py. Nothing is kept of what it trains.
"""

import logging

from sam_ft.arguments import (
    SAM3_ARGUMENTS,
    DataArguments,
    LossArguments,
    ModelArguments,
    PlanArguments,
    Run,
    Sam3TrainingArguments,
)
from sam_ft.arguments.parser import RecipeParser
from sam_ft.utils.console import as_program, stage


logger = logging.getLogger("sam_ft.run")


def make_parser() -> RecipeParser:
    return RecipeParser((*SAM3_ARGUMENTS, PlanArguments))


def main(
    model_args: ModelArguments,
    data_args: DataArguments,
    loss_args: LossArguments,
    training_args: Sam3TrainingArguments,
    plan_args: PlanArguments,
):
    from sam_ft.commands.build import load_data
    from sam_ft.commands.plan import device_memory, plan

    if training_args.world_size > 1:
        raise ValueError(
            "a plan measures one device: start it with `--num_processes 1`, and CUDA_VISIBLE_DEVICES=0 where there are several GPUs"
        )
    logger.info("%s", training_args.summary(model_args.model_name_or_path, data_args.dataset_name))
    with stage("data"):
        data = load_data(data_args)
    memory = device_memory(training_args.device) if plan_args.memory_gb is None else int(plan_args.memory_gb * 2**30)
    for line in plan(Run(model_args, data_args, loss_args, training_args), data, memory):
        logger.info("%s", line)


if __name__ == "__main__":
    with as_program():
        main(*make_parser().parse())
