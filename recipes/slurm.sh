#!/bin/bash
# Two nodes of four GPUs. The first argument is a YAML file; the rest goes to sam3_ft.py:
#   sbatch recipes/slurm.sh recipes/configs/sam3_full.yaml --dataset_name path/to/coco
#SBATCH --job-name=sam-ft
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32

# every node asks the first for its place; the port only has to be free there
export MAIN_ADDRESS=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MAIN_PORT=$((20000 + SLURM_JOB_ID % 20000))
CONFIG=$1
shift

# in single quotes: SLURM_NODEID is each node's own
srun bash -c 'accelerate launch --config_file accelerate_configs/multi_gpu.yaml --num_machines "$SLURM_NNODES" \
    --num_processes $((SLURM_NNODES * SLURM_GPUS_ON_NODE)) --machine_rank "$SLURM_NODEID" \
    --main_process_ip "$MAIN_ADDRESS" --main_process_port "$MAIN_PORT" \
    recipes/sam3_ft.py --config "$0" "$@"' "$CONFIG" "$@"
