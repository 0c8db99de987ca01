#!/usr/bin/env bash
# Trains on plain hosts over SSH, one process per host with all of its GPUs (or TPUs, or its CPU).
#
#   launch/ssh_hosts.sh ACTION --hosts=HOST,HOST,... [OPTIONS] [--dry_run] [-- TRAIN_FLAGS]
#
# Actions: up (install, start, follow), install, start, follow (the log of the first host), stop.
# Options: --extra=cuda (cuda, tpu or cpu); --port=23456 and --address=HOST, at which the others reach
#   the first host (default: its name in --hosts).
# The workdir and the data must be on a disk that all hosts share. After a failure, `up` continues the
# run.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "$0")/common.sh"

action=${1:---help}
if [[ $action == --help ]]; then
  usage
  exit 0
fi
shift
hosts="" extra=cuda port=23456 address=""
read_options "hosts extra port address" "$@"
need hosts
IFS=, read -ra each <<<"$hosts"
[[ -n $address ]] || address=${each[0]#*@}

on_host() { # HOST COMMAND
  run ssh -o BatchMode=yes "$1" "$2"
}

install() {
  local host
  pack build/gesture_jax.tar.gz
  for host in "${each[@]}"; do
    run scp -q -o BatchMode=yes build/gesture_jax.tar.gz "$host:"
    on_host "$host" "tar -xzf gesture_jax.tar.gz && cd gesture_jax && launch/install.sh $extra"
  done
}

start() {
  local number
  need_train_flags
  for number in "${!each[@]}"; do
    on_host "${each[number]}" "cd gesture_jax && $(remote_start \
      JAX_COORDINATOR_ADDRESS="$address:$port" JAX_NUM_PROCESSES="${#each[@]}" JAX_PROCESS_ID="$number")"
  done
}

follow() { on_host "${each[0]}" "cd gesture_jax && launch/detached.sh follow run"; }

stop() {
  local host
  for host in "${each[@]}"; do
    on_host "$host" "cd gesture_jax && launch/detached.sh stop run"
  done
}

up() {
  need_train_flags
  install
  start
  follow
}

case $action in
  up | install | start | follow | stop) "$action" ;;
  *) fail "unknown action $action; see --help" ;;
esac
