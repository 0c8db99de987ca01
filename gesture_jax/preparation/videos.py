"""Videos as takes: any folder of videos with sound, for `prepare --videos=DIR`.

The speaker is part of the path, `SPEAKER#ID.mp4` or `SPEAKER/CLIP.mp4`; otherwise each file is a
speaker of its own. The sound is the `.wav` beside the video, or the video's own. File endings may
be in upper case.
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
from gesture_jax.media.rates import FPS, SAMPLES_PER_FRAME
from gesture_jax.media.sound import read_sound, share_audible
from gesture_jax.media.video import cut_square, iterate_pictures
from gesture_jax.media.video_folder import VIDEO_ENDINGS, is_video
from gesture_jax.people import pose
from gesture_jax.preparation import dataset, scenes
from gesture_jax.preparation.parts import LeftOut, Note, fingerprint, leave_out_unused
from gesture_jax.speech import extractor
from gesture_jax.storage import files
from gesture_jax.storage.files import as_path, size_of

# A person must be found in at least this fraction of the pictures that are searched.
_MIN_FOUND = 0.5
# A clip is silent if a smaller fraction of its frames is louder than -50 dB.
_MIN_AUDIBLE = 0.1


@dataclasses.dataclass(frozen=True)
class Settings:
    """How videos become clips.

    Attributes:
      size: side of the frames in pixels.
      min_sec: shorter clips are left out.
      max_sec: longer scenes are cut into clips of equal length.
      require_person: whether clips are left out in which the pose model finds nobody.
      joints: whether the pose model finds the joints in every frame.
      feature_extractor: computes the speech features.
    """

    size: int
    min_sec: float = 3.2
    max_sec: float = 15.0
    require_person: bool = False
    joints: bool = False
    feature_extractor: extractor.SpeechFeatureExtractor = dataclasses.field(
        default_factory=extractor.SpeechFeatureExtractor
    )

    @property
    def joint_names(self) -> tuple[str, ...]:
        return pose.JOINT_NAMES if self.joints else ()


@dataclasses.dataclass(frozen=True)
class VideoTake:
    """A video, or an interval of one; see `parts.Take`.

    Attributes:
      name: shown to people.
      path: the video.
      audio_path: the file with its sound, which may be the video.
      clip_id: "speaker#id" of the whole take.
      settings: how it becomes clips.
      crop: the square to keep; None: the square around the person in each scene.
      start_sec: its start in the video.
      stop_sec: its end in the video; None: the video's end.
      split: "train" or "test"; None: as `splits.split_clips` decides.
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

    def cache_key(self) -> Mapping[str, Any]:
        """See `parts.Take`; files are identified by name and size."""
        settings = _describe_settings(self.settings)
        return {
            "clip_id": self.clip_id,
            "files": [[path.name, size_of(path)] for path in (self.path, self.audio_path)],
            "span_sec": [self.start_sec, self.stop_sec],
            "crop": self.crop and dataclasses.asdict(self.crop),
            "settings": {**settings, "hearing": self.settings.feature_extractor.describe()},
        }

    def perform(self) -> Iterator[Clip | LeftOut | Note]:
        """See `parts.Take`: scans the video, then decodes it again, one clip at a time."""
        span = {"start_sec": self.start_sec, "stop_sec": self.stop_sec}
        recording = read_sound(self.audio_path, **span)
        audio = recording.samples
        yield from map(Note, recording.notices)
        searched = self.crop is None or self.settings.require_person
        find_person = pose.find_person if searched else None
        scan = scenes.scan_video(self.path, **span, find_person=find_person)
        features = self.settings.feature_extractor.extract(audio, num_frames=scan.num_frames)
        pictures = iterate_pictures(self.path, **span)
        position = 0
        for piece in self._cut(scan):
            sound = _stretch(audio, piece.start, piece.stop)
            reason = self._refuse(piece, sound)
            if reason is not None:
                yield reason
                continue
            collections.deque(itertools.islice(pictures, piece.start - position), maxlen=0)
            position = piece.stop
            frames, joints = self._read_frames(pictures, piece)
            yield Clip(
                clip_id=piece.clip_id,
                speaker=self.speaker,
                frames=frames,
                audio=sound,
                speech=features[piece.start : piece.stop],
                joints=joints,
                stress_times_sec=np.zeros(0, np.float32),
            )

    def _cut(self, scan: scenes.VideoScan) -> list["_Piece"]:
        """Cuts each scene into pieces of equal length, at most `max_sec`."""
        max_frames = round(self.settings.max_sec * FPS)
        spans = []
        for start, stop in scan.scenes():
            count = -(-(stop - start) // max_frames)
            ends = [start + round((stop - start) * k / count) for k in range(count + 1)]
            spans += [(span, (start, stop)) for span in itertools.pairwise(ends)]
        numbered = len(spans) > 1
        return [
            _Piece(
                f"{self.clip_id}.{number:03d}" if numbered else self.clip_id,
                *span,
                people=[box for frame, box in scan.people.items() if span[0] <= frame < span[1]],
                scene=[box for f, box in scan.people.items() if box and scene[0] <= f < scene[1]],
            )
            for number, (span, scene) in enumerate(spans)
        ]

    def _refuse(self, piece: "_Piece", sound: np.ndarray) -> LeftOut | None:
        """Returns why a piece is left out, None if it is used."""
        seconds = len(piece) / FPS
        refuse = lambda reason, detail: LeftOut(piece.clip_id, reason, detail, seconds)
        if seconds < self.settings.min_sec:
            needed = f"at least {self.settings.min_sec:g} s are needed"
            return refuse("too short", f"lasts {seconds:.2f} s, {needed}")
        audible = share_audible(sound)
        if audible < _MIN_AUDIBLE:
            return refuse("silent", f"{audible:.0%} of its frames are louder than -50 dB")
        if piece.people and self.settings.require_person:
            found = np.mean([box is not None for box in piece.people])
            if found < _MIN_FOUND:
                return refuse("no person", f"a person is found in {found:.0%} of its pictures")
        if self.crop is None and not piece.scene:
            return refuse("no person", "nobody is found to crop to")
        return None

    def _read_frames(
        self, pictures: Iterator[np.ndarray], piece: "_Piece"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reads frames and joints of a piece from the iterator of pictures; see `Clip`."""
        crop, size, kept, joints = self.crop, self.settings.size, [], []
        tracker = pose.track_joints() if self.settings.joints else contextlib.nullcontext()
        with tracker as find_joints:
            for picture in itertools.islice(pictures, len(piece)):
                if crop is None:
                    height, width = picture.shape[:2]
                    crop = framing.frame_people(piece.scene, width, height)
                cut = functools.partial(cut_square, self.path, picture, crop)
                kept.append(cut(size=size))
                if find_joints:  # In larger pictures, as hands get lost in small ones.
                    joints.append(size * find_joints(cut(size=max(size, pose.MIN_PX))))
        if len(kept) < len(piece):
            seconds = (piece.start + len(kept)) / FPS
            raise InputError(f"{self.path}: damaged; its picture ends after {seconds:.1f} s")
        none = np.zeros((len(kept), 0, 2), np.float32)
        return np.stack(kept), np.stack(joints) if joints else none


@dataclasses.dataclass(frozen=True)
class _Piece:
    """Frames `start` to `stop` of a take, with boxes of people in it and in its scene."""

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
    """Finds all videos below a folder, in the order of their names, and files that are not used.

    Args:
      videos_dir: the folder; or one video.
      settings: how videos become clips.
      crop: the square to keep; None: the square around the person.

    Raises:
      InputError: where there is no such folder, no video, or two videos of one name.
    """
    folder = as_path(videos_dir)
    if folder.is_file() and is_video(folder):
        clip_id = _clip_id(folder, folder.parent)
        sounds = filter(files.is_file, map(folder.with_suffix, (".wav", ".WAV")))
        return [VideoTake(folder.name, folder, next(sounds, folder), clip_id, settings, crop)], []
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
        raise InputError(
            f"{folder}: no videos here; give a folder with files that end in one of {endings}"
        )
    return takes, left_out


def write_videos(
    videos_dir: str | os.PathLike,
    out_dir: str | os.PathLike,
    *,
    settings: Settings,
    crop: Crop | None = Crop(),  # noqa: B008
    test_fraction: float = 0.1,
    split_within_clips: bool = False,
    run: dataset.Runner | None = None,
) -> dataset.Report | None:
    """Makes a data set from all videos below a folder.

    Args:
      videos_dir: the folder; or one video.
      out_dir: folder of the data set.
      settings: how videos become clips.
      crop: the square to keep; None: the square around the person.
      test_fraction: fraction of each speaker's clips; see `splits.split_clips`.
      split_within_clips: see `splits.split_clips`.
      run: makes the missing parts; by default `parts.make_parts`.

    Returns:
      The report; None where the same data set exists already.

    Raises:
      InputError: where no video can be used, or `out_dir` holds something else.
    """
    takes, left_out = find_takes(videos_dir, settings=settings, crop=crop)
    how = {"test_fraction": test_fraction, "split_within_clips": split_within_clips}
    return dataset.prepare(
        takes,
        out_dir,
        size=settings.size,
        feature_extractor=settings.feature_extractor,
        joint_names=settings.joint_names,
        arguments=describe(takes, settings=settings, **how),
        **how,
        left_out=left_out,
        run=run,
    )


def describe(
    takes: Sequence[VideoTake],
    *,
    settings: Settings,
    test_fraction: float,
    split_within_clips: bool,
) -> dict[str, Any]:
    """Describes what determines a data set of videos, JSON-ready, short enough for an error."""
    return {
        "takes": f"{len(takes)}, fingerprint {fingerprint([t.cache_key() for t in takes])}",
        **_describe_settings(settings),
        **settings.feature_extractor.describe(),
        "test_fraction": test_fraction,
        # The key of older versions, which have it only where it is on.
        **({"split_ends": True} if split_within_clips else {}),
    }


def _describe_settings(settings: Settings) -> dict[str, Any]:
    """Returns the settings with the keys of older versions, as data sets are compared by them."""
    return {
        "size": settings.size,
        "min_sec": settings.min_sec,
        "max_sec": settings.max_sec,
        "require_person": settings.require_person,
        **({"joints": True} if settings.joints else {}),
        "hearing": None,
    }


def _clip_id(path: pathlib.Path, folder: pathlib.Path) -> str:
    if "#" in path.stem:
        return path.stem
    speaker = path.stem if path.parent == folder else path.parent.name.replace("#", "-")
    return f"{speaker}#{path.stem}"


def _stretch(audio: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Returns the sound of frames start to stop, with silence after its end."""
    inside = audio[start * SAMPLES_PER_FRAME : stop * SAMPLES_PER_FRAME]
    return np.pad(inside, (0, (stop - start) * SAMPLES_PER_FRAME - len(inside)))
