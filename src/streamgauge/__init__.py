"""Streamgauge measures, judges and watches services that stream LLM tokens.

The public names are imported when first used, so that `import streamgauge` and `streamgauge --help` stay quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from streamgauge.client import StreamClient
    from streamgauge.reports import ReportGenerator
    from streamgauge.sample import Outcome, Sample
    from streamgauge.summary import MetricsCollector

__all__ = ["MetricsCollector", "Outcome", "ReportGenerator", "Sample", "StreamClient", "__version__"]

_HOME = {
    "MetricsCollector": "streamgauge.summary",
    "Outcome": "streamgauge.sample",
    "ReportGenerator": "streamgauge.reports",
    "Sample": "streamgauge.sample",
    "StreamClient": "streamgauge.client",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'streamgauge' has no attribute {name!r}; it has {', '.join(__all__)}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
