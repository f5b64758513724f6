r"""Memory, time and disk of a run, measured in a few real steps before it starts.

    accelerate launch --quiet recipes/plan.py --config recipes/configs/sam3_full_24gb.yaml --dataset_name path/to/coco
    accelerate launch --quiet recipes/plan.py --config recipes/configs/sam3_lora_24gb.yaml \
        --dataset_name path/to/coco --memory_gb 16

The keys and YAML files are those of sam3_ft.py. Where the run does not fit, the command measures the changes that make
it fit. It keeps no weights.
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
    """Build the parser of the keys of training and of the plan."""
    return RecipeParser((*SAM3_ARGUMENTS, PlanArguments))


def main(
    model_args: ModelArguments,
    data_args: DataArguments,
    loss_args: LossArguments,
    training_args: Sam3TrainingArguments,
    plan_args: PlanArguments,
):
    """Measure a few steps and log the plan.

    Args:
        model_args (`ModelArguments`): Model of the run.
        data_args (`DataArguments`): Data of the run.
        loss_args (`LossArguments`): Loss of the run.
        training_args (`Sam3TrainingArguments`): Training of the run.
        plan_args (`PlanArguments`): Memory of the device to plan for.

    Raises:
        ValueError: If the command runs in several processes.
    """
    from sam_ft.commands.build import load_data
    from sam_ft.commands.plan import device_memory, plan

    if training_args.world_size > 1:
        raise ValueError(
            f"a plan measures one device, got {training_args.world_size} processes. Start it with "
            "`--num_processes 1`, and CUDA_VISIBLE_DEVICES=0 on a machine with several GPUs"
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
