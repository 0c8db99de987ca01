"""The procedural speaker as takes, for `prepare --procedural=N` and the presets."""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

from gesture_jax.data.clips import Clip
from gesture_jax.errors import InputError
from gesture_jax.preparation import dataset
from gesture_jax.procedural import speaker, visemes
from gesture_jax.speech import extractor

# Two seeds of data sets differ by this many seeds of clips, so that they share none.
_MAX_CLIPS = 100_000


@dataclasses.dataclass(frozen=True)
class ProceduralTake:
    """One clip of a drawn person; see `parts.Take`.

    Attributes:
      identity: number of the person.
      seed: seed of the speech and the gestures.
      duration_sec: length.
      size: side of the frames in pixels.
      split: "train" or "test".
      voices: see `voice.speak`.
      feature_extractor: computes the speech features.
    """

    identity: int
    seed: int
    duration_sec: float
    size: int
    split: str
    voices: str
    feature_extractor: extractor.SpeechFeatureExtractor

    @property
    def name(self) -> str:
        return f"procedural{self.identity}#{self.seed}"

    def cache_key(self) -> Mapping[str, Any]:
        """See `parts.Take`."""
        return {
            "identity": self.identity,
            "seed": self.seed,
            "duration_sec": self.duration_sec,
            "size": self.size,
            "split": self.split,
            "voices": self.voices,
            "hearing": self.feature_extractor.describe(),
        }

    def perform(self) -> Iterator[Clip]:
        """See `parts.Take`."""
        done = speaker.perform(
            identity=self.identity,
            seed=self.seed,
            duration_sec=self.duration_sec,
            size=self.size,
            voices=self.voices,
        )
        yield Clip(
            clip_id=self.name,
            speaker=f"procedural{self.identity}",
            frames=done.frames,
            audio=done.audio,
            speech=self.feature_extractor.extract(
                done.audio, num_frames=len(done.frames), other=done.other
            ),
            joints=done.joints,
            stress_times_sec=done.stress_times_sec,
            **visemes.tabulate(done.phones),
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
    voices: str = "formants",
    feature_extractor: extractor.SpeechFeatureExtractor = extractor.SpeechFeatureExtractor(),  # noqa: B008
    run: dataset.Runner | None = None,
) -> dataset.Report | None:
    """Writes clips of drawn people in turn; each person's last clips are the test split.

    Args:
      out_dir: folder of the data set.
      num_clips: number of clips of all people together, at least two for each.
      num_identities: number of people.
      first_identity: number of the first person; each number is another person.
      clip_sec: length of a clip.
      size: side of the frames in pixels.
      seed: seed of the speech and the gestures; people are the same for every seed.
      test_fraction: fraction of each person's clips; at least one clip, at most all but one.
      voices: see `voice.speak`.
      feature_extractor: computes the speech features.
      run: makes the missing parts; by default `parts.make_parts`.

    Returns:
      The report; None where the same data set exists already.

    Raises:
      InputError: for too few or too many clips, or where `out_dir` holds something else.
    """
    numbers = {
        "num_identities": num_identities,
        "first_identity": first_identity,
        "clip_sec": clip_sec,
        "size": size,
        "seed": seed,
        "test_fraction": test_fraction,
        "voices": voices,
    }
    return dataset.prepare(
        make_takes(num_clips=num_clips, feature_extractor=feature_extractor, **numbers),
        out_dir,
        size=size,
        feature_extractor=feature_extractor,
        joint_names=speaker.JOINT_NAMES,
        arguments={"procedural": num_clips, **numbers, **feature_extractor.describe()},
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
    voices: str,
    feature_extractor: extractor.SpeechFeatureExtractor,
) -> list[ProceduralTake]:
    """Returns the takes of `write_procedural`, which has the same arguments.

    Raises:
      InputError: for too few or too many clips.
    """
    if not 2 * num_identities <= num_clips <= _MAX_CLIPS:
        raise InputError(
            f"{num_clips} clips of {num_identities} people: give every person at least two clips, "
            f"one to train and one to test, and {_MAX_CLIPS} together at most"
        )
    turns = num_clips // num_identities
    test_turns = min(max(1, round(turns * test_fraction)), turns - 1)
    first_test = (turns - test_turns) * num_identities
    return [
        ProceduralTake(
            identity=first_identity + number % num_identities,
            seed=seed * _MAX_CLIPS + number,
            duration_sec=clip_sec,
            size=size,
            split="train" if number < first_test else "test",
            voices=voices,
            feature_extractor=feature_extractor,
        )
        for number in range(num_clips)
    ]
