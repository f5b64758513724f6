# /// script
# requires-python = ">=3.11"
# dependencies = ["sam-ft"]
#
# [tool.uv.sources]
# sam-ft = {path = "/wheels/sam_ft-0.1.0-py3-none-any.whl"}
# ///
r"""Any `sam-ft` command as a job of the Hub, on a rented GPU, from a wheel that is mounted there.

    python -m build --wheel
    hf jobs uv run --flavor l4x1 --timeout 6h --secrets HF_TOKEN -v ./dist:/wheels examples/hf_jobs.py \
        finetune --config sam3_lora_24gb --dataset_name owner/name --output_dir out \
        --push_to_hub true --hub_model_id owner/my-model --hub_strategy checkpoint

The disk of a job is deleted at its end, so the result is pushed to the Hub. Arguments are those of `sam-ft`; a flavor
with several GPUs runs one process on each.
"""

import os
import sys


if __name__ == "__main__":
    launch = ["-m", "accelerate.commands.launch", "--quiet", "--module", "sam_ft"]
    os.execv(sys.executable, [sys.executable, *launch, *sys.argv[1:]])
