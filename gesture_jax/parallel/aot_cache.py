"""Programs that are traced once a machine, as they are compiled once.

JAX keeps what it compiled, and finds it again by what it traced; tracing is Python, which takes
seconds for the networks of `paper`. So the trace is kept too, as `jax.export` writes it, under all
that it follows from: our sources, JAX's version, the program's settings and the shapes given to it.
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

# Of the folders in it that are ours: users may name one that holds more.
_PREFIX = "gesture_jax_traced_"
# Of sources; what older ones made is removed.
_MOST_VERSIONS = 3
_DIGEST_BYTES = hashlib.sha256().digest_size
# Settings of JAX's that change what is traced.
_SETTINGS = (
    "jax_default_matmul_precision", "jax_default_prng_impl", "jax_enable_x64",
    "jax_numpy_dtype_promotion", "jax_threefry_partitionable",
)  # fmt: skip


class CachedJit:
    """A compiled function of arrays, whose settings are bound to it. See `cached_jit`."""

    def __init__(self, function: Callable, settings: tuple, options: dict[str, str]):
        """Most users want `cached_jit`."""
        self._bound = functools.partial(function, *settings)
        self._options = options
        self._jitted = jax.jit(self._bound, compiler_options=options)
        self._name = f"{function.__module__}.{function.__qualname__}"
        self._told = _tell((function, settings))
        self._made: dict[Any, Any] = {}
        self._compiled: set[Any] = set()
        # One thread may compile ahead what another one waits for.
        self._lock = threading.RLock()

    def __call__(self, *args: Any) -> Any:
        """What the function makes of trees of arrays."""
        with self._lock:
            function = self._find(args)
        return function(*args)

    def compile(self, *args: Any) -> None:
        """Ahead of a call with arrays of these shapes and devices, or fetched if it was before."""
        with self._lock:
            if _key(args) not in self._compiled:
                self._find(args).lower(*args).compile()
                self._compiled.add(_key(args))

    def shapes(self, *args: Any) -> Any:
        """The tree of `jax.ShapeDtypeStruct` that comes of such arguments, nothing computed."""
        exported = self._export(args)
        if exported is None:
            return jax.eval_shape(self._bound, *args)
        leaves = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in exported.out_avals]
        return jax.tree.unflatten(exported.out_tree, leaves)

    def is_kept(self, *args: Any) -> bool:
        """Whether an earlier process has traced it for such arguments."""
        path = self._path(_abstract(args))
        return path is not None and path.is_file()

    def _find(self, args: tuple) -> Any:
        key = _key(args)
        if key not in self._made:
            exported = self._export(args)
            self._made[key] = (
                self._jitted
                if exported is None
                else jax.jit(exported.call, compiler_options=self._options)
            )
        return self._made[key]

    def _export(self, args: tuple) -> Any:
        """The trace, from its file or made and kept there; None where none is kept."""
        args = _abstract(args)
        path = self._path(args)
        if path is None:
            return None
        from jax import export  # Not without need.

        _register_nodes()
        data = _read(path)
        if data is not None:
            return export.deserialize(data)
        try:
            exported = export.export(jax.jit(self._bound))(*args)
        except (NotImplementedError, ValueError):  # It has a part that JAX does not export.
            return None
        _write(path, exported.serialize())
        return exported

    def _path(self, args: tuple) -> pathlib.Path | None:
        folder = os.environ.get(TRACED_DIR)
        if not folder or is_remote(folder) or self._told is None:
            return None
        settings = [getattr(jax.config, name) for name in _SETTINGS]
        about = (self._told, args, settings, jax.default_backend(), conv.uses_xla_conv())
        digest = hashlib.sha256(repr(about).encode()).hexdigest()[:32]
        return as_path(folder) / f"{_PREFIX}{_version()}" / f"{self._name}-{digest}"


@functools.cache
def cached_jit(function: Callable, *settings: Any, **options: str) -> CachedJit:
    """`jax.jit` of a function with its settings bound, the same one for equal ones.

    Its trace is kept where function and settings are this package's own and the environment
    variable `cache.TRACED_DIR` names a folder.

    Args:
      function: of settings and trees of arrays; a module's own, by whose name its trace is found.
      *settings: its first arguments: networks, frozen dataclasses, numbers, texts.
      **options: of XLA.
    """
    return CachedJit(function, settings, options)


def compile_ahead(
    calls: Iterable[tuple[CachedJit, tuple]], *, only_kept: bool = False
) -> threading.Thread:
    """Compiles programs on a thread, one after the other, while other work is done.

    A thread that compiles cannot be stopped: where the process ends meanwhile, it ends after the
    program at hand.

    Args:
      calls: programs with the arguments of `CachedJit.compile`; asked for on that thread.
      only_kept: ends at the first one that no earlier process traced.

    Returns:
      The thread, at work; no call has to wait for it.
    """

    def work() -> None:
        for each, args in calls:
            is_wanted = not only_kept or each.is_kept(*args)
            if not is_wanted or not threading.main_thread().is_alive():
                return
            each.compile(*args)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


_nodes: list[type] = []


def register_exportable(node: type) -> type:
    """Marks a dataclass of `flax.struct` that programs take or make."""
    _nodes.append(node)
    return node


def _register_nodes() -> None:
    from jax import export

    while _nodes:
        node = _nodes.pop()
        # All that they hold are arrays.
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
    """A digest of the sources and libraries that all traces depend on."""
    package = as_path(gesture_jax.__file__).parent
    digest = hashlib.sha256(repr((jax.__version__, flax.__version__, np.__version__)).encode())
    for path in sorted(package.rglob("*.py")):
        digest.update(repr(path.relative_to(package).as_posix()).encode() + path.read_bytes())
    return digest.hexdigest()[:32]


def _tell(value: Any) -> str | None:
    """A text that is equal for equal values; None where something is not this package's own."""
    if isinstance(value, (bool, int, float, str, type(None))):
        return repr(value)
    if isinstance(value, tuple):
        told = [_tell(item) for item in value]
        return None if None in told else f"({', '.join(map(str, told))})"
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
            fields -= {"parent"}  # None of those that are bound here has any.
        told = _tell(tuple((name, getattr(value, name)) for name in sorted(fields)))
        return told and f"{type(value).__module__}.{type(value).__qualname__}{told}"
    name = getattr(value, "__qualname__", "")
    is_known = getattr(sys.modules[value.__module__], name, None) is value
    return f"{value.__module__}.{name}" if is_known else None


def _read(path: pathlib.Path) -> bytes | None:
    """None where it is not there or damaged."""
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
    except (InputError, OSError):  # What is not kept is traced again, as by JAX what it compiles.
        return


def _remove_old(folder: pathlib.Path) -> None:
    changed = lambda path: path.stat().st_mtime
    for version in sorted(folder.glob(f"{_PREFIX}*"), key=changed, reverse=True)[_MOST_VERSIONS:]:
        remove_folder(version)
