"""SyncNet (Chung and Zisserman 2016), which embeds faces and speech in one space.

It has two convolutional networks, one for five frames of a face and one for the 0.2 s of speech
that belong to them. Embeddings that belong together should be close. Papers on talking faces
compute LSE-D and LSE-C from it (Prajwal et al. 2020).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

SIZE_PX = 224
"""Side of the pictures of faces."""
NUM_FRAMES = 5
"""Frames, 25 a second, in one window."""
NUM_STEPS, NUM_COEFFICIENTS = 20, 13
"""Steps of 10 ms, and coefficients of each, in one window of speech."""
EMBEDDING_DIM = 1024
# Channels, kernel, stride and padding of each convolution; then the kernel, stride and padding of
# the max pooling after it, or None.
VIDEO_LAYERS = (
    (96, (7, 7), 2, 0, ((3, 3), (2, 2), 0)),
    (256, (5, 5), 2, 1, ((3, 3), (2, 2), 1)),
    (256, (3, 3), 1, 1, None),
    (256, (3, 3), 1, 1, None),
    (256, (3, 3), 1, 1, ((3, 3), (2, 2), 0)),
    (512, (6, 6), 1, 0, None),
)
# The first axis of the maps is that of the coefficients.
AUDIO_LAYERS = (
    (64, (3, 3), 1, 1, None),
    (192, (3, 3), 1, 1, ((3, 3), (1, 2), 0)),
    (384, (3, 3), 1, 1, None),
    (256, (3, 3), 1, 1, None),
    (256, (3, 3), 1, 1, ((3, 3), (2, 2), 0)),
    (512, (5, 4), 1, 0, None),
)


class SyncNet(nn.Module):
    """Both networks of SyncNet; their weights are frozen."""

    def setup(self):
        self.video, self.audio = _Tower(VIDEO_LAYERS), _Tower(AUDIO_LAYERS)

    def __call__(self, faces: jax.Array, mfcc: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Computes `embed_video` and `embed_audio`."""
        return self.embed_video(faces), self.embed_audio(mfcc)

    def embed_video(self, faces: jax.Array) -> jax.Array:
        """[b, 5, 224, 224, 3] RGB, 0 to 255 -> [b, 1024]."""
        # The first kernel covers all five frames, so their channels are those of one picture. The
        # network was trained with the channels in the order blue, green, red.
        stacked = jnp.moveaxis(faces[..., ::-1], 1, 3)
        return self.video(stacked.reshape(*stacked.shape[:3], -1).astype(jnp.float32))

    def embed_audio(self, mfcc: jax.Array) -> jax.Array:
        """[b, 20, 13], from `speech.mfcc` -> [b, 1024]."""
        return self.audio(jnp.swapaxes(mfcc, 1, 2)[..., None])


class _Tower(nn.Module):
    layers: tuple

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for number, (width, kernel, stride, padding, pool) in enumerate(self.layers):
            conv = nn.Conv(
                width, kernel, (stride, stride), [(padding, padding)] * 2, name=f"conv{number}"
            )
            x = nn.relu(_norm(f"norm{number}")(conv(x)))
            if pool is not None:
                window, strides, margin = pool
                x = nn.max_pool(x, window, strides, [(margin, margin)] * 2)
        x = nn.Dense(512, name="hidden")(x.reshape(len(x), -1))
        return nn.Dense(EMBEDDING_DIM, name="embedding")(nn.relu(_norm("hidden_norm")(x)))


def _norm(name: str) -> nn.BatchNorm:
    return nn.BatchNorm(use_running_average=True, epsilon=1e-5, name=name)
