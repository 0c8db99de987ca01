"""Packs a trained stage into one file, which --stage1, --stage2 and init_from accept as a workdir.

python -m gesture_jax.pack --workdir=DIR --out=FILE.safetensors
"""

from absl import flags

from gesture_jax import cli

_WORKDIR = cli.define_path("workdir", None, "The workdir of a trained or converted stage.")
_OUT = cli.define_path("out", None, "The .safetensors file to write.")
_HALF = flags.DEFINE_boolean("half", False, "Round the weights to 16 bits, which halves the size.")
flags.mark_flags_as_required(["workdir", "out"])


def main(_) -> None:
    from gesture_jax.checkpoint import checkpoints

    checkpoints.pack(_WORKDIR.value, _OUT.value, half=_HALF.value)
    print(f"packed: {_OUT.value}")


if __name__ == "__main__":
    cli.run(main)
