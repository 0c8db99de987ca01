"""Animates photographs of people as 2.5-dimensional puppets; see docs/photo_people.md.

MediaPipe finds the landmarks and mattes of a portrait. They become a rig, which is layers with
joints in one file. A rig and the motion of the procedural speaker become clips.
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
