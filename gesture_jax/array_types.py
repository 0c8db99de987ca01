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
from jaxtyping import Bool, Float, Int, UInt8

Array = jax.Array | np.ndarray

Image = Float[Array, "*b h w 3"]
"""RGB in [0, 1]."""
Frames = UInt8[np.ndarray, "t h w 3"]
"""RGB as it stands in files."""
FeatureMap = Float[Array, "*b h w c"]
Motion = Float[Array, "*b d"]
MotionSequence = Float[Array, "*b t d"]
Prior = Float[Array, "*b p d"]
SpeechFeatures = Float[Array, "*b t a"]
Audio = Float[np.ndarray, "n"]
"""Mono, in [-1, 1]."""
Mask = Bool[Array, "*b"]
Time = Int[Array, "*b"]
