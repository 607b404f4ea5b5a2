#!/usr/bin/env bash
# Runs delt_jax on a TPU VM of one host (v4-8, v5e-8, v6e-8), in tmux, so that it outlives the connection:
#   launch/tpu_vm.sh --config=configs/imagenet.py:ipc=50 --workdir=runs/in1k
# Once before, in a clone in ~/delt_jax on the VM: make venv && .venv/bin/python -m pip install -e '.[tpu]'
# The same command goes on with a run that was stopped. On the VM, `tmux attach -t delt` shows it. More: docs/tpu.md
set -euo pipefail

# Edit these two, or set them in the environment.
TPU="${TPU:?name of the TPU VM}"
ZONE="${ZONE:?its zone, such as us-central2-b}"

run=".venv/bin/python -m delt_jax.main $* 2>&1 | tee -a delt.log"
gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" \
    --command="cd delt_jax && tmux new-session -d -s delt '$run'"
