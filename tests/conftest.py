"""Every test sees eight simulated devices, so that sharding is real everywhere."""

import os
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Simulated devices hang in a program that comes from the compilation cache, as each does its
# collectives in another order, unless it is scheduled so.
_SCHEDULER = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_SCHEDULER}".strip()
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

from gesture_jax.ops import conv  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture(scope="module")
def quickly_compiled():
    """For tests that compile much and compute little."""
    jax.config.update("jax_disable_most_optimizations", True)
    convolutions = conv._plain.set(True)
    yield
    conv._plain.reset(convolutions)
    jax.config.update("jax_disable_most_optimizations", False)
