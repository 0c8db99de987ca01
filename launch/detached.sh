#!/usr/bin/env bash
# A command that outlives the connection which started it; tpu_pod.sh and ssh_hosts.sh call this on
# the hosts.
#
#   launch/detached.sh start RUN COMMAND...   starts it, unless RUN is still running
#   launch/detached.sh follow RUN             prints its log until it ends; exits with its code
#   launch/detached.sh code RUN               prints its exit code: nothing while it has none
#   launch/detached.sh stop RUN               ends it and all that it started
#
# RUN is a folder: log, pid, and exit, which holds the exit code.
set -euo pipefail

action=$1 folder=$2
shift 2
case $action in
  start)
    mkdir -p "$folder"
    exec 9>"$folder/lock"
    if ! flock --nonblock 9; then
      echo "$(hostname): already running"
      exit 0
    fi
    rm -f "$folder/exit"
    # It inherits the lock, and holds it for as long as any of its processes lives.
    setsid "$0" guard "$folder" "$@" >>"$folder/log" 2>&1 </dev/null &
    echo $! >"$folder/pid"
    echo "$(hostname): started"
    ;;
  guard)
    code=0
    "$@" || code=$?
    echo "$code" >"$folder/exit"
    ;;
  follow)
    tail -n 20 -F --pid="$(<"$folder/pid")" "$folder/log"
    if [[ ! -s $folder/exit ]]; then
      echo "$(hostname): ended without an exit code" >&2
      exit 1
    fi
    exit "$(<"$folder/exit")"
    ;;
  code)
    if [[ -s $folder/exit ]]; then cat "$folder/exit"; fi
    ;;
  stop)
    [[ -s $folder/pid ]] || exit 0
    pid=$(<"$folder/pid")
    # The minus: the whole process group, of which setsid made it the leader.
    kill -TERM -- "-$pid" 2>/dev/null || exit 0
    for ((tries = 0; tries < 60; tries++)); do
      kill -0 -- "-$pid" 2>/dev/null || exit 0
      sleep 0.5
    done
    kill -KILL -- "-$pid" 2>/dev/null || true
    ;;
  *)
    echo "error: unknown action $action" >&2
    exit 2
    ;;
esac
