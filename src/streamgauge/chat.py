"""A chat that goes on: what the next turn is asked with after an answer that ended early.

Rules: a chat is one slot's with one target. Kept of it is what was asked first and the end of the last answer, so that
no turn is much longer than the one before it: what is sent and paid for would else grow without end. A turn that
failed, or said nothing, ends the chat: there is nothing to go on from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from streamgauge.dialects.contract import fresh_id
from streamgauge.sample import GOOD
from streamgauge.stream import Stream

GO_ON = "Go on."
KEPT = 4_000
"""Characters of the last answer, some 1,000 tokens: enough to go on from."""


@dataclass(frozen=True, slots=True)
class Chat:
    """What is known of a chat before its next turn. `lasted_ns`: its answers together, from sent to end."""

    id: str
    asked: str
    said: str = ""
    lasted_ns: int = 0

    @property
    def before(self) -> tuple[tuple[str, str], ...]:
        """The earlier turns that the next one is sent with."""
        return ((self.asked, self.said),) if self.said else ()

    @property
    def prompt(self) -> str:
        """What the next turn asks."""
        return GO_ON if self.said else self.asked


def begun(prompt: str) -> Chat:
    """A new chat."""
    return Chat(fresh_id(), prompt)


def after(chat: Chat, stream: Stream, chat_ns: int) -> Chat | None:
    """The chat after the turn that `stream` was (one that kept its text); None where it is over."""
    said, sent, end = stream.text, stream.sent_ns, stream.end_ns
    if stream.outcome not in GOOD or not said or sent is None or end is None:
        return None
    lasted_ns = chat.lasted_ns + end - sent
    return replace(chat, said=said[-KEPT:], lasted_ns=lasted_ns) if lasted_ns < chat_ns else None
