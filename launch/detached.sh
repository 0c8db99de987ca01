#!/usr/bin/env bash
# Runs a command that outlives the connection which started it; tpu_pod.sh and ssh_hosts.sh call this
# script on the hosts.
#
#   launch/detached.sh start RUN COMMAND...   starts the command, unless RUN is still running
#   launch/detached.sh follow RUN             prints its log until it ends; exits with its code
#   launch/detached.sh code RUN               prints its exit code, or nothing while it is running
#   launch/detached.sh stop RUN               ends it and all processes that it started
#
# RUN is a folder with the files log, pid, and exit (the exit code).
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
    # The command inherits the lock and holds it while any of its processes is alive.
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
    # The minus sign means the whole process group; setsid made the command its leader.
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
