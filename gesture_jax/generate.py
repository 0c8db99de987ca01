"""A portrait and a speech recording in, a video of that person talking with their hands out.

    python -m gesture_jax.generate --image=P --audio=W --out=V.mp4 --stage1=DIR --stage2=DIR

Each DIR is a workdir, or a file that `gesture_jax.pack` made of one. Without them, the bundled
weights are used. `--avatar=FILE`, from `gesture_jax.personalize`, stands for all three.

`--manifest=FILE` generates many videos and loads the models once. The file is a CSV with a header,
or has one JSON object per line; keys are image, audio and out, and optionally seed, speaker, sheet,
save_motion, motion and gestures.
"""

from typing import Any

from absl import flags

from gesture_jax import cli
from gesture_jax.errors import InputError
from gesture_jax.inference import bundled

_IMAGE = cli.define_path("image", None, "The portrait, of any size.")
_AUDIO = cli.define_path("audio", None, "The speech: any audio or video file.")
_OUT = cli.define_path("out", None, "The mp4 to write.")
_MANIFEST = cli.define_path("manifest", None, "CSV or JSON lines with image, audio, out, ...")
_STAGE1 = cli.define_path("stage1", None, "Workdir of the trained stage 1.")
_STAGE2 = cli.define_path("stage2", None, "Workdir of the trained stage 2.")
_AVATAR = cli.define_path("avatar", None, cli.AVATAR_HELP)
_PRESET = flags.DEFINE_enum("preset", None, bundled.PRESETS, cli.PRESET_HELP)
_SEED = flags.DEFINE_integer("seed", 0, "The same seed gives the same video.", 0, 2**32 - 1)
_SPEAKER = flags.DEFINE_string("speaker", None, "Whose manner of moving, if stage 2 knows several.")
_SHEET = cli.define_path("sheet", None, "Also write a PNG of frames spread over the clip.")
_SAVE_MOTION = cli.define_path("save_motion", None, "Also write the motion features, an .npz.")
_MOTION = cli.define_path("motion", None, "Render such an .npz again; needs no stage 2.")
_GESTURES = cli.define_path(
    "gestures",
    None,
    "A video, or a motion .npz, that the hands, the head and the body follow, while speech moves "
    "only the lips; one that is shorter than the speech runs forwards and backwards in turn. "
    "Stage 2 has to know the lips.",
)
_WAVLM = cli.define_path("wavlm", None, "WavLM's weights, if stage 2 was trained with it.")

# The config of stage 2 has the defaults of all of these.
_SAMPLER = flags.DEFINE_enum("sampler", None, ["ddpm", "ddim", "dpm"], "Sampler of the diffusion.")
_STEPS = flags.DEFINE_integer("num_steps", None, "Number of denoising steps.", 1)
_GUIDANCE = flags.DEFINE_float("guidance", None, "Weight of the speech; 1 is plain sampling.", 0)
_CANDIDATES = flags.DEFINE_integer("candidates", None, "Windows generated to choose from.", 1)
_MOTION_SCALE = flags.DEFINE_float("motion_scale", None, "1 moves as generated, 0 is still.", 0)
_MOUTH_SCALE = flags.DEFINE_float(
    "mouth_scale", None, "The same for the lips, where stage 2 knows them.", 0
)
_HEAD_SCALE = flags.DEFINE_float("head_scale", None, "The same for the head alone.", 0)
_HANDS_SCALE = flags.DEFINE_float("hands_scale", None, "The same for all below the head.", 0)
_REST_SEC = flags.DEFINE_float("rest_sec", None, "Return to the portrait's pose at the end.", 0)
_VOICE_ACTIVITY = flags.DEFINE_enum(
    "voice_activity",
    None,
    ["silero", "energy", "off"],
    "How speech is told from music and noise, during which the portrait is silent (default: silero "
    "where [vad] is installed, energy otherwise).",
)
cli.define_style()


def main(_) -> None:
    from gesture_jax.inference import manifest, pipeline
    from gesture_jax.inference.animator import Animator
    from gesture_jax.inference.generator import GestureGenerator
    from gesture_jax.inference.portraits import Style
    from gesture_jax.speech import activity

    avatar = _AVATAR.value
    if avatar and (_IMAGE.value or _STAGE1.value or _STAGE2.value or _PRESET.value):
        raise InputError("--avatar stands for --image, --stage1 and --stage2; drop these")
    requests = manifest.read_requests(
        _MANIFEST.value, seed=_SEED.value, avatar=avatar, image=_IMAGE.value, audio=_AUDIO.value,
        out=_OUT.value, speaker=_SPEAKER.value, sheet=_SHEET.value,
        save_motion=_SAVE_MOTION.value, motion=_MOTION.value, gestures=_GESTURES.value,
    )  # fmt: skip
    changes = _option_changes()
    stage1, stage2 = _find_weights()
    if stage2 is None and (changes or not _MOTION.value):
        raise InputError("--stage2 is missing; only --motion without options needs none")
    if stage2 and _MOTION.value:
        raise InputError("--motion is rendered as it is; drop --stage2 and its options")
    style = Style.from_flags(flags.FLAGS)
    animator, generator, options = Animator.load(stage1, ahead=True), None, None
    if stage2:
        generator = GestureGenerator.load(stage1=animator, stage2=stage2, wavlm=_WAVLM.value)
        options = generator.options(**changes)
        if _VOICE_ACTIVITY.value is None and options.voice_activity == "energy":
            pipeline.print_notices([activity.WITHOUT_SILERO])
    pipeline.write_requests(animator, generator, requests, style, options)


def _find_weights() -> tuple[str, str | None]:
    """The stage 1 and stage 2 of the flags; the bundled ones where there are none."""
    if _AVATAR.value:
        return _AVATAR.value, None if _MOTION.value else _AVATAR.value
    stage1, stage2 = _STAGE1.value, _STAGE2.value
    if stage1 is None and stage2 is not None:
        raise InputError("--stage1 is missing; give the one that --stage2 was trained on")
    found = bundled.choose(_PRESET.value, stage1=stage1)
    if found:
        return found["stage1"], None if _MOTION.value else found["stage2"]
    return stage1, stage2


def _option_changes() -> dict[str, Any]:
    """The options of the flags, as `GestureGenerator.options` takes them."""
    sections = {
        "sampler": {"name": _SAMPLER, "num_steps": _STEPS, "guidance": _GUIDANCE},
        "schedule": {"candidates": _CANDIDATES},
        "control": {
            "motion_scale": _MOTION_SCALE, "head_scale": _HEAD_SCALE, "hands_scale": _HANDS_SCALE,
            "mouth_scale": _MOUTH_SCALE, "rest_sec": _REST_SEC,
        },
    }  # fmt: skip
    values = lambda flags: {k: flag.value for k, flag in flags.items() if flag.value is not None}
    changes = {name: values(flags) for name, flags in sections.items() if values(flags)}
    if _VOICE_ACTIVITY.value is not None:
        changes["voice_activity"] = _VOICE_ACTIVITY.value
    return changes


if __name__ == "__main__":
    cli.run(main)
