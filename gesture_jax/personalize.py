"""Makes an avatar, one file with a person and the weights, from a portrait or a video.

    python -m gesture_jax.personalize --image=portrait.jpg --out=me --i_have_consent
    python -m gesture_jax.personalize --video=me.mp4 --out=me --i_have_consent
    python -m gesture_jax.generate --avatar=me.avatar --audio=speech.wav --out=talk.mp4

`me` is the workdir of the training, and `me.avatar` the result. After an interruption, the same
command resumes. A portrait takes some minutes on two CPU cores, a video up to an hour. The extra
[pose] is needed to make an avatar.
"""

import datetime
import getpass
import os

from absl import flags

from gesture_jax import cli
from gesture_jax.errors import InputError

_IMAGE = cli.define_path("image", None, "A portrait of one person, from the hips up.")
_VIDEO = cli.define_path("video", None, "A video of one person who talks, of 10 s or more.")
_OUT = cli.define_path("out", None, "Folder of the training; the avatar is OUT.avatar.")
_CONSENT = flags.DEFINE_boolean(
    "i_have_consent",
    False,
    "Confirms that the person who is shown agreed to become an avatar that says what others make "
    "it say, or that nobody like them exists. Your name and the time are kept in the avatar.",
)
_PERSON = flags.DEFINE_string("person", "", "Name of the person (default: that of the file).")
_STEPS = flags.DEFINE_integer(
    "num_steps",
    None,
    "Steps of the renderer (default: 120 for a portrait, 2000 for a video); 0 keeps the bundled "
    "one, so that the avatar is made in seconds, and only moves as a puppet.",
    0,
)
_MANNER_STEPS = flags.DEFINE_integer(
    "manner_steps",
    400,
    "Steps for the person's manner of moving, where the video has 30 s or more; 0 keeps the "
    "manner of the bundled weights.",
    0,
)
flags.mark_flag_as_required("out")


def main(_) -> None:
    from gesture_jax import puppets
    from gesture_jax.inference.avatar import Consent
    from gesture_jax.people import pose
    from gesture_jax.storage.files import as_path
    from gesture_jax.storage.output_paths import check_outputs

    given = [flag.value for flag in (_IMAGE, _VIDEO) if flag.value is not None]
    if len(given) != 1:
        raise InputError("give one of --image=PORTRAIT and --video=VIDEO")
    if not _CONSENT.value:
        raise InputError(
            "an avatar needs the consent of the person who is shown; ask them, and confirm it with "
            "--i_have_consent (docs/responsible_use.md)"
        )
    check_outputs({"--out": _OUT.value}, {"--image": _IMAGE.value, "--video": _VIDEO.value})
    if not pose.is_installed():
        raise InputError(f"an avatar is made with a pose model; {pose.remedy()}")
    puppets.check_installed()
    from gesture_jax.training import personal

    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    consent = Consent(_PERSON.value or as_path(given[0]).stem, _find_user(), now)
    if _IMAGE.value is not None:
        steps = personal.Steps(120 if _STEPS.value is None else _STEPS.value)
        path = personal.from_portrait(given[0], _OUT.value, consent, steps)
    else:
        steps = personal.Steps(2000 if _STEPS.value is None else _STEPS.value, _MANNER_STEPS.value)
        path = personal.from_video(given[0], _OUT.value, consent, steps)
    print(f"avatar: {path}")


def _find_user() -> str:
    """Returns the name of the user who runs the command, or the number where there is no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # As in some containers; the error depends on Python's version.
        return str(os.getuid())


if __name__ == "__main__":
    cli.run(main)
