#!/bin/bash
# Training, or prediction, on two nodes of four GPUs; a job that reaches the time limit or is preempted is requeued and resumes.
# The first argument is a YAML file; the other arguments are those of sam3_ft.py, or of the recipe in RECIPE:
#   sbatch recipes/slurm.sh recipes/configs/sam3_full.yaml --dataset_name path/to/coco
#   RECIPE=sam3_predict.py sbatch recipes/slurm.sh predict.yaml --images list.txt
#SBATCH --job-name=sam-ft
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --requeue
# The batch shell receives SIGTERM five minutes before the time limit, or on preemption.
#SBATCH --signal=B:TERM@300
#SBATCH --open-mode=append

# Every node connects to the first node; the port must be free there.
export MAIN_ADDRESS=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MAIN_PORT=$((20000 + SLURM_JOB_ID % 20000))
CONFIG=$1
shift

# Every task receives the signal, saves a checkpoint and ends; the requeued job resumes from it.
STOPPED=0
trap 'STOPPED=1; kill -TERM "$TASKS"' TERM

# Single quotes, because SLURM_NODEID differs on each node.
srun bash -c 'accelerate launch --quiet --config_file accelerate_configs/multi_gpu.yaml --num_machines "$SLURM_NNODES" \
    --num_processes $((SLURM_NNODES * SLURM_GPUS_ON_NODE)) --machine_rank "$SLURM_NODEID" \
    --main_process_ip "$MAIN_ADDRESS" --main_process_port "$MAIN_PORT" \
    recipes/"${RECIPE:-sam3_ft.py}" --config "$0" "$@"' "$CONFIG" "$@" &
TASKS=$!
wait "$TASKS"
STATUS=$?
if [ "$STOPPED" = 1 ]; then
    wait "$TASKS"  # The signal ended the first wait.
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$STATUS"
