"""Videos as takes: any folder of videos with sound, for `prepare --videos=DIR`.

Who speaks is read off the names: `SPEAKER#ID.mp4`, or `SPEAKER/CLIP.mp4`; else each file is a
speaker of its own. The sound is the `.wav` beside the video, or the video's own; endings may be in
upper case.
"""

import collections
import contextlib
import dataclasses
import functools
import itertools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gesture_jax.data.clips import Clip
from gesture_jax.errors import InputError
from gesture_jax.media import framing
from gesture_jax.media.framing import Crop
from gesture_jax.media.listing import VIDEO_ENDINGS, is_video
from gesture_jax.media.rates import FPS, SAMPLES_PER_FRAME
from gesture_jax.media.sound import read_sound, share_audible
from gesture_jax.media.video import cut_square, iterate_pictures
from gesture_jax.people import pose
from gesture_jax.preparation import dataset, scenes
from gesture_jax.preparation.parts import LeftOut, Note, fingerprint, leave_out_unused
from gesture_jax.speech import extractor
from gesture_jax.storage import files
from gesture_jax.storage.files import as_path, size_of

# A person has to be seen in this share of the pictures that are searched.
_LEAST_SEEN = 0.5
# A clip is silent where less than this share of its frames is louder than -50 dB.
_LEAST_HEARD = 0.1


@dataclasses.dataclass(frozen=True)
class Settings:
    """How videos become clips.

    Attributes:
      size: side of the frames in pixels.
      min_sec: shorter clips are left out.
      max_sec: longer scenes are cut into clips of equal length.
      require_person: leaves out what shows nobody, by the pose model.
      joints: looks for the joints in every frame, by the pose model.
      hearing: what is computed of the sound.
    """

    size: int
    min_sec: float = 3.2
    max_sec: float = 15.0
    require_person: bool = False
    joints: bool = False
    hearing: extractor.SpeechFeatureExtractor = dataclasses.field(
        default_factory=extractor.SpeechFeatureExtractor
    )

    @property
    def joint_names(self) -> tuple[str, ...]:
        return pose.JOINT_NAMES if self.joints else ()


@dataclasses.dataclass(frozen=True)
class VideoTake:
    """A video, or an interval of one; see `parts.Take`.

    Attributes:
      name: for people.
      path: the video.
      audio_path: where its sound is; may be the video.
      clip_id: "speaker#id", of the whole take.
      settings: how it becomes clips.
      crop: which square; None is the square around the person in each scene.
      start_sec: where it begins.
      stop_sec: where it ends; None is the end.
      split: "train" or "test"; None leaves it to the rule.
    """

    name: str
    path: pathlib.Path
    audio_path: pathlib.Path
    clip_id: str
    settings: Settings
    crop: Crop | None
    start_sec: float = 0.0
    stop_sec: float | None = None
    split: str | None = None

    @property
    def speaker(self) -> str:
        return self.clip_id.split("#")[0]

    def follows_from(self) -> Mapping[str, Any]:
        """See `parts.Take`; files count by name and size."""
        settings = _tell(self.settings)
        return {
            "clip_id": self.clip_id,
            "files": [[path.name, size_of(path)] for path in (self.path, self.audio_path)],
            "span_sec": [self.start_sec, self.stop_sec],
            "crop": self.crop and dataclasses.asdict(self.crop),
            "settings": {**settings, "hearing": self.settings.hearing.describe()},
        }

    def perform(self) -> Iterator[Clip | LeftOut | Note]:
        """See `parts.Take`: looks, then decodes again, holding one clip at a time."""
        span = {"start_sec": self.start_sec, "stop_sec": self.stop_sec}
        heard = read_sound(self.audio_path, **span)
        audio = heard.samples
        yield from map(Note, heard.notices)
        searched = self.crop is None or self.settings.require_person
        find_person = pose.find_person if searched else None
        look = scenes.look_at(self.path, **span, find_person=find_person)
        features = self.settings.hearing.extract(audio, num_frames=look.num_frames)
        pictures = iterate_pictures(self.path, **span)
        position = 0
        for piece in self._cut(look):
            sound = _stretch(audio, piece.start, piece.stop)
            reason = self._refuse(piece, sound)
            if reason is not None:
                yield reason
                continue
            collections.deque(itertools.islice(pictures, piece.start - position), maxlen=0)
            position = piece.stop
            frames, joints = self._watch(pictures, piece)
            yield Clip(
                clip_id=piece.clip_id,
                speaker=self.speaker,
                frames=frames,
                audio=sound,
                speech=features[piece.start : piece.stop],
                joints=joints,
                stress_times_sec=np.zeros(0, np.float32),
            )

    def _cut(self, look: scenes.Look) -> list["_Piece"]:
        """Scenes to pieces of equal length, at most `max_sec`."""
        most = round(self.settings.max_sec * FPS)
        spans = []
        for start, stop in look.scenes():
            count = -(-(stop - start) // most)
            ends = [start + round((stop - start) * k / count) for k in range(count + 1)]
            spans += [(span, (start, stop)) for span in itertools.pairwise(ends)]
        numbered = len(spans) > 1
        return [
            _Piece(
                f"{self.clip_id}.{number:03d}" if numbered else self.clip_id,
                *span,
                people=[box for frame, box in look.people.items() if span[0] <= frame < span[1]],
                scene=[box for f, box in look.people.items() if box and scene[0] <= f < scene[1]],
            )
            for number, (span, scene) in enumerate(spans)
        ]

    def _refuse(self, piece: "_Piece", sound: np.ndarray) -> LeftOut | None:
        """Why a piece is no clip, None if it is one."""
        seconds = len(piece) / FPS
        refuse = lambda reason, detail: LeftOut(piece.clip_id, reason, detail, seconds)
        if seconds < self.settings.min_sec:
            least = self.settings.min_sec
            return refuse("too short", f"lasts {seconds:.2f} s, wanted are {least:g} s")
        heard = share_audible(sound)
        if heard < _LEAST_HEARD:
            return refuse("silent", f"{heard:.0%} of it is louder than -50 dB")
        if piece.people and self.settings.require_person:
            seen = np.mean([box is not None for box in piece.people])
            if seen < _LEAST_SEEN:
                return refuse("no person", f"somebody is seen in {seen:.0%} of its pictures")
        if self.crop is None and not piece.scene:
            return refuse("no person", "nobody to frame")
        return None

    def _watch(
        self, pictures: Iterator[np.ndarray], piece: "_Piece"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Frames and joints of a piece, from the running pictures; see `Clip`."""
        crop, size, kept, joints = self.crop, self.settings.size, [], []
        tracker = pose.track_joints() if self.settings.joints else contextlib.nullcontext()
        with tracker as find_joints:
            for picture in itertools.islice(pictures, len(piece)):
                if crop is None:
                    height, width = picture.shape[:2]
                    crop = framing.frame_people(piece.scene, width, height)
                cut = functools.partial(cut_square, self.path, picture, crop)
                kept.append(cut(size=size))
                if find_joints:  # Sees them before they shrink to where hands get lost.
                    joints.append(size * find_joints(cut(size=max(size, pose.LEAST_PX))))
        if len(kept) < len(piece):
            seconds = (piece.start + len(kept)) / FPS
            raise InputError(f"{self.path}: damaged; its picture ends after {seconds:.1f} s")
        none = np.zeros((len(kept), 0, 2), np.float32)
        return np.stack(kept), np.stack(joints) if joints else none


@dataclasses.dataclass(frozen=True)
class _Piece:
    """Frames `start` to `stop` of a take, and where people are in it and in its scene."""

    clip_id: str
    start: int
    stop: int
    people: list
    scene: list

    def __len__(self) -> int:
        return self.stop - self.start


def find_takes(
    videos_dir: str | os.PathLike, *, settings: Settings, crop: Crop | None
) -> tuple[list[VideoTake], list[LeftOut]]:
    """All videos below a folder, in the order of their names; and what is not used.

    Args:
      videos_dir: the folder.
      settings: how they become clips.
      crop: which square; None is the square around the person.

    Raises:
      InputError: where there is no such folder, no video, or two of one name.
    """
    folder = as_path(videos_dir)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one with videos in it")
    takes, left_out, by_id = [], [], {}
    paths = files.find_files(folder)
    sounds = {path.with_suffix(""): path for path in paths if path.suffix.lower() == ".wav"}
    for path in filter(is_video, paths):
        name, audio_path = str(path.relative_to(folder)), sounds.get(path.with_suffix(""), path)
        if not all(files.is_inside(p, folder) for p in (path, audio_path)):
            left_out.append(LeftOut(name, "leaves the folder", "a link to somewhere else"))
            continue
        if not path.is_file():
            left_out.append(LeftOut(name, "cannot be read", "a link to nowhere"))
            continue
        clip_id = _clip_id(path, folder)
        twin = by_id.setdefault(clip_id, path)
        if twin != path:
            raise InputError(f"{path}: has the same speaker and id as {twin}; rename one of them")
        takes.append(VideoTake(name, path, audio_path, clip_id, settings, crop))
    used = [path for take in takes for path in (take.path, take.audio_path)]
    others = [path for path in paths if not is_video(path)]
    left_out += leave_out_unused(others, used, folder)
    if not takes:
        endings = " ".join(VIDEO_ENDINGS)
        raise InputError(f"{folder}: no videos here; files wanted that end in one of {endings}")
    return takes, left_out


def write_videos(
    videos_dir: str | os.PathLike,
    out_dir: str | os.PathLike,
    *,
    settings: Settings,
    crop: Crop | None = Crop(),  # noqa: B008
    test_fraction: float = 0.1,
    split_ends: bool = False,
    run: dataset.Runner | None = None,
) -> dataset.Report | None:
    """Makes a data set of all videos below a folder.

    Args:
      videos_dir: the folder.
      out_dir: the data set's folder.
      settings: how videos become clips.
      crop: which square; None is the square around the person.
      test_fraction: of each speaker's clips; see `splits.split_clips`.
      split_ends: of each clip's end instead.
      run: does the takes; by default `parts.make_parts`.

    Returns:
      What was made; None where the same data set is there already.

    Raises:
      InputError: where no video can be used, or `out_dir` holds something else.
    """
    takes, left_out = find_takes(videos_dir, settings=settings, crop=crop)
    how = {"test_fraction": test_fraction, "split_ends": split_ends}
    return dataset.prepare(
        takes,
        out_dir,
        size=settings.size,
        hearing=settings.hearing,
        joint_names=settings.joint_names,
        arguments=describe(takes, settings=settings, **how),
        **how,
        left_out=left_out,
        run=run,
    )


def describe(
    takes: Sequence[VideoTake], *, settings: Settings, test_fraction: float, split_ends: bool
) -> dict[str, Any]:
    """What a data set of videos follows from, JSON-ready, short enough to be told in an error."""
    return {
        "takes": f"{len(takes)}, fingerprint {fingerprint([t.follows_from() for t in takes])}",
        **_tell(settings),
        **settings.hearing.describe(),
        "test_fraction": test_fraction,
        **({"split_ends": True} if split_ends else {}),  # Not in older data sets.
    }


def _tell(settings: Settings) -> dict[str, Any]:
    """JSON-ready but for the hearing; without joints as before there were any."""
    facts = dataclasses.asdict(dataclasses.replace(settings, hearing=None))
    return facts if settings.joints else {k: v for k, v in facts.items() if k != "joints"}


def _clip_id(path: pathlib.Path, folder: pathlib.Path) -> str:
    if "#" in path.stem:
        return path.stem
    speaker = path.stem if path.parent == folder else path.parent.name.replace("#", "-")
    return f"{speaker}#{path.stem}"


def _stretch(audio: np.ndarray, start: int, stop: int) -> np.ndarray:
    """The sound of frames start to stop, silence where it has ended."""
    inside = audio[start * SAMPLES_PER_FRAME : stop * SAMPLES_PER_FRAME]
    return np.pad(inside, (0, (stop - start) * SAMPLES_PER_FRAME - len(inside)))
