#!/usr/bin/env bash
# Runs delt_jax on the GPUs of one or several nodes, one process a GPU:
#   sbatch launch/slurm.sh --config=configs/imagenet.py:ipc=50,source=/data/imagenet --workdir=/shared/runs/in1k
# Data and --workdir must be on a file system that all nodes share. The same command goes on with a job that was
# stopped; a job that loses a node is queued again by itself. More: docs/tpu.md
# Once before, in the clone: make venv && .venv/bin/python -m pip install -e '.[cuda12]'

# Edit these two: how many nodes, and how many GPUs each has (tasks and GPUs alike).
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4 --gpus-per-node=4

#SBATCH --job-name=delt
#SBATCH --cpus-per-task=8
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=delt-%j.log
set -euo pipefail
# The hosts end one another, each once it has saved, and notice in a minute that one is lost; srun only comes after them.
# It returns the highest status, or 128 and the signal where a task was killed.
srun --kill-on-bad-exit=0 --wait=180 .venv/bin/python -m delt_jax.main --hosts=auto "$@" && exit
code=$?
# 2 is a mistake in the command, which no other start would mend.
if [ "$code" -ne 2 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 10 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
