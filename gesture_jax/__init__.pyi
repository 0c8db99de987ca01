from .errors import InputError
from .inference.animator import Animator, Source
from .inference.generator import Clip, GestureGenerator, Options
from .inference.stream import GestureStream

__all__ = [
    "Animator",
    "Clip",
    "GestureGenerator",
    "GestureStream",
    "InputError",
    "Options",
    "Source",
]
