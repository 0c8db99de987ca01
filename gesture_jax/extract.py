"""Extracts the motion features of a data set, which stage 2 trains on.

python -m gesture_jax.extract --stage1=WORKDIR --data=DATASET
"""

from absl import flags

from gesture_jax import cli

_STAGE1 = cli.define_path(
    "stage1", None, "Workdir or packed file of a trained or converted stage 1."
)
_DATA = cli.define_path("data", None, "Dataset made by gesture_jax.prepare.")
_OUT = cli.define_path("out", None, "Folder to write (default: STAGE1/motions).")
flags.mark_flags_as_required(["stage1", "data"])


def main(_) -> None:
    from gesture_jax.training import extraction

    out = _OUT.value or str(extraction.default_folder(_STAGE1.value))
    extraction.extract_motions(_STAGE1.value, _DATA.value, out)
    print(f"motion features: {out}")


if __name__ == "__main__":
    cli.run(main)
