"""Splits clips into a training and a test split."""

import collections
import dataclasses
from collections.abc import Sequence

from gesture_jax.media.rates import FPS
from gesture_jax.preparation.parts import Part

# A test clip cut from the end of a clip is long enough for a window of stage 2, if possible.
_TEST_END_FRAMES = 4 * FPS
SPLITS = ("train", "test")


@dataclasses.dataclass(frozen=True)
class Stretch:
    """A clip of the data set, which is a clip of a part, or one end of it.

    Attributes:
      part: the part that holds it.
      index: index of the clip in the part.
      clip_id: its name.
      start: its first frame within that clip.
      stop: the frame after its last.
    """

    part: Part
    index: int
    clip_id: str
    start: int
    stop: int

    @property
    def speaker(self) -> str:
        return self.part.clips[self.index]["speaker"]

    @property
    def is_whole(self) -> bool:
        return self.stop - self.start == self.part.clips[self.index]["num_frames"]

    @property
    def first_frame(self) -> int:
        """Index of its first frame among all frames of the part."""
        before = self.part.clips[: self.index]
        return sum(clip["num_frames"] for clip in before) + self.start


def split_clips(
    parts: Sequence[Part],
    *,
    test_fraction: float,
    split_within_clips: bool = False,
    whole_takes: bool = False,
) -> dict[str, list[Stretch]]:
    """Returns the training and test clips, in the order of speakers and takes.

    The clips of a take with a split of its own go there. Of the other clips, each speaker's last
    ones are for testing. Where a speaker has too few clips for that, the end of each clip is: four
    seconds, or half of the clip if it is shorter than eight. With `split_within_clips` the end of
    each clip is for testing in any case, with exactly the given fraction of its length.

    Args:
      parts: all parts of the data set.
      test_fraction: fraction of each speaker's clips, or of a clip's length.
      split_within_clips: whether to split every clip in time.
      whole_takes: count takes instead of clips, so that no take is in both splits; where a speaker
        has several takes, at least one is for testing.
    """
    splits: dict[str, list[Stretch]] = {split: [] for split in SPLITS}
    undecided: dict[str, list[Stretch]] = collections.defaultdict(list)
    for part in parts:
        for index, clip in enumerate(part.clips):
            whole = Stretch(part, index, clip["clip_id"], 0, clip["num_frames"])
            (splits[part.split] if part.split else undecided[whole.speaker]).append(whole)
    for speaker in sorted(undecided):
        own = undecided[speaker]
        num_test = round(len(own) * test_fraction)
        if whole_takes:
            num_test = _count_last_takes(own, test_fraction)
        if num_test and not split_within_clips:
            splits["train"] += own[:-num_test]
            splits["test"] += own[-num_test:]
        else:
            for whole in own:
                train, test = _split_in_time(
                    whole, _end_length(whole, test_fraction, split_within_clips)
                )
                splits["train"].append(train)
                splits["test"].append(test)
    return splits


def _count_last_takes(own: Sequence[Stretch], test_fraction: float) -> int:
    """Returns how many of a speaker's clips are from the last takes, which are for testing."""
    sizes = list(collections.Counter(id(whole.part) for whole in own).values())
    num_test = min(max(1, round(len(sizes) * test_fraction)), len(sizes) - 1)
    return sum(sizes[len(sizes) - num_test :])


def _end_length(whole: Stretch, test_fraction: float, exact: bool) -> int:
    """Returns how many of a clip's last frames are for testing."""
    wanted = round(whole.stop * test_fraction)
    shortest = 1 if exact else _TEST_END_FRAMES
    return min(max(wanted, shortest), whole.stop // 2)


def _split_in_time(whole: Stretch, end_length: int) -> tuple[Stretch, Stretch]:
    border = whole.stop - end_length
    end = f"{whole.clip_id}-end"
    return (
        dataclasses.replace(whole, stop=border),
        dataclasses.replace(whole, clip_id=end, start=border),
    )
