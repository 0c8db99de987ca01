"""Makes a data set from videos, PATS's intervals, the procedural speaker, or portraits.

python -m gesture_jax.prepare --videos=DIR --out=DATASET
python -m gesture_jax.prepare --pats_intervals=CSV --raw_videos=DIR --out=DATASET
python -m gesture_jax.prepare --procedural=100 --out=DATASET
python -m gesture_jax.prepare --portraits=DIR --clips_per_portrait=4 --out=DATASET
"""

import functools
import sys

from absl import flags

from gesture_jax import cli
from gesture_jax.errors import InputError, one_line
from gesture_jax.storage.files import expand_home
from gesture_jax.storage.output_paths import check_outputs

_VIDEOS = cli.define_path(
    "videos", None, "Folder of videos, named SPEAKER#ID.mp4 or SPEAKER/ID.mp4; or one video."
)
_PATS = cli.define_path("pats_intervals", None, "PATS's table of intervals, cmu_intervals_df.csv.")
_RAW_VIDEOS = cli.define_path(
    "raw_videos", None, "Folder of PATS's raw videos, SPEAKER/VIDEO_ID.mp4."
)
_SPLIT = cli.define_path(
    "split", None, 'PATS\'s split, a JSON file: {"train": [interval ids], "test": [...]}.'
)
_LEFT_EDGES = cli.define_path(
    "left_edges",
    None,
    'Left edges of PATS\'s crops, a JSON file: {"SPEAKER": fraction of the width}.',
)
_PROCEDURAL = flags.DEFINE_integer(
    "procedural", None, "Number of clips of drawn people to make instead of using videos.", 1
)
_PORTRAITS = cli.define_path(
    "portraits", None, "Folder of half-body photographs, or of rigs made from them, to animate."
)
_CLIPS = flags.DEFINE_integer("clips_per_portrait", 4, "Clips to make of each portrait.", 1, 10_000)
_RIGS = cli.define_path("rigs", None, "Folder that keeps the portraits' rigs (default: OUT.rigs).")
_TEST_PORTRAITS = flags.DEFINE_list(
    "test_portraits",
    [],
    "Portraits that form the test split: their names, or a file with a name per line.",
)
_FRAMING = flags.DEFINE_enum(
    "framing",
    "random",
    ["random", "auto"],
    "Framing and colours of portraits: random in each clip, for stage 1; or alike for all, as "
    "--crop=auto frames them, for stage 2.",
)
_OUT = cli.define_path("out", None, "Folder of the data set to write.")
_SIZE = flags.DEFINE_integer("size", 256, "Side of the square frames in pixels.", 16, 1024)
_CROP = flags.DEFINE_string(
    "crop",
    "center",
    "Square to keep: center, LEFT,TOP,SIZE in pixels, or auto (around the person, extra [pose]).",
)
_BORDER_PX = flags.DEFINE_integer(
    "border_px", 0, "Pixels to cut off at each edge of the videos.", lower_bound=0
)
_PERSON = flags.DEFINE_boolean(
    "require_person",
    None,
    "Leave out clips in which no person is found (default: on where [pose] is installed).",
)
_JOINTS = flags.DEFINE_boolean(
    "joints", None, "Find the joints in each frame (default: on where [pose] is installed)."
)
_MIN_SEC = flags.DEFINE_float(
    "min_sec", 3.2, "Shortest clip to keep; stage 2 needs windows of 3.2 s.", 0.2
)
_MAX_SEC = flags.DEFINE_float(
    "max_sec", 15.0, "Longest clip; longer scenes are cut.", lower_bound=2.0
)
_TEST_FRACTION = flags.DEFINE_float(
    "test_fraction",
    0.1,
    "Fraction of each speaker's clips to test on; of each clip's length if there are few.",
    0.01,
    0.5,
)
_SPLIT_WITHIN_CLIPS = flags.DEFINE_boolean(
    "split_within_clips", False, "Test on the end of each clip instead of on whole clips."
)
_FEATURES = flags.DEFINE_enum(
    "features", "baseline", ["baseline", "mel", "wavlm", "both"], "Speech features to compute."
)
_WAVLM = cli.define_path("wavlm", None, "File with WavLM-Large's weights, .safetensors or .pt.")
_NUM_WORKERS = flags.DEFINE_integer(
    "num_workers",
    None,
    "Worker processes; 0 uses this process alone (default: one per core where it pays).",
    0,
    1024,
)
_RUNNER = flags.DEFINE_enum(
    "runner", "local", ["local", "beam"], "Run on this machine, or with Apache Beam."
)
_BEAM_ARGS = flags.DEFINE_multi_string(
    "beam_arg", [], "A flag for Beam, such as --beam_arg=--runner=DataflowRunner."
)
_NUM_IDENTITIES = flags.DEFINE_integer("num_identities", 4, "Number of drawn people.", 1)
_FIRST_IDENTITY = flags.DEFINE_integer(
    "first_identity",
    0,
    "Number of the first drawn person; each number is another person.",
    0,
    2**31,
)
_CLIP_SEC = flags.DEFINE_float(
    "clip_sec", 5.0, "Length in seconds of clips of drawn people and portraits.", 0.2, 600.0
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of what drawn people and portraits say and do.", 0, 2**31
)
_VOICES = flags.DEFINE_enum(
    "voices",
    None,
    ["espeak", "formants"],
    "Voices of drawn people and portraits: real sentences (extra [voices]), or made-up syllables "
    "(default: espeak where it is installed).",
)
flags.mark_flag_as_required("out")


def main(_) -> None:
    from gesture_jax.data import records
    from gesture_jax.speech import extractor

    flags_given = [
        flag for flag in (_VIDEOS, _PATS, _PROCEDURAL, _PORTRAITS) if flag.value is not None
    ]
    if len(flags_given) != 1 and flags_given != [_PROCEDURAL, _PORTRAITS]:
        raise InputError(
            "give one of --videos=DIR, --pats_intervals=CSV, --procedural=NUM_CLIPS, "
            "--portraits=DIR; only the last two can be combined"
        )
    folders = _VIDEOS, _RAW_VIDEOS, _PORTRAITS, _RIGS
    check_outputs({"--out": _OUT.value}, {f"--{flag.name}": flag.value for flag in folders})
    records.check_place(_OUT.value)
    feature_extractor = extractor.SpeechFeatureExtractor(_FEATURES.value, _WAVLM.value)
    common = {"test_fraction": _TEST_FRACTION.value, "run": _runner()}
    if _PROCEDURAL.value is not None or _PORTRAITS.value is not None:
        if _SPLIT_WITHIN_CLIPS.value:
            raise InputError("--split_within_clips is for recordings; drawn clips are not cut")
        report = _write_synthetic(feature_extractor, common)
    else:
        report = _write_recordings(feature_extractor, common)
    _print(report)


def _write_recordings(feature_extractor, common):
    """Writes clips of videos, or of PATS's intervals."""
    from gesture_jax.media import framing
    from gesture_jax.people import pose
    from gesture_jax.preparation import pats, videos

    person, joints = (
        pose.is_installed() if flag.value is None else flag.value for flag in (_PERSON, _JOINTS)
    )
    auto = _CROP.value == "auto"
    if auto or person or joints:
        pose.check_installed()
    common |= {
        "split_within_clips": _SPLIT_WITHIN_CLIPS.value,
        "settings": videos.Settings(
            _SIZE.value, _MIN_SEC.value, _MAX_SEC.value, person, joints, feature_extractor
        ),
        "crop": None if auto else framing.parse_crop(_CROP.value, border_px=_BORDER_PX.value),
    }
    if _VIDEOS.value is not None:
        return videos.write_videos(_VIDEOS.value, _OUT.value, **common)
    if _RAW_VIDEOS.value is None:
        raise InputError("--raw_videos is missing; give the folder of PATS's raw videos")
    edges = pats.read_left_edges(_LEFT_EDGES.value) if _LEFT_EDGES.value else {}
    common |= {"left_edges": edges, "split_file": _SPLIT.value}
    return pats.write_pats(_PATS.value, _RAW_VIDEOS.value, _OUT.value, **common)


def _write_synthetic(feature_extractor, common):
    """Writes clips of drawn people, of portraits, or of both."""
    from gesture_jax.preparation import procedural
    from gesture_jax.procedural import voice

    voices = _VOICES.value or voice.default_voices()
    if _VOICES.value is None:
        print(f"voices: {voices}", file=sys.stderr)
    common = {
        "clip_sec": _CLIP_SEC.value,
        "size": _SIZE.value,
        "seed": _SEED.value,
        "voices": voices,
        "feature_extractor": feature_extractor,
        **common,
    }
    drawn = {
        "num_clips": _PROCEDURAL.value,
        "num_identities": _NUM_IDENTITIES.value,
        "first_identity": _FIRST_IDENTITY.value,
    }
    if _PORTRAITS.value is None:
        return procedural.write_procedural(_OUT.value, **drawn, **common)
    from gesture_jax import puppets

    puppets.check_installed()
    from gesture_jax.preparation.photo_people import takes

    if _PROCEDURAL.value is not None:
        shared = {key: value for key, value in common.items() if key != "run"}
        common["more_takes"] = procedural.make_takes(**drawn, **shared)
        common["more_arguments"] = drawn
    return takes.write_photo_people(
        _PORTRAITS.value,
        _OUT.value,
        rigs_dir=_RIGS.value,
        clips_each=_CLIPS.value,
        framing=_FRAMING.value,
        test_portraits=takes.read_names(list(map(expand_home, _TEST_PORTRAITS.value))),
        num_workers=_NUM_WORKERS.value,
        **common,
    )


def _runner():
    from gesture_jax.preparation import beam, parts

    if _RUNNER.value == "beam":
        return functools.partial(beam.make_parts, beam_args=_BEAM_ARGS.value)
    return functools.partial(parts.make_parts, num_workers=_NUM_WORKERS.value)


def _print(report) -> None:
    from gesture_jax.preparation import dataset

    if report is None:
        print(f"{_OUT.value}: is there already, made from the same; nothing to do")
        report = dataset.read_report(_OUT.value)
    for entry in report["left_out"]["each"]:
        print(f"left out {entry['name']}: {entry['reason']}, {entry['detail']}", file=sys.stderr)
    for note in report.get("notes", ()):  # Reports of older versions have none.
        print(f"note: {one_line(note)}", file=sys.stderr)
    print(dataset.format_report(report))
    print(f"{_OUT.value}/{dataset.CONTACT_SHEET_FILE} shows it")


if __name__ == "__main__":
    cli.run(main)
