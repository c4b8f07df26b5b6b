"""The compiled part (native/drain.c), where the installation has it and STREAMGAUGE_PURE is not set.

Whatever it does is there in plain Python too, with the same contract and the same tests; it only costs less.
"""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType


def _found() -> ModuleType | None:
    if os.environ.get("STREAMGAUGE_PURE", "") not in ("", "0"):
        return None
    try:
        return import_module("streamgauge._drain")
    except ImportError:
        return None


part = _found()
MADE_OF = "compiled" if part else "pure Python"
"""Which of the two runs here."""
