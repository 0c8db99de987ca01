"""A portrait's own mouth, moved by the positions of the lips that stage 2 generates.

Stage 1 moves whole regions; lips are smaller than its cells, and it has to draw whatever is inside
an open mouth. Where the face of the portrait is found (extra `[pose]`), lips and jaw therefore move
by the same model that moves the mouths of training data (`people.mouth`): it displaces the
positions that pixels of the portrait are read from. So lips stay as sharp as the picture.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.models.layered import Located, blend
from gesture_jax.ops.warp import Places, move_places, read_bicubic, read_bilinear
from gesture_jax.people import faces, pose
from gesture_jax.people.mouth import NOSE_TIP, LipShape, Mouth, measure_light, measure_mouth
from gesture_jax.people.ramps import smoothstep

# Cells of the square grid around the mouth, and its side and place in widths of the mouth.
_GRID = 128
_SIDE, _BELOW = 3.5, 0.85
# The outer share of the grid in which displacements fade out.
_FADE = 0.12
# Around the mouth, up to this many of its widths across and down, the portrait's pixels are shown.
_OWN_PIXELS = 0.95, 0.75
# Height and width of the part of the frame that is composed again, as a share of the frame: the
# mouth's surroundings in all positions of the head.
_WINDOW = 3 / 8
# A face whose mouth is narrower than this share of the square is left to stage 1.
_LEAST_WIDTH = 0.03


@dataclasses.dataclass(frozen=True)
class TalkingMouth:
    """The mouth of one portrait.

    Attributes:
      mouth: the model of the mouth, on a grid.
      box: [3] float32, left, top and side of the grid, in shares of the frame.
    """

    mouth: Mouth
    box: np.ndarray
    _own_pixels: np.ndarray
    _fade: np.ndarray
    _centres: np.ndarray

    @classmethod
    def find(cls, square: np.ndarray) -> "TalkingMouth | None":
        """Finds the mouth in a portrait's square, [s, s, 3] uint8.

        Returns:
          None where no face is found, or where it is small or cut off.
        """
        mesh = faces.find_mesh(square)
        return None if mesh is None else cls.from_mesh(square, mesh)

    @classmethod
    def from_mesh(cls, square: np.ndarray, mesh: np.ndarray) -> "TalkingMouth | None":
        """Like `find`, for the face mesh, [k, 2] in pixels."""
        size = len(square)
        middle, width = measure_mouth(mesh)
        side = _SIDE * width
        corner = middle + (-0.5 * side, _BELOW * width - 0.5 * side)
        if width < _LEAST_WIDTH * size or (middle < width).any() or (middle > size - width).any():
            return None
        centres = (np.arange(_GRID, dtype=np.float32) + 0.5) * (side / _GRID) - 0.5
        x, y = (centres + np.float32(c) for c in corner)
        y = y[:, None]
        light = measure_light(square, mesh[NOSE_TIP], radius=size // 170)
        mouth = Mouth(mesh, x, y, unit=size / 512, light=light)
        far = np.hypot(
            (x - middle[0]) / (_OWN_PIXELS[0] * width), (y - middle[1]) / (_OWN_PIXELS[1] * width)
        )
        share = (np.arange(_GRID) + 0.5) / _GRID
        fade = smoothstep(np.minimum(share, 1 - share), 0.0, _FADE)
        box = np.array([*corner, side], np.float32) / size
        own_pixels = (1 - smoothstep(far, 0.75, 1.0)).astype(np.float32)
        fade = (fade * fade[:, None]).astype(np.float32)
        return cls(mouth, box, own_pixels, fade, np.stack(np.broadcast_arrays(x, y), axis=-1))

    def draw(self, lips: np.ndarray) -> np.ndarray:
        """Draws the displacements and the inside of the mouth.

        Args:
          lips: [b, 2], values of `lips.lip_positions`.

        Returns:
          [b, n, n, 7] float32: displacements (x, y) in pixels of the frame, colours in [0, 1] and
          opacity of the inside, and the share of the portrait's own pixels.
        """
        maps = np.zeros((len(lips), _GRID, _GRID, 7), np.float32)
        maps[..., 6] = self._own_pixels
        for values, each in zip(lips, maps, strict=True):
            shape = LipShape.from_values(values)
            moved = np.stack(self.mouth.displace(shape), axis=-1) - self._centres
            each[..., :2] = moved * self._fade[..., None]
            painted = self.mouth.paint(shape)
            if painted is not None:
                each[self.mouth.rows, :, 2:6] = painted / np.float32(255)
        return maps


def is_available() -> bool:
    """Returns whether faces can be found."""
    return pose.is_installed()


def move_mouth(
    picture: jax.Array, box: jax.Array, frames: tuple[jax.Array, Located, jax.Array]
) -> jax.Array:
    """Composes the surroundings of the mouth again, with moved lips.

    Args:
      picture: [1, s, s, 12], `SourceFeatures.picture`.
      box: [3], `TalkingMouth.box`.
      frames: the frames [b, s, s, 3] of `layered.compose`, what it made them from, and the maps of
        `TalkingMouth.draw`.

    Returns:
      [b, s, s, 3] in [0, 1].
    """
    images, located, maps = frames
    size = images.shape[1]
    window = round(_WINDOW * size)
    centre = size * (box[:2] + 0.5 * box[2])
    corner = jnp.clip(jnp.round(centre - 0.5 * window), 0, size - window).astype(jnp.int32)
    one = functools.partial(_move_one, picture[0], size * box, (corner[1], corner[0]), window)
    return jax.vmap(one)(images, located, maps)


def _move_one(picture, box, corner, window, image, located, maps) -> jax.Array:
    cut = lambda x: jax.lax.dynamic_slice(
        x, (*corner, *(0 for _ in x.shape[2:])), (window, window, *x.shape[2:])
    )
    part = jax.tree.map(cut, located)
    size, grid = picture.shape[0], maps.shape[0]
    columns, rows = part.main.columns(size), part.main.rows(size)
    across, down = (
        (position - start + 0.5) * (grid / box[2]) - 0.5
        for position, start in ((columns, box[0]), (rows, box[1]))
    )
    inside = (across >= 0) & (across <= grid - 1) & (down >= 0) & (down <= grid - 1)
    read = read_bilinear(maps, Places.at(down, across, grid, grid)) * inside[..., None]
    main = move_places(part.main, read[..., 0], read[..., 1], size)
    main = jnp.clip(read_bicubic(picture, main), 0.0, 1.0)
    opacity = read[..., 5:6]
    main = (1.0 - opacity) * main + opacity * read[..., 2:5]
    other = read_bilinear(picture[..., :3], part.other)
    composed = blend(main, other, part.replace(kept=jnp.maximum(part.kept, read[..., 6:7])))
    return jax.lax.dynamic_update_slice(image, composed, (*corner, 0))
