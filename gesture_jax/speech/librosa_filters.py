"""librosa's filters, computed once a process rather than once a call.

By itself librosa computes them anew at every call, or keeps them in files; to look through its
arguments and to read those took a third of the time of features.
"""

import copy
import functools
import types
from collections.abc import Callable
from typing import Any

import numpy as np
from librosa import _cache


def remember() -> None:
    """To be called before librosa's modules are used; the user's own cache of it wins."""
    if _cache.cache.memory.location is None:
        _cache.cache.memory = types.SimpleNamespace(location="memory", cache=_remembered)


def _remembered(function: Callable) -> Callable:
    made: dict[Any, Any] = {}

    @functools.wraps(function)
    def recall(*args: Any, **kwargs: Any) -> Any:
        key = _key(args), _key(sorted(kwargs.items()))
        if key not in made:
            made[key] = function(*args, **kwargs)
        return copy.deepcopy(made[key])  # librosa scales some in place.

    return recall


def _key(value: Any) -> Any:
    """Equal for equal arguments only: of lists and arrays too, and 1 is not 1.0."""
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, (list, tuple)):
        return type(value), *map(_key, value)
    return type(value), value
