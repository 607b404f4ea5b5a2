#!/usr/bin/env bash
# Runs delt_jax on a TPU VM of one host (v4-8, v5e-8, v6e-8), in tmux, so that it outlives the connection:
#   TPU=my-tpu ZONE=us-central2-b launch/tpu_vm.sh --config=configs/imagenet.py:ipc=50 --workdir=runs/in1k
# Once before, in a clone in ~/delt_jax on the VM: make venv && .venv/bin/python -m pip install -e '.[tpu]'
# The same command goes on with a run that was stopped. On the VM, `tmux attach -t delt` shows it.
set -euo pipefail
run=".venv/bin/python -m delt_jax.main $* 2>&1 | tee -a delt.log"
gcloud compute tpus tpu-vm ssh "${TPU:?name of the TPU VM}" --zone="${ZONE:?its zone}" \
    --command="cd delt_jax && tmux new-session -d -s delt '$run'"
