"""A portrait and a speech recording in, a video of that person talking with their hands out.

    python -m gesture_jax.generate --image=P --audio=W --out=V.mp4 --stage1=DIR --stage2=DIR

Many at once, the models loaded once: `--manifest=FILE`, a JSON object a line with the keys
`image`, `audio`, `out` and, if wanted, `seed`.
"""

from absl import flags

from gesture_jax import cli

_IMAGE = flags.DEFINE_string(
    "image", None, "The portrait: any size, cropped to its central square."
)
_AUDIO = flags.DEFINE_string("audio", None, "The speech: any audio or video file.")
_OUT = flags.DEFINE_string("out", None, "The mp4 to write.")
_MANIFEST = flags.DEFINE_string("manifest", None, "JSON lines of image, audio, out, seed.")
_STAGE1 = flags.DEFINE_string("stage1", None, "Workdir of a trained stage 1.")
_STAGE2 = flags.DEFINE_string("stage2", None, "Workdir of a trained stage 2.")
_SEED = flags.DEFINE_integer("seed", 0, "The same seed gives the same video.", lower_bound=0)
_STEPS = flags.DEFINE_integer("steps", None, "Denoising steps, the stage's own where not given.", 1)
_GUIDANCE = flags.DEFINE_float("guidance", None, "Weight of the speech; 1 is plain sampling.", 0)
_SHEET = flags.DEFINE_string("sheet", None, "Also writes a PNG of frames spread over the clip.")
_MOTION = flags.DEFINE_string("motion", None, "Also writes the motion features, an .npz.")
_WAVLM = flags.DEFINE_string("wavlm", None, "WavLM's weights, where stage 2 was trained with it.")
flags.mark_flags_as_required(["stage1", "stage2"])


def main(_) -> None:
    from gesture_jax import generator, jobs

    requests = jobs.read_requests(
        image=_IMAGE.value,
        audio=_AUDIO.value,
        out=_OUT.value,
        seed=_SEED.value,
        sheet=_SHEET.value,
        motion=_MOTION.value,
        manifest=_MANIFEST.value,
    )
    model = generator.GestureGenerator.load(
        stage1=_STAGE1.value, stage2=_STAGE2.value, wavlm=_WAVLM.value
    )
    model.configure(num_steps=_STEPS.value, guidance=_GUIDANCE.value)
    for request in requests:
        jobs.write_request(model, request)
        print(f"video: {request.out}")


if __name__ == "__main__":
    cli.run(main)
