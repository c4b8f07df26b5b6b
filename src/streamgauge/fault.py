"""A connection that could not be made or kept, as an outcome. What the system says is mapped here and nowhere else."""

from __future__ import annotations

import errno

from streamgauge.sample import Outcome


class NetError(Exception):
    """A connection that could not be made or kept: the outcome it means, and the system's words."""

    def __init__(self, outcome: Outcome, words: str) -> None:
        super().__init__(words)
        self.outcome = outcome
        self.words = words

    def bare(self) -> NetError:
        """The same without the frames it was raised in, to be kept."""
        return NetError(self.outcome, self.words)


_OUTCOME = {
    errno.ECONNREFUSED: Outcome.CONNECT_REFUSED,
    errno.ECONNRESET: Outcome.DROPPED,
    errno.ETIMEDOUT: Outcome.CONNECT_TIMEOUT,
    errno.EMFILE: Outcome.CLIENT_LIMIT,
    errno.ENFILE: Outcome.CLIENT_LIMIT,
    errno.EADDRNOTAVAIL: Outcome.CLIENT_LIMIT,
    errno.ENOBUFS: Outcome.CLIENT_LIMIT,
    errno.ENOMEM: Outcome.CLIENT_LIMIT,
}


def net_error(error: OSError) -> NetError:
    """What a failed socket(), connect() or handshake means."""
    outcome = _OUTCOME.get(error.errno or 0, Outcome.UNREACHABLE)
    return NetError(outcome, error.strerror or str(error))
