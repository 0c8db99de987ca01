"""Every test sees eight simulated devices, so that sharding is real everywhere."""

import gc
import math
import os
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
_FLAGS = (
    # Simulated devices hang in a program that comes from the compilation cache, as each does its
    # collectives in another order, unless it is scheduled so.
    "--xla_cpu_enable_concurrency_optimized_scheduler=false",
    # Most tests compile much and compute little: these two halve the time that a step takes to
    # compile.
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_FLAGS]).strip()
# As commands do: Python looks for garbage a tenth of a program's time.
gc.set_threshold(100_000)
# Programs that several tests or commands need are compiled once a session, for all of its workers.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="gesture_jax_test_xla_")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
else:
    # Tests call librosa themselves: two that compile it at once would spoil what they share.
    folder = f"numba_{os.environ['PYTEST_XDIST_WORKER']}"
    os.environ["NUMBA_CACHE_DIR"] = f"{os.environ['JAX_COMPILATION_CACHE_DIR']}/{folder}"

import jax  # noqa: E402
import pytest  # noqa: E402

from gesture_jax.ops.cpu import conv  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture(scope="module")
def quickly_compiled():
    """For tests that compile much and compute little."""
    with pytest.MonkeyPatch.context() as patch:
        jax.config.update("jax_disable_most_optimizations", True)
        # Winograd, which compiles long, is turned off. `conv.use_xla_conv` would turn off our own
        # gradients too, and XLA without optimisations makes slow loops of JAX's.
        for least in ("_FORWARD_MINIMUM", "_GRADIENT_MINIMUM"):
            patch.setattr(conv, least, conv.Minimum(math.inf, 0))
        yield
    jax.config.update("jax_disable_most_optimizations", False)
