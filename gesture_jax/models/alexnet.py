"""torchvision's AlexNet (Krizhevsky 2014, https://arxiv.org/abs/1404.5997), for LPIPS."""

import flax.linen as nn
import jax

from gesture_jax.models import lpips

# Channels, kernel size, stride and padding of each convolution; whether max pooling precedes it.
_CONVS = (
    (64, 11, 4, 2, False),
    (192, 5, 1, 2, True),
    (384, 3, 1, 1, True),
    (256, 3, 1, 1, False),
    (256, 3, 1, 1, False),
)
WIDTHS = tuple(width for width, *_ in _CONVS)
"""Channels of the five blocks."""
MIN_SIZE = 31
"""Side of the smallest picture that passes all blocks."""


class AlexNet(nn.Module):
    """Computes features of five blocks, relu1 to relu5, from pictures."""

    @nn.compact
    def __call__(self, image: jax.Array) -> list[jax.Array]:
        """[b, h, w, 3] in [0, 1], at least `MIN_SIZE` per side -> five of [b, h', w', c]."""
        x = lpips.standardise(image)
        features = []
        for block, (width, side, stride, padding, pool) in enumerate(_CONVS, start=1):
            if pool:
                x = nn.max_pool(x, (3, 3), (2, 2))
            conv = nn.Conv(
                width, (side, side), (stride, stride), [(padding, padding)] * 2,
                name=f"conv{block}",
            )  # fmt: skip
            x = nn.relu(conv(x))
            features.append(x)
        return features
