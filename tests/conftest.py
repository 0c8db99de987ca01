"""Every test has eight simulated devices, so that arrays are really sharded."""

import gc
import os
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
_FLAGS = (
    # Without this, simulated devices hang in programs from the compilation cache: each of them
    # runs its collectives in another order.
    "--xla_cpu_enable_concurrency_optimized_scheduler=false",
    # Most tests compile much and compute little: these two halve the time that a step needs for
    # its compilation. Slow tests run each command without them, as users do.
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_FLAGS]).strip()
# Commands do this too: Python spends a tenth of a program's time on looking for garbage.
gc.set_threshold(100_000)
# What several tests or commands compile is compiled once per session, for all of its workers.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="gesture_jax_test_xla_")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
else:
    # Some tests call librosa: two workers that compile it at once would damage a shared cache.
    folder = f"numba_{os.environ['PYTEST_XDIST_WORKER']}"
    os.environ["NUMBA_CACHE_DIR"] = f"{os.environ['JAX_COMPILATION_CACHE_DIR']}/{folder}"

import jax  # noqa: E402
import pytest  # noqa: E402

from gesture_jax.ops.cpu import conv  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture(scope="module")
def quickly_compiled():
    """Makes compilation faster and programs slower: tests compile much and compute little."""
    with pytest.MonkeyPatch.context() as patch:
        jax.config.update("jax_disable_most_optimizations", True)
        # Winograd, which compiles long, is turned off. `conv.use_xla_conv` would turn off our own
        # gradients too, and XLA without optimisations makes slow loops of JAX's.
        for minima in ("_FORWARD_MINIMA", "_GRADIENT_MINIMA"):
            patch.setattr(conv, minima, ())
        yield
    jax.config.update("jax_disable_most_optimizations", False)


# These files take longest. They start first, so that no worker is left alone with one at the end.
_LONGEST = [
    "commands_test.py", "loop_test.py", "scale_test.py", "resume_test.py", "buckets_test.py",
    "endings_test.py", "numbers_test.py", "parity_test.py", "launch_test.py", "package_test.py",
    "tpu_compile_test.py", "app_test.py", "comparison_test.py", "videos_test.py",
]  # fmt: skip


# Tests that use these fixtures are slow: a whole run in a bucket, and the built wheel.
_SLOW_FIXTURES = {"in_bucket", "wheel"}


@pytest.hookimpl(tryfirst=True)  # Before tests are selected by their marks.
def pytest_collection_modifyitems(items):
    for item in items:
        if not _SLOW_FIXTURES.isdisjoint(item.fixturenames):
            item.add_marker(pytest.mark.slow)
    position = {name: number for number, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: position.get(item.path.name, len(_LONGEST)))
