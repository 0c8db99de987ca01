"""Motion for speech of any length: one window after the other, each going on where the last went.

A window is a few frames longer than what is kept of it, so it tells where it was heading. Of
several candidates for the next window, drawn as one batch, that one is taken which goes there best
(S2G's optimal motion selection, reference 3.7, by the candidates' first frames); over these frames
the one fades into the other. Windows are held within what training showed, and so is what fades
from one into the next: however long the speech, motion cannot leave these bounds. And each window
leads a little back to the portrait's pose, so that it does not end up at them either.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.array_types import MotionSequence
from gesture_jax.diffusion.process import GaussianProcess
from gesture_jax.errors import InputError
from gesture_jax.inference.control import Control, smooth_step
from gesture_jax.media.rates import FPS
from gesture_jax.models.denoiser import MotionDenoiser, Sampling, sample_motion
from gesture_jax.models.motion_space import MotionSpace, hide_future, standardise_speech
from gesture_jax.ops.precision import float32_matmuls
from gesture_jax.parallel.aot_cache import CachedJit, cached_jit, compile_ahead, register_exportable

# Over how long the mean of motion is taken, and which part of it each window undoes. A part of each
# window, not of each second: it is windows that add to it, and a stream has seven times as many.
_DRIFT_SEC, _RETURNED = 2.0, 0.7


@dataclasses.dataclass(frozen=True)
class WindowSchedule:
    """How windows follow each other.

    Attributes:
      hop: frames kept of a window.
      look_ahead: frames of speech that are heard beyond them.
      blend: frames over which a window fades into the next.
      candidates: windows drawn to choose from.
    """

    hop: int
    look_ahead: int
    blend: int = 8
    candidates: int = 4

    def count_rows(self, num_frames: int) -> int:
        """Rows of features that the windows of a clip read: beyond its end, of silence."""
        return -(-num_frames // self.hop) * self.hop + self.look_ahead

    def check(self, model: MotionDenoiser) -> "WindowSchedule":
        """Itself.

        Raises:
          InputError: where it does not fit the model's window.
        """
        longest = model.window - max(self.look_ahead, self.blend)
        if not max(model.num_prior, self.blend, 1) <= self.hop <= longest:
            raise InputError(
                f"a hop of {self.hop} frames with look_ahead {self.look_ahead} and blend "
                f"{self.blend}: a window has {model.window} frames, so the hop has to be at least "
                f"{max(model.num_prior, self.blend, 1)} and at most {longest}"
            )
        if self.candidates < 1 or (self.candidates > 1 and not self.blend):
            raise InputError(
                f"{self.candidates} candidates with blend {self.blend}: at least one is needed; to "
                "choose among several, blend has to be at least 1"
            )
        return self


@register_exportable
@flax.struct.dataclass
class WindowState:
    """What a window leaves to the next, as vectors of the motion space.

    Attributes:
      portrait: [d], where the clip began.
      prior: [p, d], its last frames that are kept.
      ahead: [blend, d], its frames after these.
      drift: [d], the mean of the last seconds as the diffusion sees motion.
    """

    portrait: jax.Array
    prior: jax.Array
    ahead: jax.Array
    drift: jax.Array


class WindowSampler:
    """Draws the windows of one portrait's motion, in order."""

    def __init__(
        self,
        model: MotionDenoiser,
        space: MotionSpace,
        process: GaussianProcess,
        variables: dict[str, Any],
        *,
        pace: WindowSchedule,
        sampling: Sampling,
    ):
        """A network with its variables, and how it is used.

        Raises:
          InputError: where the pace does not fit the network.
        """
        self.pace = pace.check(model)
        self._model, self._space, self._variables = model, space, variables
        self._hold = cached_jit(hold, space, model.num_prior, pace.blend)
        self._next_window = cached_jit(next_window, model, space, process, pace, sampling)

    def prepare(self) -> None:
        """Has `step` compiled, or fetched from the cache, on a thread while other work is done."""
        compile_ahead(self._calls())

    def _calls(self) -> Iterator[tuple[CachedJit, tuple]]:
        key = jax.random.fold_in(jax.random.key(0), 0)
        heading = self.start(np.zeros(self._space.feature_dim, np.float32))
        speech = np.zeros((self._model.window, self._model.speech_dim), np.float32)
        speaker = np.int32(0) if self._model.num_speakers else None
        yield self._next_window, (self._variables, key, heading, speech, speaker)

    def start(self, own: np.ndarray) -> WindowState:
        """At the portrait's own motion feature, [d of stage 1], held."""
        return self._hold(own)

    def step(
        self,
        key: jax.Array,
        heading: WindowState,
        speech: np.ndarray,
        speaker: int | None = None,
    ) -> tuple[np.ndarray, WindowState]:
        """The next `hop` frames.

        Args:
          key: of the noise.
          heading: of the window before.
          speech: [hop + look_ahead, a] features, not standardised.
          speaker: who moves, where the network knows speakers.

        Returns:
          [hop, d] motion features of stage 1, and the heading.
        """
        padded = np.zeros((self._model.window, speech.shape[1]), np.float32)
        padded[: len(speech)] = speech
        number = None if speaker is None else np.int32(speaker)
        motion, heading = self._next_window(self._variables, key, heading, padded, number)
        return np.asarray(motion), heading


@float32_matmuls
def hold(space: MotionSpace, num_prior: int, blend: int, own: np.ndarray) -> WindowState:
    """What `WindowSampler.start` computes."""
    own = space.from_feature(jnp.asarray(own))
    hold = lambda count: jnp.repeat(own[None], count, axis=0)
    return WindowState(own, hold(num_prior), hold(blend), jnp.zeros_like(own))


class MotionWriter:
    """Makes the motion of one clip, hop by hop."""

    def __init__(
        self,
        long_form: WindowSampler,
        control: Control,
        own: np.ndarray,
        *,
        seed: int,
        speaker: int | None = None,
    ):
        """Begins a clip.

        Args:
          long_form: draws the windows.
          control: how far the portrait moves.
          own: [d], the portrait's own motion feature.
          seed: of the noise.
          speaker: who moves, where the network knows speakers.
        """
        self.pace = long_form.pace
        self._long_form, self._control, self._own = long_form, control, own
        self._speaker, self._heading = speaker, long_form.start(own)
        self._key, self._hops = jax.random.key(seed), 0
        self._features: np.ndarray | None = None
        self._num_frames: int | None = None

    def write(self, features: np.ndarray, *, num_frames: int | None = None) -> list[np.ndarray]:
        """Takes what is heard next; returns the hops that are due.

        Args:
          features: [t, a].
          num_frames: of the whole clip, where it is known: no more are made.

        Returns:
          Hops, [<= hop, d] each.
        """
        known = [] if self._features is None else [self._features]
        self._features = np.concatenate([*known, features])
        if num_frames is not None:
            self._end_at(num_frames)
        hops = []
        while len(self._features) >= self.pace.hop + self.pace.look_ahead:
            left = self._frames_left()
            if left is not None and left <= 0:
                break
            hops.append(self._write_hop(left))
        return hops

    def _end_at(self, num_frames: int) -> None:
        if self._num_frames is None and self._hops:
            # What is written already cannot begin to come to rest.
            rest_sec = (num_frames - self._hops * self.pace.hop) / FPS
            rest_sec = min(self._control.rest_sec, max(0.0, rest_sec))
            self._control = dataclasses.replace(self._control, rest_sec=rest_sec)
        self._num_frames = num_frames

    def _frames_left(self) -> int | None:
        return None if self._num_frames is None else self._num_frames - self._hops * self.pace.hop

    def _write_hop(self, frames_left: int | None) -> np.ndarray:
        heard = self._features[: self.pace.hop + self.pace.look_ahead]
        key = jax.random.fold_in(self._key, self._hops)
        motion, self._heading = self._long_form.step(key, self._heading, heard, self._speaker)
        self._features = self._features[self.pace.hop :]
        self._hops += 1
        return self._control.apply(motion[:frames_left], self._own, frames_left=frames_left)


@float32_matmuls
def next_window(model, space, process, pace, sampling, variables, key, heading, speech, speaker):
    """What `WindowSampler.step` computes; `speech` is padded to the window."""
    statistics = variables["statistics"]
    speech = standardise_speech(speech, statistics)[None]
    windows = sample_motion(
        model,
        variables["params"],
        key,
        space.encode_prior(heading.prior, heading.portrait, statistics)[None],
        hide_future(speech, jnp.array([pace.hop + pace.look_ahead])),
        process=process,
        sampling=sampling,
        speaker=None if speaker is None else jnp.array([speaker]),
        num_candidates=pace.candidates,
        bound=functools.partial(space.bound, statistics=statistics),
    )
    if space.relative:
        past = space.encode(heading.prior, heading.portrait, statistics)
        windows = _go_on_from(past, windows)
    drifts = _follow(heading.drift, windows, pace.hop)
    if space.relative:
        windows = space.bound(_return_to_rest(windows, drifts, pace.hop), statistics)
    candidates = space.decode(windows, heading.portrait, statistics)
    best = 0
    if pace.blend:
        best = jnp.argmin(seam_cost(candidates, heading, scale=statistics["pose_std"]))
    window = _fade(heading.ahead, candidates[best])
    heading = heading.replace(
        prior=window[pace.hop - model.num_prior : pace.hop],
        ahead=window[pace.hop : pace.hop + pace.blend],
        drift=(1.0 - _RETURNED) * drifts[best],  # The rest of it was undone.
    )
    return space.to_feature(window[: pace.hop]), heading


def seam_cost(
    candidates: MotionSequence, heading: WindowState, *, scale: jax.Array | float = 1.0
) -> jax.Array:
    """How far candidates are from where the last window was heading: positions and velocities.

    Args:
      candidates: [n, t, d].
      heading: of the window before.
      scale: [d], the usual size of each feature.

    Returns:
      [n], the mean absolute differences of both, summed.
    """
    ahead = heading.ahead
    first = candidates[:, : len(ahead)]
    last = heading.prior[-1:]
    velocity = lambda frames: jnp.diff(frames, axis=-2, prepend=jnp.broadcast_to(
        last, (*frames.shape[:-2], *last.shape)
    ))  # fmt: skip
    error = lambda one, other: jnp.abs((one - other) / scale).mean(axis=(-2, -1))
    return error(first, ahead) + error(velocity(first), velocity(ahead))


def _go_on_from(past: jax.Array, windows: jax.Array) -> jax.Array:
    """Moves windows so that they begin where the past was heading.

    The portraits of strangers carry looks that training did not have, for which the network takes
    another way of standing: its windows begin away from the past, each by as much again.

    Args:
      past: [p, d], the frames before.
      windows: [n, t, d].
    """
    last, before = past[-1], past[-min(2, len(past))]
    return windows + (2.0 * last - before - windows[:, :1])


def _follow(drift: jax.Array, windows: jax.Array, hop: int) -> jax.Array:
    """The running mean of motion, [d], brought up to date by each of several windows: [n, d]."""
    share = 1.0 - math.exp(-hop / (_DRIFT_SEC * FPS))
    return drift + share * (windows[:, :hop].mean(axis=-2) - drift)


def _return_to_rest(windows: jax.Array, drifts: jax.Array, hop: int) -> jax.Array:
    """Moves windows, relative to the portrait's pose, back to it by a part of their drift.

    In training any frame of a clip is the portrait, so that a network which is told of a past away
    from that pose takes it for the way this person stands, and goes on from there. What each window
    adds to it by mistake stays, and adds up over minutes. Gestures come and go: their mean is
    small.

    Args:
      windows: [n, t, d].
      drifts: [n, d].
      hop: frames over which they are moved.
    """
    progress = smooth_step(jnp.minimum((jnp.arange(windows.shape[-2]) + 1.0) / hop, 1.0))
    return windows - _RETURNED * progress[:, None] * drifts[:, None]


def _fade(ahead: jax.Array, window: jax.Array) -> jax.Array:
    """A window [t, d] that begins as the last one was heading, [blend, d]."""
    count = len(ahead)
    weight = smooth_step((jnp.arange(count) + 1.0) / (count + 1.0))[:, None]
    return window.at[:count].set((1.0 - weight) * ahead + weight * window[:count])
