#!/usr/bin/env bash
# Installs the package and its dependencies into .venv: launch/install.sh EXTRA (tpu, cuda or cpu).
# Runs on each host, in the checkout; a second run installs what is missing. If the system's Python is
# older than 3.11, as on TPU VMs, uv downloads a newer one.
set -euo pipefail
extra=$1
if [[ ! -x .venv/bin/python ]]; then
  if python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python3 -m venv .venv
  else
    python3 -m pip install --quiet --user uv
    python3 -m uv venv --quiet --seed --python 3.12 .venv
  fi
fi
.venv/bin/python -m pip install --quiet --editable ".[$extra]"
