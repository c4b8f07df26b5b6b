"""What the tests with real things stand on.

Rule: where a real server, SDK, model or browser cannot be had, its test is skipped and says what is missing; under
STREAMGAUGE_REQUIRE_REAL=1, which continuous integration sets, it fails instead.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

PYTHON = Path(os.environ.get("STREAMGAUGE_REAL_PYTHON", ".real/venv/bin/python"))
"""The Python that has the official SDKs."""
NODE = Path(os.environ.get("STREAMGAUGE_REAL_NODE", ".real/node"))
"""The folder whose node_modules has the AI SDK. Both are made by scripts/real-setup."""
MODEL = next(iter(sorted(Path(os.environ.get("STREAMGAUGE_REAL_MODEL", ".real/model")).glob("*.gguf"))), None)
"""A small model's weights, by scripts/real-setup as well; the variable names their folder."""


def require(condition: object, what: str) -> None:
    """Skip the test that calls it, or fail it where real things are required, unless `condition` holds."""
    if condition:
        return
    if os.environ.get("STREAMGAUGE_REQUIRE_REAL") == "1":
        pytest.fail(f"{what} cannot be had, and STREAMGAUGE_REQUIRE_REAL is set")
    pytest.skip(f"{what} cannot be had")


def node() -> str | None:
    """The command that runs Node, if it is here."""
    return shutil.which("node")
