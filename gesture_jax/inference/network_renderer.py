"""Renders a portrait with the networks of stage 1."""

from collections.abc import Iterable, Iterator

import numpy as np

from gesture_jax.inference.animator import Adaptation, Animator, Source
from gesture_jax.inference.talking_mouth import TalkingMouth


class NetworkRenderer:
    """Renders one portrait with stage 1, whose motion is adapted to it."""

    def __init__(
        self,
        animator: Animator,
        source: Source,
        *,
        mouth: TalkingMouth | None = None,
        num_frames: int | None = None,
        explain: bool = False,
        notices: tuple[str, ...] = (),
    ):
        """Compiles nothing yet.

        Args:
          animator: the trained stage 1.
          source: the portrait, from `Animator.encode_source`.
          mouth: its mouth, if its face is found.
          num_frames: number of frames that are rendered at once, if it is known.
          explain: whether each frame is shown beside the layers that it is composed of.
          notices: sentences that the user should read.
        """
        self.notices = notices
        self._animator, self._source, self._mouth = animator, source, mouth
        self._explain = explain
        self._batch_size = num_frames and animator.choose_batch_size(num_frames)

    @property
    def takes_lips(self) -> bool:
        """Whether positions of the lips move the portrait's own mouth."""
        return self._mouth is not None

    def prepare(self) -> None:
        """Compiles what rendering calls, on a background thread."""
        if not self._explain:
            self._animator.prepare(self._source, mouth=self._mouth, batch_size=self._batch_size)

    def begin(self) -> "NetworkClip":
        """Begins a clip."""
        return NetworkClip(self)

    def render(self, motion: Iterable[np.ndarray], adaptation: Adaptation) -> Iterator[np.ndarray]:
        """Renders motion that continues the clip of an adaptation; see `NetworkClip.render`."""
        if self._explain:
            return self._animator.explain_frames(self._source, motion)
        return self._animator.render_frames(
            self._source, motion, adapt=adaptation, mouth=self._mouth, batch_size=self._batch_size
        )


class NetworkClip:
    """A clip that is rendered frame by frame."""

    def __init__(self, renderer: NetworkRenderer):
        """Use `NetworkRenderer.begin`."""
        self._renderer, self._adaptation = renderer, Adaptation()

    def render(self, motion: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Renders the next frames.

        Args:
          motion: [d] each; or [d + 2], with the positions of the lips.

        Yields:
          [s, s, 3] uint8, or a row of pictures, see `Style.explain`.
        """
        return self._renderer.render(motion, self._adaptation)
