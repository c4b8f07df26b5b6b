"""A piece of work done in a child process while this one does something else: two cores instead of one.

Rules: the child is a fork, so it sees what this process holds without a copy. It gives back what it wrote to disk, and
what its work returns. What it raises is raised here. Where the block fails, the child is ended before anything else
happens. It is only for where a fork is safe (`possible`).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


def possible() -> bool:
    """Whether a fork is safe here: on Linux, with no other thread that could hold a lock, and allowed to have one."""
    alone = threading.active_count() == 1 and not multiprocessing.current_process().daemon
    return sys.platform == "linux" and alone


def both(there: Callable[[], T], here: Callable[[], U]) -> tuple[T, U]:
    """What the two give, the first of them done in a child; where a fork is not safe, one after the other."""
    if not possible():
        return there(), here()
    with doing(there) as given:
        mine = here()
    return given[0], mine


@contextlib.contextmanager
def doing(work: Callable[[], T]) -> Iterator[list[T]]:
    """Do `work` in a child while the block runs, and wait for both; what it gave is then in the list.

    RuntimeError where the child ended without a word (killed, out of memory).
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(work, theirs), daemon=True)
    given: list[T] = []
    with warnings.catch_warnings():  # numpy's threads are no danger: they end before a fork
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        child.start()
    theirs.close()
    try:
        yield given
        try:
            found, raised = ours.recv()
        except EOFError:
            child.join()
            raised = RuntimeError(f"the process that wrote beside this one ended {child.exitcode}")
        if raised is not None:
            raise raised
        given.append(found)
    finally:
        child.terminate()
        child.join()
        ours.close()


def _work(work: Callable[[], object], tell: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both: the parent hears it and ends this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        found = work()
    except Exception as error:  # raised again where it is waited for, and only here is it known where it came from
        error.add_note(f"In the process that wrote beside this one:\n{traceback.format_exc()}")
        tell.send((None, error))
    else:
        tell.send((found, None))
