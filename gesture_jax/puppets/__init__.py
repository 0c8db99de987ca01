"""Moves the person in a photograph as a layered puppet, with OpenCV and MediaPipe.

MediaPipe finds the landmarks and mattes of a portrait. They become a rig, which is layers with
joints. A puppet draws a rig in any pose, from the portrait's own pixels.
"""

import importlib.util

from gesture_jax.errors import InputError


def check_installed() -> None:
    """Raises InputError where OpenCV, a part of the extra `[pose]`, is not installed."""
    if importlib.util.find_spec("cv2") is None:
        raise InputError(
            'photographs are moved by OpenCV; `pip install "gesture_jax[pose]"` brings it, or '
            "`pip install opencv-python-headless` where rigs are there already"
        )
