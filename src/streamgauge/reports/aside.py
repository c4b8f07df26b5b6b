"""A piece of work done in a child process while this one does something else: two cores instead of one.

Rules: the child is a fork, so it sees what this process holds without a copy, and gives nothing back but what it wrote
to disk. What it raises is raised here. Where the block fails, the child is ended before anything else happens. It is
only for where a fork is safe (`possible`).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection


def possible() -> bool:
    """Whether a fork is safe here: on Linux, with no other thread that could hold a lock, and allowed to have one."""
    alone = threading.active_count() == 1 and not multiprocessing.current_process().daemon
    return sys.platform == "linux" and alone


@contextlib.contextmanager
def doing(work: Callable[[], None]) -> Iterator[None]:
    """Do `work` in a child while the block runs, and wait for both.

    RuntimeError where the child ended without a word (killed, out of memory).
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(work, theirs), daemon=True)
    child.start()
    theirs.close()
    try:
        yield
        try:
            raised = ours.recv()
        except EOFError:
            child.join()
            raised = RuntimeError(f"the process that wrote beside this one ended {child.exitcode}")
        if raised is not None:
            raise raised
    finally:
        child.terminate()
        child.join()
        ours.close()


def _work(work: Callable[[], None], tell: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both: the parent hears it and ends this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        work()
    except Exception as error:  # raised again where it is waited for, and only here is it known where it came from
        error.add_note(f"In the process that wrote beside this one:\n{traceback.format_exc()}")
        tell.send(error)
    else:
        tell.send(None)
