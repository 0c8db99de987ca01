"""Smooth steps."""

import numpy as np


def smoothstep(values, low: float, high: float) -> np.ndarray:
    """Returns 0 below `low`, 1 above `high`, and a smooth ramp between."""
    ramp = np.clip((values - low) / (high - low), 0.0, 1.0)
    return ramp * ramp * (3.0 - 2.0 * ramp)
