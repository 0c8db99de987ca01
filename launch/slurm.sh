#!/usr/bin/env bash
# Trains on GPU nodes with SLURM, one process per GPU; run it in the checkout, which all nodes share.
#
#   launch/slurm.sh [--nodes=2] [--gpus=8] [--cpus=8] [--time=24:00:00] [--partition=PARTITION] \
#     [--account=ACCOUNT] [--name=gesture_jax] [--dry_run] -- TRAIN_FLAGS
#
# --gpus is the number of GPUs per node, --cpus that of cores per GPU. A preempted job is queued again and
# continues from its last checkpoint. Run `launch/install.sh cuda` first.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "$0")/common.sh"

nodes=2 gpus=8 cpus=8 time=24:00:00 partition="" account="" name=gesture_jax
read_options "nodes gpus cpus time partition account name" "$@"
need_train_flags

# Each process sees all GPUs of its node and uses the one with its number, as JAX expects.
command=(
  sbatch --job-name="$name" --nodes="$nodes" --ntasks-per-node="$gpus" --gpus-per-node="$gpus"
  --cpus-per-task="$cpus" --time="$time" --requeue --open-mode=append --output="$name-%j.log"
)
[[ -z $partition ]] || command+=(--partition="$partition")
[[ -z $account ]] || command+=(--account="$account")
run "${command[@]}" launch/slurm_job.sh "${train_flags[@]}"
