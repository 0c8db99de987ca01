from .animator import Animator, Source
from .errors import InputError
from .generator import Clip, GestureGenerator
from .stream import GestureStream

__all__ = ["Animator", "Clip", "GestureGenerator", "GestureStream", "InputError", "Source"]
