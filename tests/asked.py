"""How many requests a simulator has answered so far, without a race: its log is written in the order of the ends."""

from __future__ import annotations

from streamgauge import StreamClient
from streamgauge.simulator import Record, Simulator


def asked(simulator: Simulator) -> int:
    """The requests whose end is in the log, once a request of our own, sent last, is there too (and counted)."""
    with StreamClient(simulator.url, dialect="openai-chat", model="sim-t0-i0-n1") as client:
        last = client.ask("the last one").sample.id
    mine = ended(simulator, last)
    return simulator.log().index(mine) + 1


def ended(simulator: Simulator, trace_id: str) -> Record:
    """The record of one request, as soon as its end is in the log."""
    seen = 0
    while True:
        records = simulator.log(at_least=seen + 1)
        for record in records:
            if record.trace_id == trace_id:
                return record
        seen = len(records)
