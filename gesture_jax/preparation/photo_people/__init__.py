"""Photographs of people, moved as two-and-a-half-dimensional puppets: see docs/photo_people.md.

Landmarks and mattes of a portrait (MediaPipe) become a rig, layers with joints in one file; a rig
and the motion of the procedural speaker become clips.
"""

import importlib.util

from gesture_jax.errors import InputError


def check_installed() -> None:
    """Raises InputError where OpenCV is not there, which comes with the extra `[pose]`."""
    if importlib.util.find_spec("cv2") is None:
        raise InputError(
            'photographs are moved by OpenCV; `pip install "gesture_jax[pose]"` brings it, or '
            "`pip install opencv-python-headless` where rigs are there already"
        )
