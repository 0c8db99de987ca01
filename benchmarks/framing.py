"""Measures how well stage 1 reconstructs people who are framed differently from its training data.

    python -m benchmarks.framing --stage1=WORKDIR

Source and driving frame of a drawn person are shifted or scaled alike. The loss of PSNR relative to
the usual framing shows which tolerance `gesture_jax/data/portrait_framing.py` may use.
"""

import numpy as np
from absl import app

from gesture_jax import cli
from gesture_jax.inference.animator import Animator
from gesture_jax.media import images
from gesture_jax.procedural import speaker

_STAGE1 = cli.define_path("stage1", None, "Workdir of a stage 1.", required=True)
_PEOPLE, _FRAMES = 4, 6
# Frames are drawn at this size, and padded by this many pixels that repeat their edges.
_SIZE_PX, _PADDING_PX = 256, 192


def main(_) -> None:
    animator = Animator.load(_STAGE1.value)
    clips = [
        speaker.perform(identity=k, seed=90_000 + k, duration_sec=4.0, size=_SIZE_PX).frames
        for k in range(_PEOPLE)
    ]
    usual = _psnr(animator, clips)
    print(f"usual framing: {usual:.2f} dB")
    for name, values in (
        ("right", (0.01, 0.02, 0.03, 0.04, 0.08, 0.12, 0.2)),
        ("down", (-0.08, -0.04, -0.02, 0.02, 0.04, 0.08)),
        ("larger", (0.6, 0.7, 0.8, 0.9, 0.95, 1.05, 1.1, 1.25, 1.4)),
    ):
        for value in values:
            change = _psnr(animator, clips, **{name: value}) - usual
            print(f"| {name} | {value:g} | {change:+.2f} dB |")


def _psnr(animator: Animator, clips, *, right=0.0, down=0.0, larger=1.0) -> float:
    side = round(_SIZE_PX / larger)
    left = _PADDING_PX + (_SIZE_PX - side) / 2 - right * side
    top = _PADDING_PX + (_SIZE_PX - side) / 2 - down * side
    errors = []
    for frames in clips:
        chosen = frames[np.linspace(0, len(frames) - 1, _FRAMES + 1).astype(int)]
        padding = (_PADDING_PX, _PADDING_PX)
        padded = np.pad(chosen, ((0, 0), padding, padding, (0, 0)), mode="edge")
        cut = padded[:, round(top) : round(top) + side, round(left) : round(left) + side]
        first, *others = [images.square(frame, size=animator.resolution) for frame in cut]
        motion = animator.extract_motion(others)
        drawn = animator.render(animator.encode_source(first), motion)
        errors.append(np.square(drawn - np.stack(others) / 255.0).mean(axis=(1, 2, 3)))
    return float(np.mean(-10 * np.log10(np.concatenate(errors))))


if __name__ == "__main__":
    app.run(main)
