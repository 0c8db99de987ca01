#!/usr/bin/env bash
# Runs several processes on this machine, each with its own simulated CPU devices, like a pod.
#
#   launch/local.sh [--processes=2] [--devices=2] [--port=PORT] [--python=python] [--dry_run] \
#     -- --config=configs/stage1.py:smoke --workdir=runs/local
#
# When one process fails, the others are ended, and the script exits with its exit code.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "$0")/common.sh"

processes=2 devices=2 port=23456 python=python
read_options "processes devices port python" "$@"
need_train_flags

end_others() {
  local pid tries
  for pid in $(jobs -pr); do kill -TERM "$pid" || true; done
  # JAX treats SIGTERM as a warning of preemption, so a run may continue after it.
  for ((tries = 0; tries < 20; tries++)); do
    [[ -n $(jobs -pr) ]] || return 0
    sleep 0.5
  done
  for pid in $(jobs -pr); do kill -KILL "$pid" || true; done
}
trap end_others EXIT
trap 'exit 130' INT TERM

# Without this flag, simulated devices can hang in a program from the compilation cache.
scheduler="${XLA_FLAGS:-} --xla_cpu_enable_concurrency_optimized_scheduler=false"

for ((process = 0; process < processes; process++)); do
  command=(
    env JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES="$devices" XLA_FLAGS="$scheduler"
    JAX_COORDINATOR_ADDRESS="127.0.0.1:$port" JAX_NUM_PROCESSES="$processes" JAX_PROCESS_ID="$process"
    "$python" -m gesture_jax.train "${train_flags[@]}"
  )
  if [[ $dry_run == true ]]; then
    echo "$(show "${command[@]}") &"
  else
    "${command[@]}" &
  fi
done
[[ $dry_run == false ]] || exit 0
for ((process = 0; process < processes; process++)); do
  wait -n
done
