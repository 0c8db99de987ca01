"""Motion for speech of any length, sampled window by window.

A window is a few frames longer than the part of it that is kept; the extra frames show where the
motion was heading. Several candidates for the next window are sampled as one batch, and the one
whose first frames fit these extra frames best is taken (S2G's optimal motion selection, reference
3.7). Over these frames the old window fades into the new one. All windows, and thus all fades
between them, stay within the range of motion that training showed, however long the speech is. Each
window also leads a little back to the portrait's pose, so that the motion does not drift to the
limits of that range.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from gesture_jax.array_types import MotionSequence
from gesture_jax.diffusion.process import GaussianProcess
from gesture_jax.diffusion.samplers import Sampler, Steps
from gesture_jax.errors import InputError
from gesture_jax.inference import seams
from gesture_jax.inference.gestures import lip_filter, move_lips
from gesture_jax.inference.motion_scales import Control, scale_below
from gesture_jax.inference.rest_guard import RestGuard
from gesture_jax.inference.silence import HandsAtRest
from gesture_jax.media.rates import FPS
from gesture_jax.models.denoiser import MotionDenoiser, Sampling, sample_motion
from gesture_jax.models.motion_space import (
    MotionSpace,
    Statistics,
    hide_future,
    standardise_speech,
)
from gesture_jax.ops.precision import float32_matmuls
from gesture_jax.parallel.aot_cache import CachedJit, cached_jit, compile_ahead, register_exportable
from gesture_jax.parallel.sharding import AXES

register_exportable(Steps)


@dataclasses.dataclass(frozen=True)
class WindowSchedule:
    """How windows follow each other.

    Attributes:
      hop: number of frames of a window that are kept.
      look_ahead: number of frames of speech beyond these that the network is given.
      blend: number of frames over which a window fades into the next one.
      candidates: number of windows that are sampled to choose from.
      memory: share of earlier windows in each frame of the body, see `seams.fade`; lips follow the
        newest window alone.
    """

    hop: int
    look_ahead: int
    blend: int = 8
    candidates: int = 4
    memory: float = 0.0

    def count_ahead(self, window: int) -> int:
        """Returns how many frames of a window with this length the next one is blended with."""
        return window - self.hop if self.memory else self.blend

    def count_rows(self, num_frames: int) -> int:
        """Returns how many rows of features a clip needs, with those of the silence after it."""
        return -(-num_frames // self.hop) * self.hop + self.look_ahead

    def check(self, model: MotionDenoiser) -> "WindowSchedule":
        """Returns the schedule itself.

        Raises:
          InputError: if it does not fit the model's window.
        """
        longest = model.window - max(self.look_ahead, self.blend)
        if not max(model.num_prior, self.blend, 1) <= self.hop <= longest:
            raise InputError(
                f"a hop of {self.hop} frames with look_ahead {self.look_ahead} and blend "
                f"{self.blend}: a window has {model.window} frames, so the hop has to be at least "
                f"{max(model.num_prior, self.blend, 1)} and at most {longest}"
            )
        if not 0.0 <= self.memory < 1.0:
            raise InputError(f"memory {self.memory}: it is a share from 0 to below 1")
        if self.candidates < 1 or (self.candidates > 1 and not self.blend):
            raise InputError(
                f"{self.candidates} candidates with blend {self.blend}: at least one is needed; to "
                "choose among several, blend has to be at least 1"
            )
        return self


@register_exportable
@flax.struct.dataclass
class WindowState:
    """State after a window, which the next one continues; all are vectors of the motion space.

    Attributes:
      portrait: [d], the pose at which the clip began.
      prior: [p, d], the last frames of the window that are kept.
      ahead: [a, d], the frames of the window after these, see `WindowSchedule.count_ahead`.
      drift: [d], the mean of the last seconds of the encoded motion.
    """

    portrait: jax.Array
    prior: jax.Array
    ahead: jax.Array
    drift: jax.Array


class WindowSampler:
    """Samples the windows of one clip, in order."""

    def __init__(
        self,
        model: MotionDenoiser,
        space: MotionSpace,
        process: GaussianProcess,
        variables: dict[str, Any],
        *,
        schedule: WindowSchedule,
        sampling: Sampling,
        mesh: Mesh | None = None,
    ):
        """A network with its variables, and the way to sample from it.

        Samplers that differ in the guidance only, or in the steps of the diffusion (see
        `Sampler.steps`), share a compiled program.

        Args:
          model: the network.
          space: in which it represents motion.
          process: that it was trained on.
          variables: its parameters and the statistics of its training set; replicated over `mesh`.
          schedule: how windows follow each other.
          sampling: how windows are sampled.
          mesh: devices that share the candidates, or None for one device.

        Raises:
          InputError: if the schedule does not fit the network.
        """
        self.schedule = schedule.check(model)
        self._model, self._space, self._variables = model, space, variables
        steps = sampling.sampler
        steps = steps.steps(process, padded=True) if isinstance(steps, Sampler) else steps
        self._sampling = np.float32(sampling.guidance), steps
        num_ahead = schedule.count_ahead(model.window)
        self._start = cached_jit(start_state, space, model.num_prior, num_ahead)
        self._next_window = cached_jit(
            next_window, model, space, process, schedule, sampling.interval, mesh
        )
        self._move_lips = cached_jit(move_lips, space)

    def prepare(self) -> None:
        """Compiles `step`, or fetches it from the cache, on a thread while other work is done."""
        compile_ahead(self.calls())

    def calls(self) -> Iterator[tuple[CachedJit, tuple]]:
        """Yields the programs of `step`, with arguments of the right shapes."""
        key = jax.random.fold_in(jax.random.key(0), 0)
        state = self.start(np.zeros(self._space.feature_dim, np.float32))
        speech = np.zeros((self._model.window, self._model.speech_dim), np.float32)
        speaker = np.int32(0) if self._model.num_speakers else None
        scale = np.float32(1.0)
        yield (
            self._next_window,
            (self._variables, key, state, speech, speaker, *self._sampling, scale, scale),
        )

    def start(self, own: np.ndarray) -> WindowState:
        """Returns the state of a portrait that holds its own motion feature, [d of stage 1]."""
        return self._start(own, self._variables["statistics"])

    def step(
        self,
        key: jax.Array,
        state: WindowState,
        speech: np.ndarray,
        speaker: int | None = None,
        *,
        mouth_scale: float = 1.0,
        gestures: np.ndarray | None = None,
        lips_apart: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, WindowState]:
        """Samples the next `hop` frames.

        Args:
          key: for the noise.
          state: after the window before.
          speech: [hop + look_ahead, a] features, not standardised.
          speaker: number of the speaker, if the network knows speakers.
          mouth_scale: scale of the motion of the lips, where stage 2 knows them.
          gestures: [hop, d], motion that replaces the sampled one, except for the lips, which stage
            2 has to know; the state does not depend on it.
          lips_apart: whether the motion features leave the lips at rest, because the renderer gets
            their positions.

        Returns:
          [hop, d] motion features of stage 1, [hop, l] positions of the lips, and the new state.
        """
        padded = np.zeros((self._model.window, speech.shape[1]), np.float32)
        padded[: len(speech)] = speech
        number = None if speaker is None else np.int32(speaker)
        portrait = state.portrait
        motion, lips, state = self._next_window(
            self._variables, key, state, padded, number, *self._sampling,
            np.float32(mouth_scale), np.float32(not lips_apart),
        )  # fmt: skip
        if gestures is not None:
            statistics = self._variables["statistics"]
            moved = np.zeros_like(lips) if lips_apart else lips
            motion = self._move_lips(statistics, self._lip_filter, portrait, gestures, moved)
        return np.asarray(motion), np.asarray(lips), state

    @functools.cached_property
    def _lip_filter(self) -> np.ndarray:
        return lip_filter(self._variables["statistics"])


@float32_matmuls
def start_state(
    space: MotionSpace,
    num_prior: int,
    num_ahead: int,
    own: np.ndarray,
    statistics: Statistics | None = None,
) -> WindowState:
    """The computation of `WindowSampler.start`; statistics are needed where there are lips."""
    own = space.from_feature(jnp.asarray(own), statistics)
    repeat = lambda count: jnp.repeat(own[None], count, axis=0)
    return WindowState(own, repeat(num_prior), repeat(num_ahead), jnp.zeros_like(own))


class MotionWriter:
    """Makes the motion of one clip, hop by hop."""

    def __init__(
        self,
        sampler: WindowSampler,
        control: Control,
        own: np.ndarray,
        *,
        seed: int,
        speaker: int | None = None,
        gestures: Iterator[np.ndarray] | None = None,
        lips_apart: bool = False,
        is_silent: Callable[[np.ndarray], np.ndarray] | None = None,
    ):
        """Begins a clip.

        Args:
          sampler: samples the windows.
          control: how far the portrait moves.
          own: [d], the portrait's own motion feature.
          seed: for the noise.
          speaker: number of the speaker, if the network knows speakers.
          gestures: motion of all but the lips, [d] a frame without end; from `follow_gestures`.
          lips_apart: whether the positions of the lips follow the motion features, which then leave
            them at rest; stage 2 has to know the lips.
          is_silent: maps features [t, a] to [t] booleans: in which frames nobody speaks, so that
            hands come to rest. None where the features do not show it.
        """
        self.schedule = sampler.schedule
        self._sampler, self._control, self._own = sampler, control, own
        self._gestures, self._lips_apart = gestures, lips_apart
        self._speaker, self._state = speaker, sampler.start(own)
        self._key, self._hops = jax.random.key(seed), 0
        self._features: np.ndarray | None = None
        self._num_frames: int | None = None
        self._guard = RestGuard(own)
        self._is_silent, self._rest = is_silent, HandsAtRest()

    def write(self, features: np.ndarray, *, num_frames: int | None = None) -> list[np.ndarray]:
        """Takes the next speech features; returns the hops that are due.

        Args:
          features: [t, a].
          num_frames: length of the whole clip, if it is known; the motion ends there.

        Returns:
          Hops, [<= hop, d] each; or [<= hop, d + l] with the positions of the lips.
        """
        waiting = [] if self._features is None else [self._features]
        self._features = np.concatenate([*waiting, features])
        if num_frames is not None:
            self._end_at(num_frames)
        hops = []
        while len(self._features) >= self.schedule.hop + self.schedule.look_ahead:
            left = self._frames_left()
            if left is not None and left <= 0:
                break
            hops.append(self._write_hop(left))
        return hops

    def prepare(self) -> None:
        """Compiles what makes motion, and what limits it after an interruption, on a thread."""
        num_cells = (len(self._own) - 3) // 9
        motion = np.zeros((self.schedule.hop, len(self._own)), np.float32)
        limit = self._guard.call(motion, np.ones((self.schedule.hop, num_cells + 1)))
        compile_ahead(itertools.chain(self._sampler.calls(), [limit]))

    @property
    def num_written(self) -> int:
        """The number of frames that are written."""
        return self._hops * self.schedule.hop

    def interrupt(self) -> None:
        """Drops the features that are not used yet, and brings the motion to rest."""
        self._features = None
        self._guard.interrupt()

    def resume(self, frame: int) -> None:
        """Lets the motion leave its rest from this frame of the clip on, if it was interrupted."""
        self._guard.resume(frame)

    def _end_at(self, num_frames: int) -> None:
        if self._num_frames is None and self._hops:
            # The hops that are written already cannot begin to come to rest.
            rest_sec = (num_frames - self.num_written) / FPS
            rest_sec = min(self._control.rest_sec, max(0.0, rest_sec))
            self._control = dataclasses.replace(self._control, rest_sec=rest_sec)
        self._num_frames = num_frames

    def _frames_left(self) -> int | None:
        return None if self._num_frames is None else self._num_frames - self.num_written

    def _write_hop(self, frames_left: int | None) -> np.ndarray:
        speech = self._features[: self.schedule.hop + self.schedule.look_ahead]
        key = jax.random.fold_in(self._key, self._hops)
        gestures = None
        if self._gestures is not None:
            gestures = np.stack(list(itertools.islice(self._gestures, self.schedule.hop)))
        motion, lips, self._state = self._sampler.step(
            key, self._state, speech, self._speaker,
            mouth_scale=self._control.mouth_scale, gestures=gestures, lips_apart=self._lips_apart,
        )  # fmt: skip
        self._features = self._features[self.schedule.hop :]
        self._hops += 1
        # The whole hop is scaled, also at the end of a clip, so that all have the same shape.
        if self._is_silent and self._gestures is None:
            scales = self._rest.scales(self._is_silent(speech[: self.schedule.hop]))
            motion = scale_below(motion, self._own, scales)
        motion = self._control.apply(motion, self._own, frames_left=frames_left)
        motion = self._guard.apply(motion)
        if self._lips_apart:
            lips = self._control.scale_lips(lips, frames_left=frames_left)
            motion = np.concatenate([motion, lips], axis=1)
        return motion[:frames_left]


@float32_matmuls
def next_window(
    model: MotionDenoiser,
    space: MotionSpace,
    process: GaussianProcess,
    schedule: WindowSchedule,
    interval: tuple[float, float],
    mesh: Mesh | None,
    variables: dict[str, Any],
    key: jax.Array,
    state: WindowState,
    speech: jax.Array,
    speaker: jax.Array | None,
    guidance: jax.Array,
    steps: Steps,
    mouth_scale: jax.Array,
    lips_in_motion: jax.Array,
) -> tuple[jax.Array, jax.Array, WindowState]:
    """Samples a window for `WindowSampler.step`, from speech that is padded to the window.

    Lips follow the speech alone: windows are joined without them.

    Returns:
      [hop, d] motion features of stage 1, [hop, l] positions of the lips, by which the motion moves
      as far as `lips_in_motion`, 0 or 1, says; and the new state.
    """
    statistics = variables["statistics"]
    speech = standardise_speech(speech, statistics)[None]
    windows = _sample_candidates(
        mesh,
        schedule.candidates,
        functools.partial(
            sample_motion,
            model,
            variables["params"],
            key,
            space.encode_prior(state.prior, state.portrait, statistics)[None],
            hide_future(speech, jnp.array([schedule.hop + schedule.look_ahead])),
            process=process,
            sampling=Sampling(steps, guidance, interval),
            speaker=None if speaker is None else jnp.array([speaker]),
            bound=functools.partial(space.bound, statistics=statistics),
        ),
    )
    if space.relative:
        past = space.encode(state.prior, state.portrait, statistics)
        windows = space.with_lips_of(seams.continue_from(past, windows), windows)
    drifts = seams.update_drift(state.drift, windows, schedule.hop)
    if space.relative:
        returned = seams.return_to_rest(windows, drifts, schedule.hop)
        windows = space.bound(space.with_lips_of(returned, windows), statistics)
    candidates = space.decode(windows, state.portrait, statistics)
    best = 0
    if schedule.blend:
        best = jnp.argmin(
            seams.cost(
                candidates, state.prior, state.ahead[: schedule.blend], scale=statistics["pose_std"]
            )
        )
    window = space.with_lips_of(
        seams.fade(state.ahead, candidates[best], blend=schedule.blend, memory=schedule.memory),
        candidates[best],
    )
    state = state.replace(
        prior=window[schedule.hop - model.num_prior : schedule.hop],
        ahead=window[schedule.hop :][: len(state.ahead)],
        drift=(1.0 - seams.RETURNED) * drifts[best],  # The window has undone the rest of it.
    )
    kept = space.scale_lips(window[: schedule.hop], mouth_scale)
    motion = space.to_feature(space.scale_lips(kept, lips_in_motion), statistics)
    return motion, space.split(kept)[1], state


def _sample_candidates(
    mesh: Mesh | None, count: int, sample: Callable[..., MotionSequence]
) -> MotionSequence:
    """Samples [count, t, d], each device of the mesh its share; the noise is the same as on one.

    Where the count does not divide, the last candidate is sampled several times.
    """
    if mesh is None:
        return sample(num_candidates=count)
    share = -(-count // mesh.size)

    def sample_share() -> MotionSequence:
        rows = jax.lax.axis_index(AXES) * share + jnp.arange(share)
        rows = jnp.minimum(rows, count - 1)
        draw_noise = lambda key, shape: jax.random.normal(key, (count, *shape[1:]))[rows]
        windows = sample(num_candidates=share, draw_noise=draw_noise)
        return jax.lax.all_gather(windows, AXES, tiled=True)

    replicated = PartitionSpec()
    split = jax.shard_map(
        sample_share, mesh=mesh, in_specs=(), out_specs=replicated, check_vma=False
    )
    return split()[:count]
