"""Which clips are for testing."""

import collections
import dataclasses
from collections.abc import Sequence

from gesture_jax.media.rates import FPS
from gesture_jax.preparation.parts import Part

# The end of a clip that is for testing holds a window of stage 2, where the clip is long enough.
_TEST_END_FRAMES = 4 * FPS
SPLITS = ("train", "test")


@dataclasses.dataclass(frozen=True)
class Stretch:
    """A clip of the data set: a clip of a part, or one end of it.

    Attributes:
      part: where it is.
      index: which of the part's clips.
      clip_id: its name.
      start: first frame, within the clip.
      stop: the frame after the last.
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
        """Its first frame, numbered through over the part."""
        before = self.part.clips[: self.index]
        return sum(clip["num_frames"] for clip in before) + self.start


def split_clips(
    parts: Sequence[Part],
    *,
    test_fraction: float,
    split_ends: bool = False,
    whole_takes: bool = False,
) -> dict[str, list[Stretch]]:
    """Train and test clips, in the order of speakers and takes.

    Takes say themselves where their clips belong. Of the rest, each speaker's last clips are for
    testing; where a speaker has too few clips for that, each one's end, but four seconds if they
    are not more than half of it. With `split_ends` each clip's end is for testing in any case, and
    is exactly that share of it.

    Args:
      parts: all that was prepared.
      test_fraction: of each speaker's clips, or of a clip's time.
      split_ends: whether every clip is split in time.
      whole_takes: counts takes that have clips instead of clips, so that no take is in both splits;
        one at least is for testing where a speaker has several.
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
        if num_test and not split_ends:
            splits["train"] += own[:-num_test]
            splits["test"] += own[-num_test:]
        else:
            for whole in own:
                train, test = _split_in_time(whole, _end_length(whole, test_fraction, split_ends))
                splits["train"].append(train)
                splits["test"].append(test)
    return splits


def _count_last_takes(own: Sequence[Stretch], test_fraction: float) -> int:
    """How many of a speaker's clips are of their last takes, which are for testing."""
    sizes = list(collections.Counter(id(whole.part) for whole in own).values())
    num_test = min(max(1, round(len(sizes) * test_fraction)), len(sizes) - 1)
    return sum(sizes[len(sizes) - num_test :])


def _end_length(whole: Stretch, test_fraction: float, exact: bool) -> int:
    """How many of a clip's last frames are for testing."""
    wanted = round(whole.stop * test_fraction)
    least = 1 if exact else _TEST_END_FRAMES
    return min(max(wanted, least), whole.stop // 2)


def _split_in_time(whole: Stretch, end_length: int) -> tuple[Stretch, Stretch]:
    border = whole.stop - end_length
    end = f"{whole.clip_id}-end"
    return (
        dataclasses.replace(whole, stop=border),
        dataclasses.replace(whole, clip_id=end, start=border),
    )
