"""Every test sees eight simulated devices, so that sharding is real everywhere."""

import os
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Programs that several tests or commands need are compiled once a session.
_CACHE = tempfile.TemporaryDirectory(prefix="gesture_jax_test_xla_")
os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name

import jax  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)
