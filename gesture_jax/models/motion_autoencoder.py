"""Autoencoder of short motion windows, whose features FGD uses to compare sets of motion.

It is the convolutional one of Yoon et al. 2020 (https://arxiv.org/abs/2009.02119), who introduced
FGD. As in their released code, its fully connected layers have no activation (a LeakyReLU of slope
1). Their decoder accepts windows of 34 and 64 frames, this one windows of any length: it starts
with four channels per frame, which two transposed convolutions lengthen by four frames and two
convolutions shorten again.
"""

import flax.linen as nn
import jax

from gesture_jax.array_types import Motion, MotionSequence
from gesture_jax.errors import InputError

LATENT_DIM = 32
# The unpadded convolutions of the encoder leave one frame of these.
MIN_FRAMES = 12
# Channels per frame at which the decoder starts.
FRAME_CHANNELS = 4
# Width, kernel and stride.
_CONVS = ((32, 3, 1), (64, 3, 1), (64, 4, 2))
_SLOPE = 0.2


class MotionAutoencoder(nn.Module):
    """Encodes windows as 32 numbers, and decodes them."""

    def setup(self):
        """Both halves infer their sizes from the windows that they are initialised with."""
        self.encoder = MotionEncoder()
        self.decoder = MotionDecoder()

    def __call__(self, windows: MotionSequence, *, train: bool) -> MotionSequence:
        """[b, t, d], features of comparable scale -> their reconstruction, [b, t, d].

        Raises:
          InputError: for windows of fewer than 12 frames.
        """
        latent = self.encode(windows, train=train)
        return self.decoder(latent, shape=windows.shape[1:], train=train)

    def encode(self, windows: MotionSequence, *, train: bool) -> Motion:
        """[b, t, d] -> latents [b, 32].

        Raises:
          InputError: for windows of fewer than 12 frames.
        """
        return self.encoder(windows, train=train)


class MotionEncoder(nn.Module):
    """Four convolutions, unpadded, and four fully connected layers."""

    @nn.compact
    def __call__(self, windows: MotionSequence, *, train: bool) -> Motion:
        """[b, t, d] -> [b, 32]."""
        if windows.shape[1] < MIN_FRAMES:
            raise InputError(
                f"motion windows need {MIN_FRAMES} frames or more, not {windows.shape[1]}"
            )
        x = windows
        for index, (width, size, stride) in enumerate(_CONVS):
            x = nn.Conv(width, (size,), stride, padding="VALID", name=f"conv{index + 1}")(x)
            x = nn.leaky_relu(_norm(train, name=f"conv_norm{index + 1}")(x), _SLOPE)
        x = nn.Conv(32, (3,), padding="VALID", name=f"conv{len(_CONVS) + 1}")(x)
        x = x.reshape(len(x), -1)
        for index, width in enumerate((256, 128)):
            x = nn.Dense(width, name=f"dense{index + 1}")(x)
            x = _norm(train, name=f"dense_norm{index + 1}")(x)
        return nn.Dense(LATENT_DIM, name="mu")(nn.Dense(LATENT_DIM, name="dense3")(x))


class MotionDecoder(nn.Module):
    """Two fully connected layers, two transposed convolutions and two convolutions."""

    @nn.compact
    def __call__(self, latent: Motion, *, shape: tuple[int, int], train: bool) -> jax.Array:
        """[b, 32] -> [b, t, d], where (t, d) is the shape."""
        length, dim = shape
        x = _norm(train, name="dense_norm")(nn.Dense(64, name="dense")(latent))
        x = nn.Dense(FRAME_CHANNELS * length, name="frames")(x).reshape(-1, length, FRAME_CHANNELS)
        for index in (1, 2):
            x = nn.ConvTranspose(32, (3,), padding="VALID", name=f"up_conv{index}")(x)
            x = nn.leaky_relu(_norm(train, name=f"up_norm{index}")(x), _SLOPE)
        x = nn.Conv(32, (3,), padding="VALID", name="conv")(x)
        return nn.Conv(dim, (3,), padding="VALID", name="out_conv")(x)


def _norm(train: bool, *, name: str) -> nn.BatchNorm:
    # PyTorch's momentum of 0.1 corresponds to 0.9 in Flax.
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, name=name)
