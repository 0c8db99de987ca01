"""One portrait and speech in, a video out: a trained stage 2 and stage 1 at work.

Everything that makes videos from speech takes the same way: features of the speech, windows of
motion (`windows.py`), scales of the motion (`control.py`), frames (`portraits.py`). Whole speech is
taken in long hops; a stream in short ones, which wait for little of the speech to come. With the
same schedule both give the same frames.
"""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import soxr
from ml_collections import ConfigDict

from gesture_jax.checkpoint import config_check
from gesture_jax.errors import InputError
from gesture_jax.inference.animator import Animator, Source
from gesture_jax.inference.gestures import Gestures, follow_gestures
from gesture_jax.inference.loading import load_feature_extractor, load_stage2
from gesture_jax.inference.motion_scales import Control
from gesture_jax.inference.portraits import Portrait, Style
from gesture_jax.inference.prefetch import Prefetch
from gesture_jax.inference.rendering import Clip, Rendering
from gesture_jax.inference.stream import GestureStream
from gesture_jax.inference.windows import MotionWriter, WindowSampler, WindowSchedule
from gesture_jax.media import mixing
from gesture_jax.media.rates import FPS, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from gesture_jax.media.sound import SILENT, is_silent
from gesture_jax.models import motion_model
from gesture_jax.models.denoiser import Sampling
from gesture_jax.parallel import sharding
from gesture_jax.speech.activity import SpeechGate, choose_kind
from gesture_jax.speech.detection import UNLIKE_SPEECH, is_unlike_speech
from gesture_jax.speech.extractor import SpeechFeatureExtractor, uses_wavlm

_BLURRED_LIPS = (
    "the lips are drawn by the network, which blurs them: no face was found, or no face model is "
    "installed (extra [pose])"
)
# Pieces of speech features that may be computed ahead of their use; one is 0.4 s of speech.
_PREFETCHED = 16


@dataclasses.dataclass(frozen=True)
class Options:
    """How motion is generated; made by `GestureGenerator.options`, and given to each call.

    Attributes:
      sampling: how noise is removed.
      schedule: how windows follow each other where the whole speech is known.
      stream_schedule: the same for a stream.
      control: how far the portrait moves.
      voice_activity: how sound is told from speech before features are extracted, one of
        `activity.KINDS`.
    """

    sampling: Sampling
    schedule: WindowSchedule
    stream_schedule: WindowSchedule
    control: Control
    voice_activity: str


class GestureGenerator:
    """Makes a portrait talk with its hands.

    It does not change once it is made, so that threads can share it.

    Attributes:
      animator: the trained stage 1.
      feature_extractor: computes the speech features that stage 2 was trained on.
      defaults: the options of calls without options, from the config of stage 2.
    """

    def __init__(
        self,
        animator: Animator,
        config: ConfigDict,
        variables: dict[str, Any],
        feature_extractor: SpeechFeatureExtractor,
    ):
        """Most users want `load`."""
        self.animator, self.feature_extractor = animator, feature_extractor
        self._config = config
        self._variables = sharding.put_whole(variables, animator.mesh)
        self._space, self._model = motion_model.build(config)
        self._process = motion_model.make_process(config)
        self.defaults = self.options()

    @classmethod
    def load(
        cls,
        *,
        stage1: str | os.PathLike | Animator,
        stage2: str | os.PathLike,
        wavlm: str | None = None,
    ) -> "GestureGenerator":
        """Loads both stages from their workdirs, or from files that `gesture_jax.pack` made.

        Args:
          stage1: the trained stage 1; or an `Animator` that is loaded already.
          stage2: the stage 2 that was trained on the motion features of this stage 1.
          wavlm: the file of WavLM's weights, where stage 2 was trained on its features.

        Raises:
          InputError: where one is missing, is of the other stage, or they do not fit together.
        """
        animator = stage1 if isinstance(stage1, Animator) else Animator.load(stage1)
        config, variables = load_stage2(stage2, animator)
        return cls(animator, config, variables, load_feature_extractor(stage2, config, wavlm))

    def options(
        self,
        *,
        sampler: Mapping[str, Any] | None = None,
        schedule: Mapping[str, Any] | None = None,
        stream_schedule: Mapping[str, Any] | None = None,
        control: Mapping[str, Any] | None = None,
        voice_activity: str | None = None,
    ) -> Options:
        """Options that differ from the config of stage 2.

        Each argument but the last is a section of that config, and holds the values that differ, as
        in `sampler={"num_steps": 8}, control={"motion_scale": 0.5}`; a value of None changes
        nothing.

        Args:
          sampler: how noise is removed.
          schedule: how windows follow each other where the whole speech is known.
          stream_schedule: the same for a stream.
          control: how far the portrait moves.
          voice_activity: "silero", "energy" or "off"; see `activity.SpeechGate`. By default
            "silero" where it is installed, and else "energy".

        Raises:
          InputError: for values that are unknown, out of range or do not fit together.
        """
        config = self._config.copy_and_resolve_references()
        sections = {
            "sampler": sampler, "schedule": schedule, "stream_schedule": stream_schedule,
            "control": control,
        }  # fmt: skip
        for name, values in sections.items():
            changes = {k: v for k, v in (values or {}).items() if v is not None}
            config[name].update(changes)
        config_check.check(config)
        if config.control.mouth_scale != 1:
            self._check_lips(f"mouth_scale is {config.control.mouth_scale:g}")
        return Options(
            motion_model.make_sampling(config),
            WindowSchedule(**config.schedule).check(self._model),
            WindowSchedule(**config.stream_schedule).check(self._model),
            Control(**config.control),
            choose_kind(voice_activity),
        )

    def prepare(self, options: Options | None = None) -> None:
        """Compiles what generates motion, or fetches it from the cache, on a background thread."""
        options = options or self.defaults
        self._window_sampler(options, options.schedule).prepare()

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names of the speakers that stage 2 tells apart; none where it was trained without."""
        return tuple(self._config.speakers)

    def generate(
        self,
        image: str | os.PathLike | np.ndarray,
        audio: np.ndarray,
        sample_rate: int,
        *,
        style: Style = Style(),  # noqa: B008
        seed: int = 0,
        speaker: str | None = None,
        gestures: Gestures | None = None,
        options: Options | None = None,
    ) -> Clip:
        """Generates a clip as long as the speech, to within a frame.

        Args:
          image: the portrait, a path or an array; see `Portrait.open`.
          audio: [n] or [n, channels], float in [-1, 1]; channels are mixed by `mixing.mix`.
          sample_rate: of `audio`, in Hz.
          style: how the portrait is cropped, and how frames are shown.
          seed: the same seed gives the same clip.
          speaker: whose manner of moving, where stage 2 knows several speakers.
          gestures: motion for the hands, the head and the body, so that speech moves only the lips:
            a path of a video or of a motion file (.npz), or an iterable of motion features, [d]
            each, 25 a second. It is transferred to the portrait as `Animator.retarget` does, and
            cut to the length of the speech; a shorter one runs forwards and backwards in turn.
          options: how motion is generated; by default `defaults`.

        Raises:
          InputError: for speech of less than a frame, a file that cannot be read, an unknown
            speaker, or gestures where stage 2 does not know the lips.
        """
        speech = to_speech(audio, sample_rate)
        rendering = self.render(
            image, speech,
            style=style, seed=seed, speaker=speaker, gestures=gestures, options=options,
        )  # fmt: skip
        motion: list[np.ndarray] = []
        frames = np.stack(list(rendering.frames(kept_motion=motion)))
        silent = (f"the speech {SILENT}",) if is_silent(speech) else ()
        return Clip(
            frames, speech, FPS, np.concatenate(motion), np.asarray(audio), sample_rate,
            (*silent, *rendering.notices),
        )  # fmt: skip

    def render(
        self,
        image: str | os.PathLike | np.ndarray,
        speech: np.ndarray,
        *,
        style: Style = Style(),  # noqa: B008
        seed: int = 0,
        speaker: str | None = None,
        gestures: Gestures | None = None,
        options: Options | None = None,
        name: str | os.PathLike = "the speech",
    ) -> Rendering:
        """Like `generate`, but frames are rendered when they are taken, in constant memory.

        Args:
          image: see `generate`.
          speech: [n] float32, mono, 16 kHz; `to_speech` brings other sound to this.
          style: see `generate`.
          seed: see `generate`.
          speaker: see `generate`.
          gestures: see `generate`; they are read, and errors in them raised, with the frames.
          options: see `generate`.
          name: what errors and notices call the speech.

        Raises:
          InputError: see `generate`.
        """
        self._speaker_number(speaker)
        if gestures is not None:
            self._check_lips("gestures are given")
        num_frames = count_frames(speech, name=name)
        # Features are extracted while the portrait is encoded and programs are loaded.
        features = self.extract_features(speech, options)
        portrait = Portrait.open(image, self.animator, style)
        portrait.prepare()
        self.prepare(options)
        followed = None
        if gestures is not None:
            followed = follow_gestures(gestures, self.animator, portrait.source)
        windows = self.motion_from_features(
            portrait.source.motion, features, num_frames,
            seed=seed, speaker=speaker, gestures=followed,
            lips_apart=self._moves_mouth(portrait), options=options,
        )  # fmt: skip
        unlike = (f"{name}: {UNLIKE_SPEECH}",) if is_unlike_speech(speech) else ()
        return Rendering(portrait, windows, (*unlike, *self._notices(portrait)))

    def stream(
        self,
        image: str | os.PathLike | np.ndarray,
        *,
        style: Style = Style(),  # noqa: B008
        seed: int = 0,
        speaker: str | None = None,
        sample_rate: int = SAMPLE_RATE_HZ,
        options: Options | None = None,
    ) -> GestureStream:
        """Starts a clip whose speech is still to come.

        Args:
          image: see `generate`.
          style: see `generate`.
          seed: see `generate`.
          speaker: see `generate`.
          sample_rate: of the speech, in Hz.
          options: how motion is generated, to the end of the stream; by default `defaults`.

        Raises:
          InputError: for a picture that cannot be read, for an unknown speaker, or where stage 2
            was trained on WavLM's features, which need the whole recording.
        """
        self.feature_extractor.stream()  # Raises the error before the portrait is encoded.
        self._speaker_number(speaker)
        options = options or self.defaults
        hop = options.stream_schedule.hop
        portrait = Portrait.open(image, self.animator, style, num_frames=hop)
        writer = self._motion_writer(
            portrait.source.motion, options, options.stream_schedule,
            seed=seed, speaker=speaker, lips_apart=self._moves_mouth(portrait),
        )  # fmt: skip
        portrait.prepare()
        writer.prepare()
        return GestureStream(
            portrait, writer, self.feature_extractor, self._notices(portrait),
            sample_rate=sample_rate, voice_activity=options.voice_activity,
        )  # fmt: skip

    def motion_windows(
        self,
        source: Source,
        audio: np.ndarray,
        *,
        seed: int = 0,
        speaker: str | None = None,
        options: Options | None = None,
    ) -> Iterator[np.ndarray]:
        """Motion features for speech, one window after the other.

        Args:
          source: from `Animator.encode_source`.
          audio: [n] float32 at 16 kHz.
          seed: of the noise.
          speaker: whose manner of moving, where stage 2 knows several speakers.
          options: how motion is generated; by default `defaults`.

        Yields:
          [<= hop, d] float32; together as many frames as the speech lasts.
        """
        features = self.extract_features(audio, options)
        yield from self.motion_from_features(
            source.motion, features, count_frames(audio),
            seed=seed, speaker=speaker, options=options,
        )  # fmt: skip

    def extract_features(
        self, audio: np.ndarray, options: Options | None = None
    ) -> Iterator[np.ndarray]:
        """The speech features that `motion_from_features` needs.

        A background thread begins to compute them at once, a few seconds of speech ahead of their
        use. It ends with them, or when the iterator is dropped.

        Args:
          audio: [n] float32 at 16 kHz.
          options: those of `motion_from_features`.

        Yields:
          [t, a] float32, features of the speech and of the silence after it.
        """
        options = options or self.defaults
        num_rows = options.schedule.count_rows(count_frames(audio))
        if uses_wavlm(self.feature_extractor.kind):  # The other features pad piece by piece.
            audio = _pad(audio, num_rows)
        gate = SpeechGate(options.voice_activity)
        pieces = self.feature_extractor.iterate(audio, num_frames=num_rows, gate=gate)
        return Prefetch(pieces, count=_PREFETCHED)

    def motion_from_features(
        self,
        own: np.ndarray,
        features: Iterable[np.ndarray],
        num_frames: int,
        *,
        seed: int = 0,
        speaker: str | None = None,
        gestures: Iterator[np.ndarray] | None = None,
        lips_apart: bool = False,
        options: Options | None = None,
    ) -> Iterator[np.ndarray]:
        """Like `motion_windows`, from speech features.

        Args:
          own: [d], the portrait's own motion feature.
          features: pieces [t, a] of the features of the speech and of the silence after it, with
            `WindowSchedule.count_rows` rows or more in all.
          num_frames: of the clip.
          seed: of the noise.
          speaker: whose manner of moving, where stage 2 knows several speakers.
          gestures: motion of all but the lips, [d] a frame without end; see `follow_gestures`.
          lips_apart: see `MotionWriter`.
          options: how motion is generated; by default `defaults`.
        """
        options = options or self.defaults
        writer = self._motion_writer(
            own, options, options.schedule,
            seed=seed, speaker=speaker, gestures=gestures, lips_apart=lips_apart,
        )  # fmt: skip
        for rows in features:
            yield from writer.write(rows, num_frames=num_frames)

    def _motion_writer(
        self,
        own: np.ndarray,
        options: Options,
        schedule: WindowSchedule,
        *,
        seed: int,
        speaker: str | None,
        gestures: Iterator[np.ndarray] | None = None,
        lips_apart: bool = False,
    ) -> MotionWriter:
        number, sampler = self._speaker_number(speaker), self._window_sampler(options, schedule)
        return MotionWriter(
            sampler, options.control, own,
            seed=seed, speaker=number, gestures=gestures, lips_apart=lips_apart,
            is_silent=self.feature_extractor.is_silent,
        )  # fmt: skip

    def _window_sampler(self, options: Options, schedule: WindowSchedule) -> WindowSampler:
        return WindowSampler(
            self._model, self._space, self._process, self._variables,
            schedule=schedule, sampling=options.sampling, mesh=self.animator.mesh,
        )  # fmt: skip

    def _moves_mouth(self, portrait: Portrait) -> bool:
        """Returns whether the renderer moves the portrait's own mouth."""
        return portrait.takes_lips and bool(self._space.num_lips)

    def _notices(self, portrait: Portrait) -> tuple[str, ...]:
        if portrait.takes_lips or not self._space.num_lips:
            return portrait.notices
        if not self.animator.model.carries_pixels:
            return portrait.notices
        return (*portrait.notices, _BLURRED_LIPS)

    def _check_lips(self, reason: str) -> None:
        """Raises InputError, which begins with the reason, if stage 2 does not know the lips."""
        if not self._space.num_lips:
            raise InputError(
                f"{reason}, but this stage 2 does not know the lips; use one that was trained on a "
                "dataset with the joints of the mouth (prepare --joints)"
            )

    def _speaker_number(self, speaker: str | None) -> int | None:
        if speaker is None and not self.speakers:
            return None
        if speaker not in self.speakers:
            known = (
                ", ".join(self.speakers) or "none, as it was trained without speaker_conditioning"
            )
            raise InputError(f"speaker {speaker!r} is not known to this stage 2; known: {known}")
        return self.speakers.index(speaker)


def to_speech(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Brings sound, [n] or [n, channels] float, to [m] float32, mono, 16 kHz; see `mixing.mix`.

    Raises:
      InputError: for sound of another shape or type, or where less than one frame (40 ms) is left.
    """
    mono = mixing.mix(audio, sample_rate)
    if sample_rate != SAMPLE_RATE_HZ:
        mono = soxr.resample(mono, sample_rate, SAMPLE_RATE_HZ)
    count_frames(mono)
    return mono


def count_frames(audio: np.ndarray, *, name: str | os.PathLike = "the speech") -> int:
    """The number of video frames in [n] samples at 16 kHz, rounded; errors call the sound `name`.

    Raises:
      InputError: where there is less than one.
    """
    num_frames = round(len(audio) / SAMPLES_PER_FRAME)
    if not num_frames:
        seconds = len(audio) / SAMPLE_RATE_HZ
        raise InputError(f"{name}: lasts {seconds:.3f} s, less than one frame (0.04 s)")
    return num_frames


def _pad(audio: np.ndarray, num_frames: int) -> np.ndarray:
    missing = num_frames * SAMPLES_PER_FRAME - len(audio)
    return np.pad(audio, (0, max(0, missing)))
