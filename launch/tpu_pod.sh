#!/usr/bin/env bash
# Runs delt_jax on every worker of a TPU pod slice (v4-32, v5litepod-64, ...), in tmux on each:
#   launch/tpu_pod.sh --config=configs/imagenet.py:ipc=50,source=/mnt/delt/imagenet --workdir=/mnt/delt/runs/in1k
# Data and --workdir must be on a file system that all workers share, mounted at the same place (docs/tpu.md).
# Once before, in a clone in ~/delt_jax on every worker: make venv && .venv/bin/python -m pip install -e '.[tpu]'
# A worker that is lost ends the others; the same command goes on, on as many workers as there are then.
set -euo pipefail

# Edit these two, or set them in the environment.
TPU="${TPU:?name of the TPU slice}"
ZONE="${ZONE:?its zone, such as us-central2-b}"

run=".venv/bin/python -m delt_jax.main --hosts=auto $* 2>&1 | tee -a delt.log"
gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all \
    --command="cd delt_jax && tmux new-session -d -s delt '$run'"
