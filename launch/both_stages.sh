#!/usr/bin/env bash
# Trains stage 1, then stage 2 on its motion features: launch/both_stages.sh PRESET DATASET OUT
# After an interruption, run it again: each stage resumes.
set -euo pipefail
if [ $# -ne 3 ]; then
  echo "usage: launch/both_stages.sh PRESET DATASET OUT" >&2
  exit 2
fi
preset=$1 dataset=$2 out=$3
python -m gesture_jax.train --config="configs/stage1.py:$preset" --config.data.path="$dataset" \
  --workdir="$out/stage1"
python -m gesture_jax.train --config="configs/stage2.py:$preset" --workdir="$out/stage2" \
  --config.stage1_workdir="$out/stage1" --config.data.extract_missing=true
