from .animator import Animator, Source
from .errors import InputError
from .generator import Clip, GestureGenerator, Options
from .stream import GestureStream

__all__ = [
    "Animator",
    "Clip",
    "GestureGenerator",
    "GestureStream",
    "InputError",
    "Options",
    "Source",
]
