"""Makes a data set: of a folder of videos with sound, or of the procedural speaker.

python -m gesture_jax.prepare --videos=DIR --out=DATASET
python -m gesture_jax.prepare --procedural=100 --out=DATASET
"""

import sys

from absl import flags

from gesture_jax import cli
from gesture_jax.errors import InputError

_VIDEOS = flags.DEFINE_string("videos", None, "Folder of videos: SPEAKER#ID.mp4 or SPEAKER/ID.mp4.")
_PROCEDURAL = flags.DEFINE_integer("procedural", None, "Makes that many drawn clips instead.", 1)
_OUT = flags.DEFINE_string("out", None, "Folder of the data set to write.")
_SIZE = flags.DEFINE_integer("size", 256, "Side of the square frames in pixels.", 16, 1024)
_CROP_PX = flags.DEFINE_integer("crop_px", 0, "Border shaved off the videos.", lower_bound=0)
_MAX_SEC = flags.DEFINE_float("max_sec", 15.0, "Longer videos are cut into clips.", lower_bound=2.0)
_TEST_FRACTION = flags.DEFINE_float(
    "test_fraction", 0.1, "Of each speaker's clips; with few clips, of each one's end.", 0.01, 0.5
)
_NUM_IDENTITIES = flags.DEFINE_integer("num_identities", 4, "How many people are drawn.", 1)
_CLIP_SEC = flags.DEFINE_float("clip_sec", 5.0, "Length of a drawn clip.", 0.2, 600.0)
_SEED = flags.DEFINE_integer("seed", 0, "Of what drawn people say and do.", 0, 2**31)
flags.mark_flag_as_required("out")


def main(_) -> None:
    if (_VIDEOS.value is None) == (_PROCEDURAL.value is None):
        raise InputError("give either --videos=DIR or --procedural=NUM_CLIPS")
    left_out = (_write_procedural if _VIDEOS.value is None else _write_videos)()
    if left_out is None:
        print(f"{_OUT.value}: is there already, made from the same; nothing to do")
    for name, reason in (left_out or {}).items():
        print(f"left out {name}: {reason}", file=sys.stderr)
    print(_table())


def _write_procedural() -> dict[str, str] | None:
    from gesture_jax.data import procedural

    wrote = procedural.write_procedural(
        _OUT.value,
        num_clips=_PROCEDURAL.value,
        num_identities=_NUM_IDENTITIES.value,
        clip_sec=_CLIP_SEC.value,
        size=_SIZE.value,
        seed=_SEED.value,
        test_fraction=_TEST_FRACTION.value,
    )
    return {} if wrote else None


def _write_videos() -> dict[str, str] | None:
    from gesture_jax.data import videos

    return videos.write_videos(
        _VIDEOS.value,
        _OUT.value,
        size=_SIZE.value,
        crop_px=_CROP_PX.value,
        max_sec=_MAX_SEC.value,
        test_fraction=_TEST_FRACTION.value,
    )


def _table() -> str:
    from gesture_jax.data import clips

    rows = [f"{'split':8}{'clips':>8}{'minutes':>10}"]
    for split in ("train", "test"):
        facts = clips.ClipSource(_OUT.value, split).metadata["splits"][split]
        rows.append(f"{split:8}{facts['num_clips']:8d}{facts['seconds'] / 60:10.2f}")
    return "\n".join(rows)


if __name__ == "__main__":
    cli.run(main)
