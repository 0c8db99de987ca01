"""Moves a portrait like a driving video, with stage 1 alone.

python -m gesture_jax.animate --image=P --driving=V --out=V.mp4 --stage1=WORKDIR

Without --stage1, the bundled weights are used. `--avatar=FILE`, from `gesture_jax.personalize`,
stands for --image and --stage1.
"""

from absl import flags

from gesture_jax import cli
from gesture_jax.errors import InputError
from gesture_jax.inference import bundled

_IMAGE = cli.define_path("image", None, "The portrait, of any size.")
_DRIVING = cli.define_path("driving", None, "The video that the motion is taken from.")
_OUT = cli.define_path("out", None, "The mp4 to write; it keeps the driving video's sound.")
_STAGE1 = cli.define_path("stage1", None, "Workdir of a trained or converted stage 1.")
_AVATAR = cli.define_path("avatar", None, cli.AVATAR_HELP)
_PRESET = flags.DEFINE_enum("preset", None, bundled.PRESETS, cli.PRESET_HELP)
_BORDER_PX = flags.DEFINE_integer(
    "border_px", 0, "Border cut off the driving video.", lower_bound=0
)
_RELATIVE = flags.DEFINE_boolean(
    "relative", True,
    "Add the driving video's changes to the portrait's own pose. Without it, the portrait takes "
    "the video's poses themselves, which suits a video of the same person with the same framing.",
)  # fmt: skip
_SIDE_BY_SIDE = flags.DEFINE_boolean(
    "side_by_side", False, "Show portrait, driving frame and result."
)
_SAVE_MOTION = cli.define_path("save_motion", None, "Also write the motion features, an .npz.")
cli.define_style()
flags.mark_flags_as_required(["driving", "out"])


def main(_) -> None:
    from gesture_jax.inference import pipeline
    from gesture_jax.inference.animator import Animator
    from gesture_jax.inference.portraits import Style

    style = Style.from_flags(flags.FLAGS)
    image, stage1 = _find_portrait()
    notices = pipeline.animate(
        Animator.load(stage1, ahead=True),
        image,
        _DRIVING.value,
        _OUT.value,
        border_px=_BORDER_PX.value,
        relative=_RELATIVE.value,
        side_by_side=_SIDE_BY_SIDE.value,
        save_motion=_SAVE_MOTION.value,
        style=style,
    )
    pipeline.print_notices(notices)
    print(f"video: {_OUT.value}")


def _find_portrait() -> tuple[str, str]:
    """Returns the portrait and the stage 1 of the flags; the bundled one where there is none."""
    avatar = _AVATAR.value
    if avatar is None:
        if _IMAGE.value is None:
            raise InputError("--image is missing; give a portrait, or an --avatar")
        found = bundled.choose(_PRESET.value, stage1=_STAGE1.value)
        return _IMAGE.value, found.get("stage1", _STAGE1.value)
    if _IMAGE.value or _STAGE1.value or _PRESET.value:
        raise InputError("--avatar stands for --image and --stage1; drop these")
    return avatar, avatar


if __name__ == "__main__":
    cli.run(main)
