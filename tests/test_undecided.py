"""What an undecided run says to do next; "close to a limit" is never said of one that was short."""

from __future__ import annotations

from pathlib import Path

import pytest

from folders import run_folder
from made import run_of
from streamgauge.suite.assess import assess
from test_verdict import P95, criterion

RUN = "streamgauge run ttft --url http://h/x"


def next_step(root: Path, n: int, rerun: str = RUN, *, preset: str = "standard", gating: bool = False, **held: object):
    asked = [criterion(P95, gating=gating)]
    usual = {"requests": 400, "targets": ["app"], "prompts": ["short"], **held}
    document = assess(run_folder(root, run_of([100.0] * n), asked, preset=preset, rerun=rerun, settings=usual)).document
    assert document.verdict == "inconclusive"
    return document.next_step


@pytest.mark.parametrize(
    ("rerun", "preset", "held", "says"),
    [
        (f"{RUN} --duration 5s --seed 1", "standard", {"duration_s": 5.0},
         f"leave out --duration, the preset's own length decides more: {RUN} --seed 1"),
        (f"{RUN} --requests 20 --duration=5s", "pr", {"duration_s": 5.0},
         f"leave out --requests and --duration, the preset's own length decides more: {RUN}"),
        (f"{RUN} --requests 20", "standard", {"duration_s": None},
         f"leave out --requests, the preset's own length decides more: {RUN}"),
        (f"{RUN} --preset smoke --seed 1", "smoke", {"duration_s": None},
         f"a larger preset decides more: {RUN} --seed 1 --preset standard"),
        (RUN, "full", {"duration_s": None},
         "run it longer, or with more requests: too little was seen of what gates to decide it"),
        ("streamgauge demo", "smoke", {"duration_s": None},
         "a larger preset decides more: streamgauge run ttft --url URL --preset standard"),
    ],
)  # fmt: skip
def test_a_run_that_was_too_short_says_so(
    tmp_path: Path, rerun: str, preset: str, held: dict[str, object], says: str
) -> None:
    assert next_step(tmp_path, 20, rerun, preset=preset, **held) == says


def test_a_duration_longer_than_the_presets_own_is_not_left_out(tmp_path: Path) -> None:
    """`concurrent` holds for 10 minutes by itself at most."""
    document = assess(
        run_folder(
            tmp_path, run_of([100.0] * 20), [criterion(P95, gating=False)], test="concurrent", preset="standard",
            rerun="streamgauge run concurrent --duration 2h",
            settings={"duration_s": 7_200.0, "targets": ["app"], "prompts": ["short"]},
        )
    ).document  # fmt: skip
    assert "--duration" not in document.next_step
    assert "run it longer" in document.next_step


def test_only_what_lies_close_to_its_limit_is_said_to(tmp_path: Path) -> None:
    """Exactly 5 % over the limit: no number of requests is known to settle it."""
    even = [1_500.0 if n % 20 == 0 else 100.0 for n in range(4_000)]
    asked = [criterion(P95)]
    settings = {"requests": 4_000, "targets": ["app"], "prompts": ["short"]}
    document = assess(run_folder(tmp_path, run_of(even), asked, preset="full", settings=settings)).document
    assert document.verdict == "inconclusive"
    assert "close to a limit" in document.next_step
