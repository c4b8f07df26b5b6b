"""Whether this machine stood still while something was measured on it, and to measure again where it did.

What a service of known capacity or rhythm did is only found again on a machine that goes on: where a virtual processor
is taken away for a quarter of a second, the service itself was slow, and a report that says so is right.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
EVERY_S = 0.01
STILL_S = 0.2
TRIES = 3


@contextmanager
def longest_s() -> Iterator[list[float]]:
    """By how much a short sleep was overslept at most while the block ran, s: the list's only item."""
    found, over = [0.0], threading.Event()

    def look() -> None:
        before = time.monotonic()
        while not over.wait(EVERY_S):
            now = time.monotonic()
            found[0] = max(found[0], now - before - EVERY_S)
            before = now

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def steadily(measure: Callable[[], T]) -> T:
    """What `measure` finds, the first time that the machine did not stand still, or the third time in any case."""
    for _ in range(TRIES):
        with longest_s() as still:
            found = measure()
        if still[0] < STILL_S:
            break
    return found
