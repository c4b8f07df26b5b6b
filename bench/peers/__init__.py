"""Load clients compared: each holds C streams of a server in C that knows when it wrote, all started at once.

Told: the TTFT quantiles that the tool reports itself. True: the same quantiles by the server's log, from the whole
request to just before the first write. Error: told over true, less one. Open: streams really open, the mean from the
first request to the last end. Processor time is that of all the tool's processes: a token under load, and of the whole
run with start-up and reports. Memory is the largest sum of resident sets. A tool whose p95 is off by more than 100 %,
or that fails, is not taken further.
"""

from __future__ import annotations

from bench.peers.compare import measure, options

__all__ = ["measure", "options"]
