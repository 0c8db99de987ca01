"""Aliases for annotated arrays, and the glossary of axis letters.

| letter | axis |
|---|---|
| `*b` | any leading batch axes |
| `t` | video frames (25 a second) |
| `h w` | pixel or latent rows and columns |
| `c` | channels |
| `d` | motion features |
| `a` | speech features |
| `p` | prior frames |
| `n` | audio samples (16,000 a second) |
| `j` | joints |

Images are `[*b, h, w, c]`, float32 in [0, 1] in the networks and uint8 in files.
"""

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8, jaxtyped

try:
    from beartype import beartype
except ImportError:
    beartype = None

Array = jax.Array | np.ndarray


def typechecked(function):
    """Checks the arrays of a function against its annotations, while it is traced.

    It needs beartype, which the extra `[test]` brings; without it this returns `function` itself.
    The assertions by chex inside functions hold everywhere.

    Raises:
      jaxtyping.TypeCheckError: from the function, for an array of another dtype or shape.
    """
    return function if beartype is None else jaxtyped(function, typechecker=beartype)


Image = Float[Array, "*b h w 3"]
"""RGB in [0, 1]."""
Frames = UInt8[np.ndarray, "t h w 3"]
"""RGB as in files, 0 to 255."""
PixelWeights = Float[Array, "*b h w 1"]
"""How much each pixel counts, 0 or more; a mask where it is 0 or 1."""
FeatureMap = Float[Array, "*b h w c"]
Motion = Float[Array, "*b d"]
MotionSequence = Float[Array, "*b t d"]
Prior = Float[Array, "*b p d"]
SpeechFeatures = Float[Array, "*b t a"]
Audio = Float[np.ndarray, "n"]
"""Mono, in [-1, 1]."""
Mask = Bool[Array, "*b"]
Time = Int[Array, "*b"]
