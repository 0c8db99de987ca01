"""Items are computed in order, not too far ahead, by a thread that ends."""

import gc
import itertools
import threading
import time

import pytest

from gesture_jax.inference.prefetch import THREAD_NAME, Prefetch


def threads() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if each.name.startswith(THREAD_NAME)}


def assert_no_threads_but(before) -> None:
    """Waits for threads to finish the item that they are computing."""
    deadline = time.monotonic() + 10.0
    while threads() - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not threads() - before


@pytest.mark.parametrize("length", [0, 1, 3, 20])
def test_all_items_come_in_order(length):
    before = threads()
    prefetch = Prefetch(iter(range(length)), count=3)
    assert list(prefetch) == list(range(length)) and list(prefetch) == []
    assert_no_threads_but(before)


def test_no_more_items_are_computed_than_asked_for():
    computed = []
    prefetch = Prefetch((computed.append(n) or n for n in itertools.count()), count=4)
    assert [next(prefetch) for _ in range(5)] == [0, 1, 2, 3, 4]
    deadline = time.monotonic() + 10.0
    while len(computed) < 9 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)  # Long enough to compute one too many.
    assert len(computed) == 9


def test_an_error_arrives_where_its_item_would():
    def items():
        yield 1
        raise RuntimeError("broken")

    prefetch = Prefetch(items(), count=4)
    assert next(prefetch) == 1
    with pytest.raises(RuntimeError, match="broken"):
        next(prefetch)
    assert list(prefetch) == []


@pytest.mark.parametrize("taken", [0, 2])
def test_a_dropped_iterator_leaves_no_thread(taken):
    before = threads()
    prefetch = Prefetch(itertools.count(), count=4)
    assert list(itertools.islice(prefetch, taken)) == list(range(taken))
    assert threads() - before
    del prefetch
    gc.collect()
    assert_no_threads_but(before)
