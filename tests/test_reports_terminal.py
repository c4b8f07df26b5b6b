"""The terminal's screen: one screen, 100 columns, nothing that moves a cursor."""

from __future__ import annotations

import unicodedata

import pytest
from msgspec.structs import replace
from rich.cells import cell_len

from documents import ALL, failing, inconclusive, partial, passing
from hostile import HOSTILE, hostile
from streamgauge.reports import terminal
from streamgauge.reports.quality import quality_rows


@pytest.mark.parametrize("name", ALL)
def test_it_fits_one_screen_of_100_columns(name: str):
    document = ALL[name]()[0]
    lines = terminal.render(document).splitlines()
    assert len(terminal.render(replace(document, checklist=[], silenced={})).splitlines()) <= 24
    assert len(lines) <= 28, "the root causes of a fail may go beyond it"
    assert max(cell_len(line) for line in lines) <= 100


@pytest.mark.parametrize("text", [*HOSTILE, "漢字" * 60, "[bold red]markup[/]", ""])
def test_no_text_moves_the_cursor_or_leaves_its_column(text: str):
    for width in (60, 80, 100):
        screen = terminal.render(hostile(text)[0], width)
        assert all(unicodedata.category(char) not in ("Cc", "Cf", "Cs") or char == "\n" for char in screen)
        assert max(cell_len(line) for line in screen.splitlines()) <= width


def test_the_pieces_say_the_same_as_the_text():
    document = failing()[0]
    joined = ["".join(text for text, _ in line).rstrip() for line in terminal.lines(document)]
    assert "\n".join(joined) + "\n" == terminal.render(document)


def test_the_first_line_names_verdict_run_and_severity():
    first = terminal.render(failing()[0]).splitlines()[0]
    assert " ".join(first.split()) == "✗ FAIL ttft staging 7f3a1c2 1,200 requests 2m58s $0.65 severity P0"
    assert "partial" in terminal.render(partial()[0]).splitlines()[0]


def test_the_first_line_says_how_many_streams_were_held_and_which_rate_was_kept():
    document = passing()[0]

    def first(**more: dict[str, float | None]) -> str:
        measured = replace(document.measurement, **more)
        return terminal.render(replace(document, test="concurrent", measurement=measured)).splitlines()[0]

    level = {"requests": None, "streams": 100.0, "rate_per_s": None}
    assert "  800 requests  held 98 of 100 streams  " in first(planned=level, achieved={"streams": 98.0})
    rate = {"requests": None, "streams": None, "rate_per_s": 5.0}
    assert "  800 requests  4.93 of 5 requests/s  " in first(planned=rate, achieved={"rate_per_s": 4.93})
    assert "rate per s" not in dict(quality_rows(replace(document, measurement=replace(
        document.measurement, planned=level, achieved={"streams": 98.0}))))  # fmt: skip


def test_the_slowest_stream_is_told_with_its_time():
    assert "Slowest stream: gemini-flash, first token after 1,297 ms, trace " in terminal.render(passing()[0])
    assert "Slowest stream: gemini-flash, no token, first token timeout after" in terminal.render(
        replace(failing()[0], findings=[])
    )


def test_findings_take_the_place_of_the_slowest_stream():
    screen = terminal.render(failing()[0])
    assert "Found: claude-sonnet: Your app, not the provider, makes claude-sonnet slow. Remedy: Look at the" in screen
    assert "Slowest stream" not in screen


def test_a_target_line_reads_like_the_table_of_the_report():
    lines = terminal.render(failing()[0]).splitlines()
    assert "  ✗ claude-sonnet     398/400       702  1,215 [1,136-1,303]" in "\n".join(lines)
    assert any(line.startswith("  · anthropic-direct") for line in lines)


def test_what_is_open_says_what_would_settle_it():
    screen = terminal.render(inconclusive()[0])
    assert "? TTFT p99 < 2,000 ms, chat (shown): undecided: p99 is 1,721 ms, 95 % sure above 1,492 ms;" in screen
    assert "1 of 5 criteria met" in screen
    assert screen.rstrip().endswith("Next: streamgauge run ttft --env staging --requests 470")


def test_many_targets_and_criteria_still_fit():
    document = failing()[0]
    many = replace(
        document,
        groups=[replace(document.groups[0], target=f"target-{i:03}") for i in range(80)],
        criteria=[replace(document.criteria[4], target=f"target-{i:03}") for i in range(80)],
    )
    lines = terminal.render(many).splitlines()
    assert len(lines) <= 45
    assert "    and 68 more in the report" in lines
    assert "  and 72 more in the report" in lines
