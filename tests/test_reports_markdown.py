"""The markdown form, judged by a CommonMark parser that shares nothing with it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from documents import ALL, concurrent, failing, inconclusive, invalid, partial, passing
from hostile import HOSTILE, hostile
from streamgauge.reports import ReportGenerator, to_markdown

OURS = {"h2", "h3", "p", "strong", "em", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "code", "br", "sub",
        "details", "summary"}  # fmt: skip


class Tags(HTMLParser):
    """Which elements and attributes a page has, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def rendered(markdown: str) -> Tags:
    return Tags(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown))


def rows_of_tables(markdown: str) -> list[int]:
    """Cells a row, by unescaped pipes, for each line of each table."""
    return [len(re.findall(r"(?<!\\)\|", line)) for line in markdown.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("name", ALL)
def test_each_report_renders_to_headings_tables_and_text(name: str):
    page = rendered(ReportGenerator(ALL[name]()[0]).markdown())
    assert page.tags <= OURS
    assert {"h2", "table", "details"} <= page.tags
    assert page.attributes <= {"style"}  # of the parser's own making: the alignment of a column


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_makes_no_markup_no_link_and_no_mention(text: str):
    markdown = ReportGenerator(hostile(text)[0]).markdown()
    page = rendered(markdown)
    assert page.tags <= OURS - {"em"}
    assert page.attributes <= {"style"}
    outside_code = re.sub(r"(?<!\\)(`+).*?\1", "", markdown).replace("&#8203;", "\u200b")
    assert not re.search(r"@\w|#\d|\w://|www\.\w", outside_code)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", markdown)


def test_every_row_of_a_table_has_as_many_cells_as_its_heading():
    for text in HOSTILE:
        lines = ReportGenerator(hostile(text)[0]).markdown().split("\n\n")
        for block in lines:
            if block.startswith("|"):
                assert len(set(rows_of_tables(block))) == 1, block[:200]


def test_a_servers_words_come_back_as_they_were():
    for words in ("a | b `c` ``d``", "`", "<b>&amp;</b> *x*", "_ \\ \\| end"):
        page = rendered(f"| words |\n| :-- |\n| {to_markdown.code(words)} |")
        assert page.text.strip().split("\n")[-1].strip() in (words, words.replace("\\|", "|"))


def test_text_comes_back_as_it_was():
    for words in ("a | b * c _d_ [e](f) !g <h> &amp; ~~i~~ `j` \\k", "p95 < 1,000 ms", "5 & 6 > 4", "snake_case"):
        page = rendered(f"| words |\n| :-- |\n| {to_markdown.text(words)} |")
        assert page.text.split() == ["words", *words.split()]
        assert page.tags <= OURS


def test_the_first_lines_say_what_was_found_and_what_to_do():
    head = ReportGenerator(failing()[0]).markdown().splitlines()
    assert head[0] == "## ✗ FAIL: ttft on staging, severity P0"
    assert head[2].startswith("**claude-sonnet: p95 TTFT 1,215 ms, limit 1,000 ms")
    assert "Next: `streamgauge check staging --target claude-sonnet`" in head
    assert ReportGenerator(passing()[0]).markdown().startswith("## ✓ PASS: ttft on staging\n")
    assert "nothing here is a pass" in ReportGenerator(inconclusive()[0]).markdown()
    assert "Not valid: p95 of our own lateness" in ReportGenerator(invalid()[0]).markdown()
    assert "partial run" in ReportGenerator(partial()[0]).markdown().splitlines()[0]


def test_the_parts_stand_in_their_order():
    markdown = ReportGenerator(failing()[0]).markdown()
    order = [
        "### Targets",
        "### Criteria",
        "### Side by side",
        "### What was not ok, and who answered",
        "### Findings",
        "The slowest requests",
        "### Beside the strategy",
        "### How well this was measured",
        "Run it again:",
    ]
    found = [markdown.index(part) for part in order]
    assert found == sorted(found)


def test_a_missing_number_reads_as_missing():
    markdown = ReportGenerator(partial()[0]).markdown()
    (row,) = [line for line in markdown.splitlines() if line.startswith("| ✗ | chat")]
    assert row == "| ✗ | chat<br><sub>gpt-4o-mini</sub> | **0 / 20** | n/a | **not reached** | n/a | n/a | 0 |"


def test_a_count_and_a_ratio_are_judged_in_words():
    markdown = ReportGenerator(concurrent()[0]).markdown()
    assert "| ✗ fail | drops = 0 | phase hold | 1 |" in markdown
    assert "TTFT p95 against the reference ≤ 1.5 ×" in markdown
