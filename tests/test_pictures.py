"""The pictures of long and hard runs on a page: drawn from the JSON alone, small, and only with something to see."""

from __future__ import annotations

import html
import re
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

import pictured
from hostile import HOSTILE, soiled
from streamgauge.reports import ReportGenerator, charts
from streamgauge.reports.document import Document
from streamgauge.reports.svg import WIDE, Frame
from test_endurance import run as endurance_run
from test_endurance import stream as aged
from test_reports_html import ALLOWED, Page, page_of


@pytest.fixture(scope="module")
def leaking(tmp_path_factory: pytest.TempPathFactory) -> Document:
    return pictured.leaking(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def leaking_page(leaking: Document) -> Page:
    return page_of(leaking)


@pytest.fixture(scope="module")
def long_streams() -> Document:
    return pictured.long_streams()


@pytest.fixture(scope="module")
def long_page(long_streams: Document) -> Page:
    return page_of(long_streams)


def headings(page: Page) -> list[str]:
    return re.findall(r"<h[23][^>]*>([^<]*)<", page.source)


def pictures(page: Page) -> dict[str, str]:
    """Title and width -> the SVG."""
    found = re.findall(r"<svg.*?</svg>", page.source, re.S)
    named = [(re.findall(r"<title id=\"[^\"]*-(\d+)-title\">([^<]*)<", one), one) for one in found]
    return {f"{html.unescape(name[0][1])} ({name[0][0]})": one for name, one in named}


def test_memory_is_drawn_in_its_section_with_the_growth_that_the_section_tells(leaking: Document, leaking_page: Page):
    assert headings(leaking_page).count("Memory of the server") == 1
    assert {"The server's memory over the run (920)", "The server's memory over the run (352)"} <= set(
        pictures(leaking_page)
    )
    assert leaking.memory is not None
    told = leaking.memory.series[0].growth_mb_per_h
    assert told is not None
    assert f"heap grows by {told:.0f} MB/h" in leaking_page.text
    assert {"hold 10", "burst 50"} <= set(re.findall(r"(?:hold|burst) \d+", leaking_page.text))


def test_a_report_rendered_from_its_json_alone_has_the_same_pictures(leaking: Document, leaking_page: Page):
    again = msgspec.json.decode(ReportGenerator(leaking).json(), type=Document)

    assert pictures(page_of(again)) == pictures(leaking_page)


def test_lives_of_a_test_that_is_not_about_them_have_a_section_of_their_own(long_page: Page):
    assert headings(long_page).count("Lives of the streams") == 1
    assert re.search(r"\d+ of 120 lanes are drawn: the worst, and an even sample of the others", long_page.text)
    assert "deaths at 1m00s" in long_page.text
    assert not {"Memory of the server", "TTFT as a heat map"} & set(headings(long_page))


def test_every_picture_has_its_numbers_as_a_table(leaking_page: Page, long_page: Page):
    for page in (leaking_page, long_page):
        after = re.findall(r"</figure>\s*(<\w+)", page.source)
        assert after
        slowest = "The slowest requests" in headings(page)
        assert after.count("<details") == len(after) - slowest, "that one has its table below it"


def test_a_set_up_that_was_wrong_has_no_pictures(long_streams: Document):
    assert not pictures(page_of(replace(long_streams, set_up="auth_error")))


def test_a_page_with_all_of_them_at_their_largest_stays_under_two_megabytes(leaking: Document):
    page = page_of(pictured.everything(leaking))

    assert len(page.source.encode()) < 2_000_000
    assert "The 4 of 40 instances that grew most are drawn." in page.text
    assert headings(page).count("Capacity") == 1
    assert "What users got at each level: TTFT p95, failed requests, good answers a second (920)" in pictures(page)


def test_endurance_shows_every_life_however_short_its_preset_and_tells_parts_from_whole_streams(tmp_path: Path):
    whole, part = (aged(n, 1.2 * n, lives_s) for n, lives_s in ((0, 16.0), (1, 6.0)))

    document = endurance_run(tmp_path, [whole, part], stream_s=15.0, preset="smoke")

    lives = document.series.strips
    assert lives is not None
    assert lives.n == 2
    assert document.lives is not None
    frame = Frame("lives", "A title", "", WIDE)
    svg = charts.strips(frame, lives, document.run.phases, document.run.start_ns, document.lives.wanted_s)
    assert {"a part: the model ended it early", "ended well", "wanted: 15 s"} <= set(
        re.findall(r">([^<]+)</text>", svg)
    )


@pytest.mark.parametrize("text", [HOSTILE[4] + HOSTILE[0] + HOSTILE[5] + HOSTILE[7], HOSTILE[10]])
def test_a_hostile_text_in_every_field_stays_text_and_the_page_small(leaking: Document, text: str):
    page = page_of(soiled(pictured.everything(leaking), text))

    assert page.tags <= ALLOWED
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", page.source)
    assert len(page.source.encode()) < 2_000_000
