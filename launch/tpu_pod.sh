#!/usr/bin/env bash
# Trains on a TPU pod slice with gcloud, from nothing to a finished run.
#
#   launch/tpu_pod.sh ACTION --name=NAME --zone=ZONE [OPTIONS] [--dry_run] [-- TRAIN_FLAGS]
#
# Actions:
#   up       does everything: creates the slice, installs, and trains to the end. A preempted slice is
#            created again and a failed run restarted; both continue from the last checkpoint. Bad input
#            (exit code 2) ends it.
#   create   creates the slice; the request is queued until one is available
#   install  installs this commit on all workers
#   start    starts training on all workers, detached
#   follow   follows the log of worker 0
#   stop     stops training on all workers; end `up` first, or it starts training again
#   delete   deletes the slice
# Options: --type=v5litepod-16, --version=v2-alpha-tpuv5-lite (the VM's image), --project=PROJECT,
#   --spot=true (cheaper, may be preempted), --queued=false (get a slice at once or fail), and
#   --setup=COMMAND, which each worker runs before installation, for instance to mount a shared disk.
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
  [[ $dry_run == false ]] || echo "# repeated every 30 s until the state is READY:"
  until [[ $(node_state) == READY ]]; do
    if [[ $dry_run == true ]]; then
      show_node_state
      return
    fi
    sleep 30
    case $(queue_state) in FAILED | SUSPENDED) fail "$name: the request for a slice failed; look at its state" ;; esac
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
  # A preempted slice cannot be restarted, and its name is taken until it is deleted.
  if [[ $dry_run == true ]]; then
    echo "# unless it is READY already; a preempted slice is deleted first:"
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
      echo "# 0: done; 2: bad input, give up; none: follow again; others: stop, start again:"
      code
      stop
      return
    fi
    # gcloud has exit codes of its own, so this asks the host for the trainer's.
    case $(code || true) in
      0) return ;;
      2) fail "$name: the trainer refused its input; see its log" ;;
      "") ;; # The connection broke, or the slice is gone.
      *) stop || true ;;
    esac
    sleep 15
    if [[ $(node_state) != READY ]]; then
      make_again
      install || true # It may be preempted again at any time; the next round handles that.
    fi
    start || true
  done
}

case $action in
  up | create | install | start | follow | stop | delete) "$action" ;;
  *) fail "unknown action $action; see --help" ;;
esac
