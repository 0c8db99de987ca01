"""Photo people as takes, for `prepare --portraits=DIR`."""

import dataclasses
import functools
import os
import pathlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from gesture_jax.data.clips import Clip
from gesture_jax.errors import InputError
from gesture_jax.media.rates import FPS
from gesture_jax.preparation import dataset, parts
from gesture_jax.preparation.parts import fingerprint
from gesture_jax.preparation.photo_people import rig_library, scenes
from gesture_jax.procedural import speaker, visemes
from gesture_jax.procedural.identity import make_identity
from gesture_jax.procedural.motion import gesture
from gesture_jax.procedural.voice import speak
from gesture_jax.puppets import retarget
from gesture_jax.puppets.poses import PuppetPose
from gesture_jax.puppets.puppet import Puppet, draw_backdrop
from gesture_jax.puppets.rig import Rig, load_rig
from gesture_jax.speech import extractor
from gesture_jax.storage import files

# Two seeds of data sets differ by this many seeds of clips, so that they share none.
_MAX_CLIPS = 100_000
_SCENE_SEED = 2713


@dataclasses.dataclass(frozen=True)
class PhotoTake:
    """One clip of a photo person; see `parts.Take`.

    Attributes:
      portrait: name of the portrait.
      rig: file of its rig.
      backgrounds: files of other rigs, whose backgrounds may be used.
      seed: seed of the speech, the gestures and the appearance.
      duration_sec: length.
      size: side of the frames in pixels.
      split: "train" or "test".
      framing: see `write_photo_people`.
      voices: see `voice.speak`.
      feature_extractor: computes the speech features.
    """

    portrait: str
    rig: pathlib.Path
    backgrounds: tuple[pathlib.Path, ...]
    seed: int
    duration_sec: float
    size: int
    split: str
    framing: str
    voices: str
    feature_extractor: extractor.SpeechFeatureExtractor

    @property
    def name(self) -> str:
        return f"{self.portrait}#{self.seed}"

    def cache_key(self) -> Mapping[str, Any]:
        """See `parts.Take`; rigs are identified by their content."""
        return {
            "portrait": self.portrait,
            "rig": files.hash_file(self.rig),
            "backgrounds": _hash_all(self.backgrounds),
            "seed": self.seed,
            "duration_sec": self.duration_sec,
            "size": self.size,
            "split": self.split,
            "framing": self.framing,
            "voices": self.voices,
            "hearing": self.feature_extractor.describe(),
        }

    def perform(self) -> Iterator[Clip]:
        """See `parts.Take`."""
        cv2.setNumThreads(1)  # Takes are processed in parallel already.
        puppet = _load_puppet(self.rig, files.hash_file(self.rig))
        scene = self._draw_scene(puppet)
        person = make_identity(zlib.crc32(self.portrait.encode()))
        num_frames = max(1, round(self.duration_sec * FPS))
        spoken = speak(person.voice, seed=self.seed, num_frames=num_frames, voices=self.voices)
        poses = gesture(person, spoken, seed=self.seed)
        tracks = [
            retarget.plan_arm(arm, side, person, poses, scene.amplitude)
            for side, arm in enumerate(puppet.rig.arms)
        ]
        backdrop = draw_backdrop(scene.appearance, self.size)
        frames, joints = [], []
        for number, pose in enumerate(poses):
            posed = PuppetPose.of_speaker(pose, np.array([track[number] for track in tracks]))
            frames.append(puppet.draw(scene.appearance, posed, size=self.size, backdrop=backdrop))
            joints.append(puppet.joints(scene.appearance.view, posed, size=self.size))
        yield Clip(
            clip_id=self.name,
            speaker=self.portrait,
            frames=np.stack(frames),
            audio=spoken.audio,
            speech=self.feature_extractor.extract(
                spoken.audio, num_frames=num_frames, other=spoken.other
            ),
            joints=np.stack(joints),
            stress_times_sec=spoken.stress_times_sec,
            **visemes.tabulate(spoken.phones),
        )

    def _draw_scene(self, puppet: Puppet) -> scenes.Scene:
        if self.framing == "auto":
            return scenes.framed_scene(puppet)
        if self.framing == "own":
            return scenes.own_scene(np.random.default_rng([_SCENE_SEED, self.seed]), puppet)
        others = [functools.partial(_load_background, path) for path in self.backgrounds]
        return scenes.draw_scene(np.random.default_rng([_SCENE_SEED, self.seed]), puppet, others)


def write_photo_people(
    portraits: str | os.PathLike,
    out_dir: str | os.PathLike,
    *,
    rigs_dir: str | os.PathLike | None = None,
    clips_each: int = 4,
    test_portraits: Sequence[str] = (),
    clip_sec: float,
    size: int,
    seed: int,
    test_fraction: float = 0.1,
    framing: str = "random",
    voices: str = "formants",
    feature_extractor: extractor.SpeechFeatureExtractor = extractor.SpeechFeatureExtractor(),  # noqa: B008
    more_takes: Sequence[parts.Take] = (),
    more_arguments: Mapping[str, Any] | None = None,
    num_workers: int | None = None,
    run: dataset.Runner | None = None,
) -> dataset.Report | None:
    """Writes clips of photographed people who gesture on the stresses of made-up speech.

    Args:
      portraits: a folder of pictures, or of rigs.
      out_dir: folder of the data set.
      rigs_dir: folder that keeps the rigs; by default beside the data set.
      clips_each: number of clips of each portrait.
      test_portraits: names of the portraits that form the test split; if there are none, the last
        clips of each portrait do.
      clip_sec: length of a clip.
      size: side of the frames in pixels.
      seed: seed of the speech, the gestures and the appearance.
      test_fraction: fraction of each portrait's clips; at least one clip, at most all but one.
      framing: "random" draws the framing, colours and background of each clip, for stage 1; "auto"
        frames all portraits as `--crop=auto` does, and leaves their colours, for stage 2; "own"
        shows each portrait nearly as it is, for an avatar.
      voices: see `voice.speak`.
      feature_extractor: computes the speech features.
      more_takes: takes of the procedural speaker for the same data set.
      more_arguments: everything that determines `more_takes`.
      num_workers: worker processes that build rigs; see `rig_library.find_rigs`.
      run: makes the missing parts; by default `parts.make_parts`.

    Returns:
      The report; None where the same data set exists already.

    Raises:
      InputError: where there are no portraits or too few clips, a test portrait is missing, or
        `out_dir` holds something else.
    """
    out_dir = files.absolute(out_dir)
    rigs_dir = rigs_dir or out_dir.with_name(out_dir.name + ".rigs")
    rigs, left_out = rig_library.find_rigs(portraits, rigs_dir, num_workers=num_workers)
    clips_of = _split_clips(rigs, clips_each, test_portraits, test_fraction)
    takes = _make_takes(
        rigs,
        clips_of,
        first_seed=seed * _MAX_CLIPS,
        duration_sec=clip_sec,
        size=size,
        framing=framing,
        voices=voices,
        feature_extractor=feature_extractor,
    )
    return dataset.prepare(
        [*takes, *more_takes],
        out_dir,
        size=size,
        feature_extractor=feature_extractor,
        joint_names=speaker.JOINT_NAMES,
        arguments={
            "portraits": {name: files.hash_file(path) for name, path in rigs.items()},
            "clips": clips_each,
            "test_portraits": sorted(test_portraits),
            "clip_sec": clip_sec,
            "size": size,
            "seed": seed,
            "test_fraction": test_fraction,
            "framing": framing,
            "voices": voices,
            **feature_extractor.describe(),
            **({"also": dict(more_arguments)} if more_arguments else {}),
        },
        left_out=left_out,
        run=run,
    )


def _make_takes(
    rigs: Mapping[str, pathlib.Path],
    clips_of: Mapping[str, Sequence[str]],
    *,
    first_seed: int,
    **options: Any,
) -> list[PhotoTake]:
    """Returns a take for each clip; backgrounds are those of portraits in the same split."""
    pools = {
        split: tuple(path for name, path in rigs.items() if split in clips_of[name])
        for split in ("train", "test")
    }
    clips = [(name, split) for name in rigs for split in clips_of[name]]
    return [
        PhotoTake(
            portrait=name,
            rig=rigs[name],
            backgrounds=tuple(other for other in pools[split] if other != rigs[name]),
            seed=first_seed + number,
            split=split,
            **options,
        )
        for number, (name, split) in enumerate(clips)
    ]


def read_names(given: Sequence[str]) -> list[str]:
    """Returns the names of portraits in a flag: a list of names, or a file with a name per line.

    Raises:
      InputError: where the file is not text.
    """
    if len(given) != 1 or not files.is_file(given[0]):
        return list(given)
    try:
        text = files.read_text(given[0])
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{given[0]}: not a list of portraits, one name a line") from error
    return [line.strip() for line in text.split("\n") if line.strip()]


def _split_clips(
    rigs: Mapping[str, pathlib.Path],
    clips_each: int,
    test_portraits: Sequence[str],
    test_fraction: float,
) -> dict[str, list[str]]:
    """Returns the split of each clip of each portrait."""
    if not 1 <= clips_each * len(rigs) <= _MAX_CLIPS:
        raise InputError(
            f"{clips_each} clips of each of {len(rigs)} portraits; choose 1 to {_MAX_CLIPS} in all"
        )
    missing = sorted(set(test_portraits) - set(rigs))
    if missing:
        raise InputError(
            f"no portrait {missing[0]} to test on; there are {', '.join(sorted(rigs))}"
        )
    if test_portraits:
        if len(set(test_portraits)) == len(rigs):
            raise InputError("all portraits are for the test; leave some to train on")
        return {name: ["test" if name in test_portraits else "train"] * clips_each for name in rigs}
    if clips_each < 2:
        raise InputError(
            "give every portrait at least two clips, one to train and one to test, or name "
            "--test_portraits"
        )
    num_test = min(max(1, round(clips_each * test_fraction)), clips_each - 1)
    return {name: ["train"] * (clips_each - num_test) + ["test"] * num_test for name in rigs}


@functools.lru_cache(maxsize=4)
def _load_puppet(path: pathlib.Path, sha256: str) -> Puppet:
    """Loads a rig; `sha256` of the file makes the cache load a rig again that was built again."""
    del sha256
    return Puppet(load_rig(path))


def _load_background(path: pathlib.Path) -> np.ndarray:
    return _read_background(path, files.hash_file(path))


@functools.lru_cache(maxsize=16)
def _read_background(path: pathlib.Path, sha256: str) -> np.ndarray:
    del sha256
    rig: Rig = load_rig(path)
    return rig.background


def _hash_all(paths: tuple[pathlib.Path, ...]) -> str:
    return fingerprint([files.hash_file(path) for path in paths])
