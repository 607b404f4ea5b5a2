#!/usr/bin/env bash
# Runs delt_jax on the GPUs of one node; the same command goes on with a job that was killed:
#   sbatch launch/slurm.sh --config=configs/cifar10.py:ipc=50 --workdir=runs/cifar10
# Once before, in the clone: `make venv && .venv/bin/python -m pip install -e '.[cuda13]'`.
#SBATCH --job-name=delt
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --output=delt-%j.log
set -euo pipefail
exec srun .venv/bin/python -m delt_jax.main "$@"
