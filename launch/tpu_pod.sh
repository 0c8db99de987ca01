#!/usr/bin/env bash
# A TPU pod slice by gcloud, from nothing to a finished run.
#
#   launch/tpu_pod.sh ACTION --name=NAME --zone=ZONE [OPTIONS] [--dry_run] [-- TRAIN_FLAGS]
#
# Actions:
#   up       all of it: creates, installs, trains until it is done. A slice that was preempted is made
#            again, a run that failed is started again; both go on from the last checkpoint. Bad input
#            (exit code 2) ends it.
#   create   the slice, queued until there is one
#   install  this commit, on all workers
#   start    training on all workers, detached
#   follow   the log of worker 0
#   stop     training on all workers; end `up` first, or it starts it again
#   delete   the slice
# Options: --type=v5litepod-16, --version=v2-alpha-tpuv5-lite (the VM's image), --project=PROJECT,
#   --spot=true (cheaper, may be preempted), --queued=false (a slice at once or an error), and
#   --setup=COMMAND, which each worker runs before it installs, for instance to mount a shared disk.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "$0")/common.sh"

action=${1:---help}
if [[ $action == --help ]]; then
  usage
  exit 0
fi
shift
name="" zone="" project="" type=v5litepod-16 version=v2-alpha-tpuv5-lite spot=false queued=true setup=""
read_options "name zone project type version spot queued setup" "$@"
need name zone

place=(--zone="$zone")
[[ -z $project ]] || place+=(--project="$project")
tpus=(gcloud compute tpus)

on_workers() { # WORKERS COMMAND
  run "${tpus[@]}" tpu-vm ssh "$name" "${place[@]}" --worker="$1" --command="$2"
}

create() {
  local how=()
  [[ $spot == false ]] || how+=(--spot)
  if [[ $queued == false ]]; then
    run "${tpus[@]}" tpu-vm create "$name" "${place[@]}" --accelerator-type="$type" \
      --version="$version" "${how[@]}"
    return
  fi
  run "${tpus[@]}" queued-resources create "$name" --node-id="$name" "${place[@]}" \
    --accelerator-type="$type" --runtime-version="$version" "${how[@]}"
  [[ $dry_run == false ]] || echo "# every 30 s, until it says READY:"
  until [[ $(node_state) == READY ]]; do
    if [[ $dry_run == true ]]; then
      show_node_state
      return
    fi
    sleep 30
    case $(queue_state) in FAILED | SUSPENDED) fail "$name: the queue gives no slice; see its state" ;; esac
  done
}

node_state() {
  [[ $dry_run == true ]] ||
    "${tpus[@]}" tpu-vm describe "$name" "${place[@]}" --format="value(state)" 2>/dev/null || true
}

show_node_state() {
  run "${tpus[@]}" tpu-vm describe "$name" "${place[@]}" --format="value(state)"
}

queue_state() {
  "${tpus[@]}" queued-resources describe "$name" "${place[@]}" --format="value(state.state)"
}

install() {
  pack build/gesture_jax.tar.gz
  run "${tpus[@]}" tpu-vm scp build/gesture_jax.tar.gz "$name:" "${place[@]}" --worker=all
  on_workers all "${setup:+$setup && }tar -xzf gesture_jax.tar.gz && cd gesture_jax && launch/install.sh tpu"
}

start() {
  need_train_flags
  on_workers all "cd gesture_jax && $(remote_start JAX_NUM_PROCESSES=auto)"
}

follow() { on_workers 0 "cd gesture_jax && launch/detached.sh follow run"; }
stop() { on_workers all "cd gesture_jax && launch/detached.sh stop run"; }
code() { on_workers 0 "cd gesture_jax && launch/detached.sh code run"; }

delete() {
  if [[ $queued == false ]]; then
    run "${tpus[@]}" tpu-vm delete "$name" "${place[@]}" --quiet
  else
    run "${tpus[@]}" queued-resources delete "$name" "${place[@]}" --force --quiet
  fi
}

make_again() {
  # What was preempted cannot be restarted, and its name is taken until it is deleted.
  if [[ $dry_run == true ]]; then
    echo "# unless it is READY already; what is left of a preempted one is deleted first:"
  fi
  delete || true
  create
}

up() {
  need_train_flags
  [[ $(node_state) == READY ]] || make_again
  install
  start
  while true; do
    follow || true
    if [[ $dry_run == true ]]; then
      echo "# 0: done; 2: bad input, given up; none: followed again; others: stopped, started again:"
      code
      stop
      return
    fi
    # gcloud has exit codes of its own, so that the host is asked.
    case $(code || true) in
      0) return ;;
      2) fail "$name: the trainer refused its input; see its log" ;;
      "") ;; # Only the connection broke, or the slice is gone.
      *) stop || true ;;
    esac
    sleep 15
    if [[ $(node_state) != READY ]]; then
      make_again
      install || true # It may be preempted again at any time; then the next round sees it.
    fi
    start || true
  done
}

case $action in
  up | create | install | start | follow | stop | delete) "$action" ;;
  *) fail "unknown action $action; see --help" ;;
esac
