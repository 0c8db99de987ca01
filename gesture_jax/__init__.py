"""One portrait and a speech recording in, a video of that person talking with their hands out.

Importing the package touches no device and writes no config. The names in `__init__.pyi` are loaded
on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
