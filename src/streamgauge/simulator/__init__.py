"""A streaming LLM provider with known truth, for tests of this product and of yours.

    from streamgauge.simulator import start

    with start(faults=["stall=0.1:3s"]) as sim:
        ...  # send requests to sim.endpoint("openai-chat")
        for record in sim.log(at_least=1):
            print(record.outcome, record.ttft_ns)

It shares no code with the part of the product that reads streams, so it can judge it. See docs/simulator.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamgauge.simulator.handle import Simulator, start
    from streamgauge.simulator.options import Options
    from streamgauge.simulator.truth import Record, Sent, read

__all__ = ["Options", "Record", "Sent", "Simulator", "read", "start"]

_HOME = {
    "Options": "options",
    "Record": "truth",
    "Sent": "truth",
    "Simulator": "handle",
    "read": "truth",
    "start": "handle",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
