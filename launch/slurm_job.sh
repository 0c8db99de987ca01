#!/usr/bin/env bash
# What slurm.sh submits: launch/slurm_job.sh TRAIN_FLAGS. One failing process ends the others.
set -euo pipefail
export JAX_NUM_PROCESSES=auto
exec srun --kill-on-bad-exit=1 .venv/bin/python -m gesture_jax.train "$@"
