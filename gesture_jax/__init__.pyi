from .errors import InputError
from .inference.animator import Animator, Source
from .inference.generator import GestureGenerator, Options
from .inference.portraits import Portrait, Style
from .inference.rendering import Clip, Rendering
from .inference.stream import GestureStream

__all__ = [
    "Animator",
    "Clip",
    "GestureGenerator",
    "GestureStream",
    "InputError",
    "Options",
    "Portrait",
    "Rendering",
    "Source",
    "Style",
]
