"""A data set of the procedural speaker: what `prepare --procedural=N` and the presets make."""

import os
from collections.abc import Iterator

from tqdm import tqdm

from gesture_jax.data import clips, speaker, speech
from gesture_jax.data.clips import Clip
from gesture_jax.errors import InputError

# Seeds of one data set never meet those of the next.
_MOST_CLIPS = 100_000


def write_procedural(
    out_dir: str | os.PathLike,
    *,
    num_clips: int,
    num_identities: int,
    clip_sec: float,
    size: int,
    seed: int,
    test_fraction: float = 0.1,
) -> bool:
    """Writes clips of made-up people, in turn; the last of each person's are the test split.

    Args:
      out_dir: the data set's folder.
      num_clips: of all people together, at least two for each.
      num_identities: how many people.
      clip_sec: length of a clip.
      size: side of the frames in pixels.
      seed: of what is said and done; people are the same for every seed.
      test_fraction: of each person's clips; at least one, at most all but one.

    Returns:
      False where the same data set is there already: nothing was done.

    Raises:
      InputError: for numbers that make no data set, or where `out_dir` holds something else.
    """
    if not 2 * num_identities <= num_clips <= _MOST_CLIPS:
        raise InputError(
            f"{num_clips} clips of {num_identities} people: give every person at least two clips, "
            f"one to train and one to test, and {_MOST_CLIPS} together at most"
        )
    turns = num_clips // num_identities
    test_turns = min(max(1, round(turns * test_fraction)), turns - 1)
    first_test = (turns - test_turns) * num_identities
    numbers = {"train": range(first_test), "test": range(first_test, num_clips)}
    progress = tqdm(total=num_clips, desc="procedural speaker", unit="clip")

    def perform(split: str) -> Iterator[Clip]:
        for number in numbers[split]:
            identity = number % num_identities
            yield _clip(identity, seed * _MOST_CLIPS + number, clip_sec, size)
            progress.update()

    with progress:
        return clips.write_clips(
            out_dir,
            {split: lambda split=split: perform(split) for split in numbers},
            size=size,
            arguments={
                "procedural": num_clips,
                "num_identities": num_identities,
                "clip_sec": clip_sec,
                "size": size,
                "seed": seed,
                "test_fraction": test_fraction,
            },
            joint_names=speaker.JOINT_NAMES,
        )


def _clip(identity: int, seed: int, clip_sec: float, size: int) -> Clip:
    done = speaker.perform(identity=identity, seed=seed, duration_sec=clip_sec, size=size)
    return Clip(
        clip_id=f"procedural{identity}#{seed}",
        speaker=f"procedural{identity}",
        frames=done.frames,
        audio=done.audio,
        speech=speech.speech_features(done.audio, num_frames=len(done.frames)),
        joints=done.joints,
        stress_times_sec=done.stress_times_sec,
    )
