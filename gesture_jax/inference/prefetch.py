"""Computes the items of an iterator on a background thread, a bounded number ahead of their use."""

import collections
import concurrent.futures
import functools
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
THREAD_NAME = "gesture_jax-prefetch"
_END = object()


class Prefetch(Iterator[T], Generic[T]):
    """An iterator whose next items are already being computed.

    It holds at most `count` items. Its thread ends with the last item, and also when the iterator
    is dropped half-way, as it holds no reference to it.
    """

    def __init__(self, items: Iterable[T], *, count: int):
        """Starts at once.

        Args:
          items: what to iterate over; used by the background thread only.
          count: how many items may be ready before they are taken.
        """
        self._pool = concurrent.futures.ThreadPoolExecutor(1, THREAD_NAME)
        self._compute_next = functools.partial(next, iter(items), _END)
        self._pending = collections.deque(
            self._pool.submit(self._compute_next) for _ in range(count)
        )

    def __next__(self) -> T:
        """The next item; raises what its computation raised."""
        if not self._pending:
            raise StopIteration
        item = self._pending.popleft().result()
        if item is _END:
            self.close()
            raise StopIteration
        self._pending.append(self._pool.submit(self._compute_next))
        return item

    def close(self) -> None:
        """Ends the thread once the item that it is computing is done; nothing follows."""
        self._pending.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __del__(self) -> None:
        self.close()
