"""The procedural speaker as takes: what `prepare --procedural=N` and the presets make."""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

from gesture_jax.data.clips import Clip
from gesture_jax.errors import InputError
from gesture_jax.preparation import dataset
from gesture_jax.procedural import speaker
from gesture_jax.speech import extractor

# Seeds of one data set never meet those of the next.
_MOST_CLIPS = 100_000


@dataclasses.dataclass(frozen=True)
class ProceduralTake:
    """One clip of a made-up person; see `parts.Take`.

    Attributes:
      identity: who.
      seed: of what is said and done.
      duration_sec: how long.
      size: side of the frames in pixels.
      split: "train" or "test".
      hearing: what is computed of the sound.
    """

    identity: int
    seed: int
    duration_sec: float
    size: int
    split: str
    hearing: extractor.SpeechFeatureExtractor

    @property
    def name(self) -> str:
        return f"procedural{self.identity}#{self.seed}"

    def follows_from(self) -> Mapping[str, Any]:
        """See `parts.Take`."""
        return {**dataclasses.asdict(self), "hearing": self.hearing.describe()}

    def perform(self) -> Iterator[Clip]:
        """See `parts.Take`."""
        done = speaker.perform(
            identity=self.identity, seed=self.seed, duration_sec=self.duration_sec, size=self.size
        )
        yield Clip(
            clip_id=self.name,
            speaker=f"procedural{self.identity}",
            frames=done.frames,
            audio=done.audio,
            speech=self.hearing.extract(done.audio, num_frames=len(done.frames)),
            joints=done.joints,
            stress_times_sec=done.stress_times_sec,
        )


def write_procedural(
    out_dir: str | os.PathLike,
    *,
    num_clips: int,
    num_identities: int,
    first_identity: int = 0,
    clip_sec: float,
    size: int,
    seed: int,
    test_fraction: float = 0.1,
    hearing: extractor.SpeechFeatureExtractor = extractor.SpeechFeatureExtractor(),  # noqa: B008
    run: dataset.Runner | None = None,
) -> dataset.Report | None:
    """Writes clips of made-up people, in turn; the last of each person's are the test split.

    Args:
      out_dir: the data set's folder.
      num_clips: of all people together, at least two for each.
      num_identities: how many people.
      first_identity: number of the first of them; who has another number is another person.
      clip_sec: length of a clip.
      size: side of the frames in pixels.
      seed: of what is said and done; people are the same for every seed.
      test_fraction: of each person's clips; at least one, at most all but one.
      hearing: what is computed of the sound.
      run: does the takes; by default `parts.make_parts`.

    Returns:
      What was made; None where the same data set is there already.

    Raises:
      InputError: for numbers that make no data set, or where `out_dir` holds something else.
    """
    numbers = {
        "num_identities": num_identities,
        "first_identity": first_identity,
        "clip_sec": clip_sec,
        "size": size,
        "seed": seed,
        "test_fraction": test_fraction,
    }
    return dataset.prepare(
        make_takes(num_clips=num_clips, hearing=hearing, **numbers),
        out_dir,
        size=size,
        hearing=hearing,
        joint_names=speaker.JOINT_NAMES,
        arguments={"procedural": num_clips, **numbers, **hearing.describe()},
        run=run,
    )


def make_takes(
    *,
    num_clips: int,
    num_identities: int,
    first_identity: int,
    clip_sec: float,
    size: int,
    seed: int,
    test_fraction: float,
    hearing: extractor.SpeechFeatureExtractor,
) -> list[ProceduralTake]:
    """The takes of `write_procedural`, whose arguments these are.

    Raises:
      InputError: for numbers that make no data set.
    """
    if not 2 * num_identities <= num_clips <= _MOST_CLIPS:
        raise InputError(
            f"{num_clips} clips of {num_identities} people: give every person at least two clips, "
            f"one to train and one to test, and {_MOST_CLIPS} together at most"
        )
    turns = num_clips // num_identities
    test_turns = min(max(1, round(turns * test_fraction)), turns - 1)
    first_test = (turns - test_turns) * num_identities
    return [
        ProceduralTake(
            identity=first_identity + number % num_identities,
            seed=seed * _MOST_CLIPS + number,
            duration_sec=clip_sec,
            size=size,
            split="train" if number < first_test else "test",
            hearing=hearing,
        )
        for number in range(num_clips)
    ]
