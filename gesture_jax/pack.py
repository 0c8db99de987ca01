"""Packs a trained stage into one file, which --stage1, --stage2 and init_from accept as a workdir.

python -m gesture_jax.pack --workdir=DIR --out=FILE.safetensors [--portraits=DIR]
"""

from absl import flags

from gesture_jax import cli

_WORKDIR = cli.define_path("workdir", None, "The workdir of a trained or converted stage.")
_OUT = cli.define_path("out", None, "The .safetensors file to write.")
_HALF = flags.DEFINE_boolean("half", False, "Round the weights to 16 bits, which halves the size.")
_PORTRAITS = cli.define_path(
    "portraits",
    None,
    "A folder of half-body photographs, or of their rigs: also fit on them how poses are read from "
    "motion, so that photographs move by their own pixels (stage 1; needs the extra [pose]).",
)
flags.mark_flags_as_required(["workdir", "out"])


def main(_) -> None:
    from gesture_jax.checkpoint import checkpoints

    reading = None
    if _PORTRAITS.value is not None:
        from gesture_jax import puppets

        puppets.check_installed()
        from gesture_jax.training import pose_reading

        reading = pose_reading.fit_on_portraits(_WORKDIR.value, _PORTRAITS.value)
    checkpoints.pack(_WORKDIR.value, _OUT.value, half=_HALF.value, pose_reading=reading)
    print(f"packed: {_OUT.value}")


if __name__ == "__main__":
    cli.run(main)
