#!/usr/bin/env bash
# The job that slurm.sh submits: launch/slurm_job.sh TRAIN_FLAGS. If one process fails, the others end.
set -euo pipefail
export JAX_NUM_PROCESSES=auto
exec srun --kill-on-bad-exit=1 .venv/bin/python -m gesture_jax.train "$@"
