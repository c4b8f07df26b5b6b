"""The simulator as a target: three providers with the strategy's baselines, as a spec of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from streamgauge.dialects import with_options
from streamgauge.simulator import start
from streamgauge.spec.load import Spec, load_spec

SPEC = """\
# The built-in simulator, speaking as three providers.
[environments.simulator]
url = "{url}"
kind = "local"
max = {{ usd = 100 }}  # list prices of what costs nothing here

[probes.simulator]
kind = "json"
path = "/probe"

[targets.gpt-4o-mini]
path = "/v1/chat/completions"
dialect = "openai-chat"
model = "gpt-4o-mini"
usd_per_mtok = {{ in = 0.15, out = 0.60 }}

[targets.claude-3-5-sonnet]
path = "/v1/messages"
dialect = "anthropic"
model = "claude-3-5-sonnet"
usd_per_mtok = {{ in = 3, out = 15 }}

[targets.gemini-2-flash]
path = "/v1beta/models/{{model}}:streamGenerateContent?alt=sse"
dialect = "gemini"
model = "gemini-2.0-flash"
usd_per_mtok = {{ in = 0.10, out = 0.40 }}
"""


@contextmanager
def simulated_spec(sets: tuple[str, ...] = (), faults: tuple[str, ...] = ()) -> Iterator[Spec]:
    """A spec whose targets are a simulator that lives as long as the block."""
    with start(log=False, faults=faults) as simulator, TemporaryDirectory(prefix="streamgauge-") as folder:
        path = Path(folder) / "streamgauge.toml"
        path.write_text(SPEC.format(url=simulator.url), "utf-8")
        yield load_spec(path, speak=with_options, environ=os.environ, sets=sets)
