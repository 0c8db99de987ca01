"""Shows the layers of the layered network as pictures, for training samples and `--explain`."""

import colorsys
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gesture_jax.models.layered import Layers

# Displacements of at least this share of the frame's side are shown in full colour.
_FULL_COLOUR_SHARE = 0.15


def rows(layers: "Layers") -> list[np.ndarray]:
    """Returns rows of pictures, [b, r, r, 3] in [0, 1] each.

    They show the warped portrait, the drawn picture, the share of the warped portrait in the frame
    (white: the portrait's own pixels, black: drawn), the share of the arms' layer, and the flow
    (hue: direction to the source pixels, brightness: distance).
    """
    front, flows = np.asarray(layers.front), np.asarray(layers.flows)
    factor = front.shape[1] // flows.shape[1]
    share = front[:, ::factor, ::factor]
    flow = colour_flow(share * flows[..., 1, :] + (1.0 - share) * flows[..., 0, :])
    flow = flow.repeat(factor, axis=1).repeat(factor, axis=2)
    pictures = [layers.warped, layers.drawn, layers.kept, front, flow]
    return [np.broadcast_to(np.asarray(x), (*front.shape[:3], 3)) for x in pictures]


def strips(image: np.ndarray, layers: "Layers") -> np.ndarray:
    """Concatenates frames [b, r, r, 3] and their `rows`: [b, r, 6 r, 3] uint8."""
    beside = np.concatenate([np.asarray(image), *rows(layers)], axis=2)
    return np.rint(255.0 * np.clip(beside, 0.0, 1.0)).astype(np.uint8)


def colour_flow(flow: np.ndarray) -> np.ndarray:
    """Colours displacements [*b, 2], where the frame reaches from -1 to 1: [*b, 3] in [0, 1]."""
    angle = (np.arctan2(flow[..., 1], flow[..., 0]) / (2 * np.pi)) % 1.0
    length = np.clip(np.linalg.norm(flow, axis=-1) / (2 * _FULL_COLOUR_SHARE), 0.0, 1.0)
    wheel = np.array([colorsys.hsv_to_rgb(hue / 256, 1.0, 1.0) for hue in range(256)], np.float32)
    return wheel[(angle * 256).astype(int) % 256] * length[..., None].astype(np.float32)
