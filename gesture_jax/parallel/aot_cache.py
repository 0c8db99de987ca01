"""A cache of traces, so that each program is traced, as it is compiled, once per machine.

JAX's compilation cache finds a compiled program by its trace. Tracing runs Python, which takes
seconds for the networks of `paper`. This cache therefore keeps the trace, too, in the format of
`jax.export`. Its key covers everything that the trace depends on: the sources of this package,
JAX's version, the settings of the program and the shapes of its arguments.
"""

import dataclasses
import functools
import hashlib
import os
import pathlib
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

import flax
import jax
import numpy as np
from flax import linen as nn

import gesture_jax
from gesture_jax.errors import InputError
from gesture_jax.ops.cpu import conv
from gesture_jax.storage.cache import TRACED_DIR
from gesture_jax.storage.files import as_path, is_remote, remove_folder, write_beside

# Prefix of our folders in the cache folder, in which users may keep other files.
_PREFIX = "gesture_jax_traced_"
# Number of versions of the sources whose traces are kept.
_MAX_VERSIONS = 3
_DIGEST_BYTES = hashlib.sha256().digest_size
# Settings of JAX that change traces.
_SETTINGS = (
    "jax_default_matmul_precision", "jax_default_prng_impl", "jax_enable_x64",
    "jax_numpy_dtype_promotion", "jax_threefry_partitionable",
)  # fmt: skip


class CachedJit:
    """A compiled function of arrays with its settings bound; see `cached_jit`."""

    def __init__(self, function: Callable, settings: tuple, options: dict[str, str]):
        """Most users want `cached_jit`."""
        self._bound = functools.partial(function, *settings)
        self._options = options
        self._jitted = jax.jit(self._bound, compiler_options=options)
        self._name = f"{function.__module__}.{function.__qualname__}"
        self._description = describe((function, settings))
        self._functions: dict[Any, Any] = {}
        self._compiled: set[Any] = set()
        # A thread may be compiling ahead while another one calls.
        self._lock = threading.RLock()

    def __call__(self, *args: Any) -> Any:
        """Calls the function with trees of arrays."""
        with self._lock:
            function = self._find(args)
        return function(*args)

    def compile(self, *args: Any) -> None:
        """Compiles it for arrays of these shapes and devices, or fetches it from the cache."""
        with self._lock:
            if _key(args) not in self._compiled:
                self._find(args).lower(*args).compile()
                self._compiled.add(_key(args))

    def shapes(self, *args: Any) -> Any:
        """Returns the result's tree of `jax.ShapeDtypeStruct` without computing it."""
        exported = self._export(args)
        if exported is None:
            return jax.eval_shape(self._bound, *args)
        leaves = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in exported.out_avals]
        return jax.tree.unflatten(exported.out_tree, leaves)

    def is_kept(self, *args: Any) -> bool:
        """Returns whether an earlier process has traced it for such arguments."""
        path = self._path(_abstract(args))
        return path is not None and path.is_file()

    def _find(self, args: tuple) -> Any:
        key = _key(args)
        if key not in self._functions:
            exported = self._export(args)
            self._functions[key] = (
                self._jitted
                if exported is None
                else jax.jit(exported.call, compiler_options=self._options)
            )
        return self._functions[key]

    def _export(self, args: tuple) -> Any:
        """Returns the trace from its file, or makes and keeps it; None if none can be kept."""
        args = _abstract(args)
        path = self._path(args)
        if path is None:
            return None
        from jax import export  # It takes time to import.

        _register_nodes()
        data = _read(path)
        if data is not None:
            return export.deserialize(data)
        try:
            exported = export.export(jax.jit(self._bound))(*args)
        except (NotImplementedError, ValueError):  # JAX cannot export a part of it.
            return None
        _write(path, exported.serialize())
        return exported

    def _path(self, args: tuple) -> pathlib.Path | None:
        folder = os.environ.get(TRACED_DIR)
        if not folder or is_remote(folder) or self._description is None:
            return None
        settings = [getattr(jax.config, name) for name in _SETTINGS]
        about = (self._description, args, settings, jax.default_backend(), conv.uses_xla_conv())
        digest = hashlib.sha256(repr(about).encode()).hexdigest()[:32]
        return as_path(folder) / f"{_PREFIX}{_version()}" / f"{self._name}-{digest}"


@functools.cache
def cached_jit(function: Callable, *settings: Any, **options: str) -> CachedJit:
    """Returns `jax.jit` of a function with its settings bound, the same object for equal arguments.

    Its trace is kept if function and settings belong to this package and the environment variable
    `cache.TRACED_DIR` names a folder.

    Args:
      function: a function of settings and trees of arrays, at the top level of its module.
      *settings: its first arguments, such as networks, frozen dataclasses, numbers and strings.
      **options: compiler options of XLA.
    """
    return CachedJit(function, settings, options)


def compile_ahead(
    calls: Iterable[tuple[CachedJit, tuple]], *, only_kept: bool = False
) -> threading.Thread:
    """Compiles programs on a thread, one after the other, while other work is done.

    A thread that compiles cannot be stopped: if the process ends meanwhile, the thread finishes the
    current program first.

    Args:
      calls: programs with the arguments of `CachedJit.compile`; the thread iterates over them.
      only_kept: whether to stop at the first program that no earlier process has traced.

    Returns:
      The running thread; there is no need to wait for it.
    """

    def work() -> None:
        for program, args in calls:
            is_wanted = not only_kept or program.is_kept(*args)
            if not is_wanted or not threading.main_thread().is_alive():
                return
            program.compile(*args)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


_nodes: list[type] = []


def register_exportable(node: type) -> type:
    """Registers a dataclass of `flax.struct` that is an argument or a result of programs."""
    _nodes.append(node)
    return node


def _register_nodes() -> None:
    from jax import export

    while _nodes:
        node = _nodes.pop()
        # All of their fields are arrays.
        export.register_pytree_node_serialization(
            node,
            serialized_name=f"{node.__module__}.{node.__qualname__}",
            serialize_auxdata=lambda _: b"",
            deserialize_auxdata=lambda _: (),
        )


def _key(args: tuple) -> tuple:
    leaves, tree = jax.tree.flatten(args)
    return tree, tuple((np.shape(leaf), getattr(leaf, "dtype", type(leaf))) for leaf in leaves)


def _abstract(args: tuple) -> tuple:
    return jax.eval_shape(lambda *args: args, *args)


@functools.cache
def _version() -> str:
    """Returns a digest of the sources and libraries that all traces depend on."""
    package = as_path(gesture_jax.__file__).parent
    digest = hashlib.sha256(repr((jax.__version__, flax.__version__, np.__version__)).encode())
    for path in sorted(package.rglob("*.py")):
        digest.update(repr(path.relative_to(package).as_posix()).encode() + path.read_bytes())
    return digest.hexdigest()[:32]


def describe(value: Any) -> str | None:
    """Returns a text that is equal for equal values; None if a part is foreign to this package."""
    if isinstance(value, (bool, int, float, str, type(None))):
        return repr(value)
    if isinstance(value, tuple):
        items = [describe(item) for item in value]
        return None if None in items else f"({', '.join(map(str, items))})"
    if isinstance(value, (type, np.dtype)):  # Such as `jnp.float32`.
        try:
            return np.dtype(value).name
        except TypeError:
            return None
    if not getattr(value, "__module__", "").startswith("gesture_jax."):
        return None
    if dataclasses.is_dataclass(value):
        fields = {field.name for field in dataclasses.fields(value)}
        if isinstance(value, nn.Module):
            fields -= {"parent"}  # Modules that are settings have none.
        values = describe(tuple((name, getattr(value, name)) for name in sorted(fields)))
        return values and f"{type(value).__module__}.{type(value).__qualname__}{values}"
    name = getattr(value, "__qualname__", "")
    is_known = getattr(sys.modules[value.__module__], name, None) is value
    return f"{value.__module__}.{name}" if is_known else None


def _read(path: pathlib.Path) -> bytes | None:
    """Returns the content, or None if the file is missing or damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, data = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    return data if hashlib.sha256(data).digest() == digest else None


def _write(path: pathlib.Path, data: bytes) -> None:
    is_new = not path.parent.exists()
    try:
        with write_beside(path) as beside:
            beside.write_bytes(hashlib.sha256(data).digest() + data)
        if is_new:
            _remove_old(path.parent.parent)
    except (InputError, OSError):  # The next process traces it again.
        return


def _remove_old(folder: pathlib.Path) -> None:
    changed = lambda path: path.stat().st_mtime
    for version in sorted(folder.glob(f"{_PREFIX}*"), key=changed, reverse=True)[_MAX_VERSIONS:]:
        remove_folder(version)
