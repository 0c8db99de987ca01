"""Converts the paper's released stage 1 from PyTorch to a workdir for `animate` and `extract`.

python -m gesture_jax.convert --checkpoint=model.pt --out=WORKDIR
"""

from absl import flags
from ml_collections import ConfigDict

from gesture_jax import cli

_CHECKPOINT = cli.define_path("checkpoint", None, "The PyTorch checkpoint (.pt, .pth).")
_OUT = cli.define_path("out", None, "The workdir to write.")
flags.mark_flags_as_required(["checkpoint", "out"])


def main(_) -> None:
    from gesture_jax.checkpoint import checkpoints
    from gesture_jax.pretrained import torch_checkpoint, torch_weights

    config = ConfigDict({"stage": "stage1", "model": {}})
    checkpoints.check_replaceable(_OUT.value, config)  # This comes before the slow work.
    state_dict = torch_checkpoint.read_checkpoint(_CHECKPOINT.value)
    variables = torch_weights.deviation_variables(state_dict)
    # The config comes first: it identifies an interrupted conversion, which can then be repeated.
    checkpoints.write_config(_OUT.value, config)
    checkpoints.save_variables(_OUT.value, variables)
    print(f"stage 1: {_OUT.value}")


if __name__ == "__main__":
    cli.run(main)
