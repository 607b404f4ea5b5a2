#!/usr/bin/env bash
# CIFAR-10 with ResNet-18 on one GPU, beside the paper's 43.0 % (IPC 10) and 64.9 % (IPC 50): DELT, constant iterations,
# RDED, selected and random real images, three seeds each, one table. The teacher is trained first.
#   launch/paper_cifar10.sh data/cifar10 runs/paper_cifar10
# The same command goes on where it was stopped; LIMIT=590 stops it by itself after so many seconds, where a GPU is
# lent by the minute. Once before, in the clone: make venv && .venv/bin/python -m pip install -e '.[cuda12]'
set -euo pipefail

# Edit these two, or give them as arguments: the images (docs: README.md, CIFAR-10), and where the results go.
DATA="${1:-data/cifar10}"
WORKDIR="${2:-runs/paper_cifar10}"

sweep=main,data=cifar10,ipc=10+50,teacher=resnet18,methods=delt+early_only+rded+selected+random,source="$DATA"
exec timeout --preserve-status --kill-after=30 "${LIMIT:-0}" \
    "${PYTHON:-.venv/bin/python}" -m delt_jax.sweep --sweep="configs/sweeps.py:$sweep" --workdir="$WORKDIR" \
    --config.evaluate.sets="('distilled',)" --config.synthesis.compute_dtype=bfloat16 --config.evaluate.compute_dtype=bfloat16
