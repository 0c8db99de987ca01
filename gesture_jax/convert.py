"""The paper's released stage 1, from PyTorch to a workdir that `animate` and `extract` use.

python -m gesture_jax.convert --checkpoint=model.pt --out=WORKDIR
"""

from absl import flags
from ml_collections import ConfigDict

from gesture_jax import cli

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "PyTorch checkpoint (.pt, .pth).")
_OUT = flags.DEFINE_string("out", None, "Workdir to write.")
flags.mark_flags_as_required(["checkpoint", "out"])


def main(_) -> None:
    from gesture_jax import checkpoints, torch_checkpoint, torch_weights

    state_dict = torch_checkpoint.read_checkpoint(_CHECKPOINT.value)
    variables = torch_weights.deviation_variables(state_dict)
    checkpoints.save_variables(_OUT.value, variables)
    checkpoints.write_config(_OUT.value, ConfigDict({"stage": "stage1", "model": {}}))
    print(f"stage 1: {_OUT.value}")


if __name__ == "__main__":
    cli.run(main)
