"""One portrait and a speech recording in, a video of that person talking with their hands out.

Importing the package touches no device and writes no config; the classes below load on first use.
"""

import importlib

_HOMES = {
    "Animator": "animator",
    "Source": "animator",
    "Clip": "generator",
    "GestureGenerator": "generator",
    "GestureStream": "stream",
    "InputError": "errors",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'gesture_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(f"gesture_jax.{_HOMES[name]}"), name)
