"""Counts what JAX compiles."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def recorded() -> Iterator[list[str]]:
    """Records an item for each program that any thread compiles, or fetches, inside the block."""
    found: list[str] = []
    listen = lambda event, *_, **__: found.append(event) if "backend_compile" in event else None
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
