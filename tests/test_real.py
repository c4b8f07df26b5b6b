"""The rule of tests with real things, and of what they are installed from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from real import require

ROOT = Path(__file__).parent.parent


def test_what_cannot_be_had_is_skipped_with_its_reason_and_fails_where_it_is_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require(True, "nothing")
    monkeypatch.delenv("STREAMGAUGE_REQUIRE_REAL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="a model cannot be had"):
        require(False, "a model")
    monkeypatch.setenv("STREAMGAUGE_REQUIRE_REAL", "1")
    with pytest.raises(pytest.fail.Exception, match="a model cannot be had, and STREAMGAUGE_REQUIRE_REAL is set"):
        require(False, "a model")


def test_continuous_integration_requires_real_things_and_runs_every_test() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert script.index("export STREAMGAUGE_REQUIRE_REAL=1") < script.index("\nmake test\n")


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_pinned_requirements_are_names_and_versions_and_no_address(path: Path) -> None:
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    assert len(lines) > 5
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9._-]+==[a-z0-9.+!]+(?: ; .+)?", line)] == []
