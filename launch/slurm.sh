#!/usr/bin/env bash
# GPU nodes by SLURM: one process a GPU, submitted from the checkout, which all nodes share.
#
#   launch/slurm.sh [--nodes=2] [--gpus=8] [--cpus=8] [--time=24:00:00] [--partition=PARTITION] \
#     [--account=ACCOUNT] [--name=gesture_jax] [--dry_run] -- TRAIN_FLAGS
#
# --gpus and --cpus are GPUs a node and cores a GPU. A job that is preempted is queued again, and goes
# on from its last checkpoint. `launch/install.sh cuda` first.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "$0")/common.sh"

nodes=2 gpus=8 cpus=8 time=24:00:00 partition="" account="" name=gesture_jax
read_options "nodes gpus cpus time partition account name" "$@"
need_train_flags

# GPUs by node: each process sees all of them, and takes that of its number, as JAX expects.
command=(
  sbatch --job-name="$name" --nodes="$nodes" --ntasks-per-node="$gpus" --gpus-per-node="$gpus"
  --cpus-per-task="$cpus" --time="$time" --requeue --open-mode=append --output="$name-%j.log"
)
[[ -z $partition ]] || command+=(--partition="$partition")
[[ -z $account ]] || command+=(--account="$account")
run "${command[@]}" launch/slurm_job.sh "${train_flags[@]}"
