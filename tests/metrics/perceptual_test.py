"""Features of VGG; `tests/models/lpips_test.py` tests the distances that are computed from them."""

import jax
import jax.numpy as jnp

from gesture_jax.metrics.perceptual import vgg_features
from gesture_jax.models.vgg import VGG, VGG19


def test_only_the_wanted_blocks_are_computed():
    """The convolutions of VGG-19's first blocks are counted, up to the tap of the fifth."""
    image = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
    variables = jax.eval_shape(VGG(VGG19).init, jax.random.key(0), image)
    for num_blocks, expected in ((1, 2), (2, 4), (5, 13)):
        features = lambda variables, x, n=num_blocks: vgg_features(variables, x, num_blocks=n)
        program = str(jax.make_jaxpr(features)(variables, image))
        assert program.count("conv_general_dilated[") == expected
    shapes = jax.eval_shape(lambda v, x: vgg_features(v, x, num_blocks=2), variables, image)
    assert [each.shape for each in shapes] == [(1, 16, 16, 64), (1, 8, 8, 128)]
