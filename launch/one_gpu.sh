#!/usr/bin/env bash
# Trains both stages of `photo` from a folder of half-body photographs, on one GPU, as for the bundled
# weights. Planned for 12 minutes on an H100 with 16 CPU cores: 2 for the data, 8 for stage 1, 2 for
# stage 2.
#
#   launch/one_gpu.sh --portraits=DIR --out=DIR [--rigs=DIR] [--preset=photo] [--size=256] \
#     [--clips=6] [--test_portraits=NAME,...] [--stage1_steps=5000] [--stage2_steps=5000] \
#     [--python=python] [--dry_run] [-- FLAGS OF STAGE 1]
#
# Writes OUT/data for stage 1, OUT/talk and OUT/motions for stage 2, OUT/stage1, OUT/stage2, and both
# stages packed as OUT/photo_stage1.safetensors and OUT/photo_stage2.safetensors. After an
# interruption, run it again: each step resumes. --rigs keeps the rigs made from the photographs; you
# can pass that folder as --portraits later.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "$0")/common.sh"

portraits="" out="" rigs="" preset=photo size=256 clips=6 test_portraits=""
stage1_steps=5000 stage2_steps=5000 python=python
read_options "portraits out rigs preset size clips test_portraits stage1_steps stage2_steps python" "$@"
need portraits out

# Reserves nearly all of the GPU's memory at once: the frames stay there for the whole training.
export XLA_PYTHON_CLIENT_MEM_FRACTION="${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.92}"

# A clip of 6.6 s holds two windows of stage 2.
run "$python" -m gesture_jax.prepare --portraits="$portraits" --rigs="${rigs:-$out/rigs}" \
  --clips_per_portrait="$clips" --clip_sec=6.6 --size="$size" ${test_portraits:+--test_portraits="$test_portraits"} \
  --out="$out/data"
# Stage 2 sees all people framed alike, as portraits are cropped when videos are generated.
run "$python" -m gesture_jax.prepare --portraits="${rigs:-$out/rigs}" --clips_per_portrait="$clips" \
  --clip_sec=6.6 --size="$size" --framing=auto --features=mel --seed=1 \
  ${test_portraits:+--test_portraits="$test_portraits"} --out="$out/talk"
run "$python" -m gesture_jax.train --config="configs/stage1.py:$preset" \
  --config.data.path="$out/data" --config.data.on_device --config.dtype=bfloat16 \
  --config.num_steps="$stage1_steps" --workdir="$out/stage1" ${train_flags[@]+"${train_flags[@]}"}
run "$python" -m gesture_jax.extract --stage1="$out/stage1" --data="$out/talk" --out="$out/motions"
run "$python" -m gesture_jax.train --config="configs/stage2.py:$preset" \
  --config.stage1_workdir="$out/stage1" --config.data.path="$out/motions" \
  --config.num_steps="$stage2_steps" --workdir="$out/stage2"
run "$python" -m gesture_jax.pack --half --workdir="$out/stage1" \
  --portraits="${rigs:-$out/rigs}" --out="$out/${preset}_stage1.safetensors"
run "$python" -m gesture_jax.pack --half --workdir="$out/stage2" \
  --out="$out/${preset}_stage2.safetensors"
