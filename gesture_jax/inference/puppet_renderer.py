"""Renders a photograph as a puppet of its own pixels, in the pose that is read from the motion.

Stage 1's networks see a person in 256x256 pixels, and know strangers' arms only roughly. Its motion
features, however, tell the pose of anybody. Where the person in the portrait is found (extra
`[pose]`) and stage 1 has a reading of the pose (`training.pose_reading`), the portrait is therefore
cut into layers, and these are moved: sharp at any size, hands included. OpenCV is imported inside
functions, as other renderers do not need it.
"""

import importlib.util
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.array_types import Motion
from gesture_jax.inference.avatar import Avatar
from gesture_jax.media.rates import FPS
from gesture_jax.models.motion_space import MotionSpace
from gesture_jax.ops.precision import float32_matmuls
from gesture_jax.parallel.aot_cache import cached_jit, compile_ahead
from gesture_jax.people import pose
from gesture_jax.people.mouth import LipShape

# The share of the change from frame to frame that the body makes at once: hands have weight.
_FOLLOWS = 0.6
# Eyes blink this often on average, but no sooner than the shortest time after a blink; their
# opening in the frames of a blink.
_BLINK_EVERY_SEC, _SHORTEST_SEC = 4.0, 1.2
_BLINK = 0.4, 0.0, 0.1, 0.6


class UnsuitableError(Exception):
    """A portrait cannot be a puppet; the text is a reason that follows "because"."""


class PuppetRenderer:
    """Draws one portrait as a puppet.

    Attributes:
      notices: sentences that the user should read: that the arms do not move, for example.
    """

    takes_lips = True

    def __init__(self, puppet, still: str, reading: np.ndarray, own: np.ndarray, size: int):
        """Most users want `open`.

        Args:
          puppet: a `puppets.puppet.Puppet`.
          still: the reason why its arms do not move, "" where they do.
          reading: [3 g^2 + 3, p], from `training.pose_reading`.
          own: [9 g^2 + 3], the portrait's own motion feature.
          size: side of the frames in pixels.
        """
        from gesture_jax.puppets.puppet import draw_backdrop, original_appearance

        self.notices = (_describe_still(still),) if still else ()
        self._puppet, self._reading, self._own, self._size = puppet, reading, own, size
        self._appearance = original_appearance(puppet.rig)
        self._backdrop = draw_backdrop(self._appearance, size)
        self._read = cached_jit(read_pose, MotionSpace("angles", len(own)))

    @classmethod
    def open(
        cls,
        square: np.ndarray,
        reading: np.ndarray | None,
        own: np.ndarray,
        *,
        size: int,
        avatar: Avatar | None = None,
    ) -> "PuppetRenderer":
        """Cuts a portrait into layers.

        Args:
          square: [s, s, 3] uint8, the portrait.
          reading: see the class; None where stage 1 has none.
          own: see the class.
          size: see the class.
          avatar: the avatar that the portrait is from, whose rig is used.

        Raises:
          UnsuitableError: where poses cannot be read or drawn here, or nobody suitable is found.
        """
        if reading is None:
            raise UnsuitableError("this stage 1 has no reading of poses")
        if avatar is None and not pose.is_installed():
            raise UnsuitableError(f"no pose model is installed; {pose.remedy()}")
        if importlib.util.find_spec("numba") is None:
            raise UnsuitableError(f"numba is not installed; {pose.remedy()}")
        from gesture_jax.puppets import pose_values
        from gesture_jax.puppets.puppet import Puppet

        count, wanted = reading.shape[1], len(pose_values.NAMES)
        if count != wanted:
            raise UnsuitableError(
                f"this stage 1 reads {count} values of a pose instead of {wanted}"
            )
        if avatar is None:
            rig, still = _build_rig(square, size)
        elif avatar.rig is None:
            raise UnsuitableError("the avatar has no rig")
        else:
            rig, still = avatar.rig, avatar.still
        return cls(Puppet(rig), still, reading, own, size)

    def prepare(self) -> None:
        """Compiles what drawing calls, on a background thread."""
        compile_ahead([(self._read, (self._own, self._own, self._reading))])

    def begin(self) -> "PuppetClip":
        """Begins a clip."""
        return PuppetClip(self)

    def draw(self, values: np.ndarray, lips: LipShape, eyes: float) -> np.ndarray:
        """Draws the pose of values [p], [s, s, 3] uint8."""
        from gesture_jax.puppets import pose_values

        posed = pose_values.to_pose(self._puppet.rig.arms, values, lips=lips, eyes=eyes)
        return self._puppet.draw(self._appearance, posed, size=self._size, backdrop=self._backdrop)

    def read(self, motion: np.ndarray) -> np.ndarray:
        """Reads the pose from a motion feature [9 g^2 + 3]; returns [p]."""
        return np.asarray(self._read(motion, self._own, self._reading), np.float64)

    @property
    def motion_dim(self) -> int:
        """The length of a motion feature."""
        return len(self._own)


class PuppetClip:
    """A clip that is drawn frame by frame."""

    def __init__(self, renderer: PuppetRenderer):
        """Use `PuppetRenderer.begin`."""
        self._renderer = renderer
        self._values: np.ndarray | None = None
        self._eyes = blink()

    def render(self, motion: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Renders the next frames.

        Args:
          motion: [d] each; or [d + 2], with the positions of the lips. Otherwise these are read
            from the motion, too.

        Yields:
          [s, s, 3] uint8.
        """
        renderer = self._renderer
        for feature in motion:
            body, lips = np.split(np.asarray(feature), [renderer.motion_dim])
            values = renderer.read(body)
            last = values if self._values is None else self._values
            self._values = last + _FOLLOWS * (values - last)
            shape = LipShape.from_values(lips if len(lips) else values[-2:])
            yield renderer.draw(self._values, shape, next(self._eyes))


def blink() -> Iterator[float]:
    """Yields the opening of the eyes, 1 open to 0 closed, frame by frame without end."""
    rng = np.random.default_rng(0)
    while True:
        wait_sec = _SHORTEST_SEC + rng.exponential(_BLINK_EVERY_SEC - _SHORTEST_SEC)
        yield from [1.0] * round(wait_sec * FPS)
        yield from _BLINK


def _build_rig(square: np.ndarray, size: int):
    """Returns the rig of a portrait and the reason why its arms rest; raises UnsuitableError."""
    from gesture_jax.puppets import rig_builder

    try:
        return rig_builder.build_rig(square, max_side=max(size, rig_builder.MAX_SIDE))
    except rig_builder.UnsuitablePortraitError as error:
        raise UnsuitableError(f"of its picture: {error.reason} ({error.detail})") from None


@float32_matmuls
def read_pose(space: MotionSpace, motion: Motion, own: Motion, reading: jax.Array) -> jax.Array:
    """Reads the pose [p] from motion features [9 g^2 + 3], of a frame and of the portrait."""
    change, rest = (space.from_feature(jnp.asarray(feature)) for feature in (motion, own))
    return (change - rest) @ reading


def _describe_still(reason: str) -> str:
    return (
        f"the arms do not move, because {reason}; a picture that shows both hands, apart and "
        "wholly, has gestures"
    )
