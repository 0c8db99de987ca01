"""Every test sees eight simulated devices, so that sharding is real everywhere."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

jax.config.update("jax_num_cpu_devices", 8)
