"""The page, read by Python's own HTML parser: what it holds, what it must not hold, whether all can read it."""

from __future__ import annotations

import re
from functools import cache
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise

import pytest
from msgspec.structs import replace

from documents import ALL, concurrent, failing, inconclusive, partial, passing
from hostile import HOSTILE, hostile
from streamgauge.reports import FORMS
from streamgauge.reports import wording as say
from streamgauge.reports.criteria import MOST_CRITERIA, criterion_rows, may_fold
from streamgauge.reports.document import Document
from streamgauge.reports.numbers import by_prompt
from streamgauge.reports.targets import target_table

VOID = {"meta", "br", "link", "img", "input", "hr"}
ALLOWED_TEXT = """html head meta title style body header main footer section article p h1 h2 h3 span strong b small code
pre dl dt dd div ul li table thead tbody tr th td details summary figure figcaption br svg desc g path text defs
clippath rect use"""
ALLOWED = set(ALLOWED_TEXT.split())


class Page(HTMLParser):
    """Elements in order, their attributes and the text; fails on what does not nest."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.styles = ""
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.styles += data
        else:
            self.text += data + " "

    @property
    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.elements if name in attrs]


def page_of(document: Document) -> Page:
    return Page(b"".join(FORMS["html"](document, ())).decode())


@cache
def page(name: str) -> Page:
    return page_of(ALL[name]()[0])


@pytest.mark.parametrize("name", ALL)
def test_the_page_needs_nothing_but_itself(name: str):
    found = page(name)
    assert found.tags <= ALLOWED, found.tags - ALLOWED
    assert all(link.startswith("#") for link in found.attributes("href"))
    assert found.attributes("src") == []
    assert "@import" not in found.styles
    assert "url(" not in found.styles
    assert all(style.count("url(") == style.count("url(#") for style in found.attributes("style"))
    assert "default-src 'none'" in found.attributes("content")[0]


@pytest.mark.parametrize("name", ALL)
def test_ids_are_unique_and_every_reference_finds_one(name: str):
    found = page(name)
    ids = found.attributes("id")
    assert len(ids) == len(set(ids))
    named = {part for label in found.attributes("aria-labelledby") for part in label.split()}
    used = {link[1:] for link in found.attributes("href")}
    clips = set(re.findall(r"url\(#([^)]+)\)", " ".join(found.attributes("clip-path"))))
    assert named | used | clips <= set(ids)
    assert clips


@pytest.mark.parametrize("name", ALL)
def test_whoever_cannot_see_it_is_told_the_same(name: str):
    found = page(name)
    pictures = [attrs for tag, attrs in found.elements if tag == "svg"]
    assert pictures
    assert all(attrs["role"] == "img" and attrs["aria-labelledby"] for attrs in pictures)
    assert all("scope" in attrs for tag, attrs in found.elements if tag == "th")
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert ("html", {"lang": "en", "data-verdict": ALL[name]()[0].verdict}) in found.elements


@pytest.mark.parametrize("name", ALL)
def test_a_page_stays_small(name: str):
    assert len(page(name).source.encode()) < 500_000


def test_the_verdict_is_said_in_a_sign_and_a_word():
    signs = {"passing": "✓ PASS", "failing": "✗ FAIL", "inconclusive": "? INCONCLUSIVE", "invalid": "! INVALID"}
    for name, words in signs.items():
        assert words in " ".join(page(name).text.split()[:30]), name


def test_the_parts_stand_in_the_order_people_read():
    headings = re.findall(r"<h2[^>]*>([^<]*)<", page("failing").source)
    assert headings == [
        "Targets",
        "Criteria",
        "Time to first token",
        "Phases of a request",
        "What was not ok, and who answered",
        "Findings",
        "Root causes, line by line",
        "Connections",
        "Over time",
        "The slowest requests",
        "Gaps and stalls",
        "Beside the strategy",
        "How well this was measured",
    ]


def test_a_part_without_content_is_left_out():
    empty = replace(
        passing()[0], criteria=[], comparisons=[], baselines=[], findings=[], groups=[], metrics={}, outcomes={},
        series=replace(passing()[0].series, ecdf=[], timeline=[], slowest=[], gaps=[], not_ok=[], heat=[]),
    )  # fmt: skip
    assert re.findall(r"<h2[^>]*>([^<]*)<", page_of(empty).source) == ["How well this was measured"]


def test_what_was_found_and_what_to_do_come_first():
    text = " ".join(page("failing").text.split())
    first = [
        "claude-sonnet: p95 TTFT 1,215 ms, limit 1,000 ms", "1 chat in 7 waits over 1 s", "streamgauge check staging",
        "1,200 of 1,608 requests", "Targets",
    ]  # fmt: skip
    places = [text.index(part) for part in first]
    assert places == sorted(places)


def test_mean_and_spread_are_folded_away():
    source = page("failing").source
    unfolded = re.sub(r"<details>.*?</details>", "", source, flags=re.S)
    assert '<th scope="col">mean</th>' in source
    assert "mean</th>" not in unfolded


def test_a_null_reads_as_missing_and_never_as_zero():
    text = " ".join(page("partial").text.split())
    assert "0 / 20 misses its limit n/a not reached misses its limit n/a n/a 0" in text
    assert "no first token in the whole run" in text


def test_phases_and_levels_of_a_load_test_are_told_apart():
    text = page("concurrent").text
    for phase in ("reference 1", "ramp 100", "hold 100", "stress 200"):
        assert phase in text
    assert concurrent()[0].headline in text


@pytest.mark.parametrize("text", [HOSTILE[0], HOSTILE[1], HOSTILE[4], HOSTILE[6], HOSTILE[7], HOSTILE[8], HOSTILE[9]])
def test_a_hostile_text_stays_text(text: str):
    found = page_of(hostile(text)[0])
    assert found.tags <= ALLOWED
    assert not [name for _, attrs in found.elements for name in attrs if name.startswith("on") or name == "src"]
    assert all(link.startswith("#") for link in found.attributes("href"))
    shown = " ".join(found.text.split())
    assert re.sub(r"[\x00-\x1f\ud83d]", "\ufffd", text).split()[-1][:12] in shown
    assert "49" not in found.text or "7*7" not in text or "7*7" in found.text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", found.source)


def test_a_very_long_text_in_every_field_keeps_the_page_under_two_megabytes():
    assert len(page_of(hostile("x" * 2_048)[0]).source) < 2_000_000


def test_many_targets_keep_the_page_under_two_megabytes():
    document = failing()[0]
    names = [f"target-{i}" for i in range(30)]
    series = document.series
    many = replace(
        document,
        groups=[replace(document.groups[i % 4], target=name) for i, name in enumerate(names)],
        criteria=[replace(document.criteria[i % 8], target=name) for i, name in enumerate(names)],
        series=replace(
            series,
            ecdf=[replace(series.ecdf[i % 4], target=name) for i, name in enumerate(names)],
            gaps=[replace(series.gaps[i % 4], target=name) for i, name in enumerate(names)],
            timeline=[series.timeline[0], *(replace(series.timeline[1], target=name) for name in names)],
        ),
    )
    found = page_of(many)
    assert len(found.source) < 2_000_000
    assert "The first 8 of 30 are drawn." in found.text


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_text_colour_has_a_contrast_of_at_least_4_5_in_both_themes():
    style = (files("streamgauge.reports") / "style.css").read_text()
    themes = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{(.*?)\}", style, re.S)
    ]
    assert len(themes) == 2
    assert themes[0].keys() == themes[1].keys()
    grounds = {"paper", "sheet"}
    for theme in themes:
        for name, colour in theme.items():
            if name in grounds or name == "rule":
                continue
            for ground in grounds:
                a, b = sorted((luminance(colour), luminance(theme[ground])))
                assert (b + 0.05) / (a + 0.05) >= 4.5, (name, ground)


def test_every_colour_a_picture_uses_is_one_the_page_defines():
    style = (files("streamgauge.reports") / "style.css").read_text()
    defined = set(re.findall(r"--([\w-]+):", style))
    for name in ("failing", "concurrent", "inconclusive"):
        used = set(re.findall(r"var\(--([\w-]+)\)", " ".join(page(name).attributes("style"))))
        assert used
        assert used <= defined
        assert not re.search(r"(?:fill|stroke): #", " ".join(page(name).attributes("style")))


def test_the_same_document_gives_the_same_page():
    document = inconclusive()[0]
    assert page_of(document).source == page_of(document).source
    assert partial()[0].verdict == "fail"


def test_a_target_is_marked_for_its_part_in_a_fail_of_all_together():
    """9.8 % of all failed: most of gemini, of claude as many as the limit, of gpt-4o-mini none; a control is apart."""
    rows = {row.name: row for row in target_table(failing()[0])[1]}

    assert [rows[name].cells["good"].verdict for name in ("gemini-flash", "claude-sonnet")] == ["fail", "fail"]
    assert (rows["gpt-4o-mini"].cells["good"].verdict, rows["gpt-4o-mini"].verdict) == (None, "pass")
    assert (rows["anthropic-direct"].cells["good"].verdict, rows["anthropic-direct"].verdict) == (None, None)


def test_a_long_list_of_criteria_folds_what_is_met_and_never_what_the_verdict_rests_on():
    document = failing()[0]
    assert len(document.criteria) > MOST_CRITERIA
    folded = [row for row in criterion_rows(document) if may_fold(row, document)]
    assert {row.verdict for row in folded} == {"pass"}
    assert f"{len(folded)} criteria met besides" in page("failing").text
    good = passing()[0]
    kept = [row for row in criterion_rows(good) if not may_fold(row, good)]
    assert {row.requirement for row in kept} >= {r.requirement for r in criterion_rows(good) if r.role == "gates"}


def test_an_outcome_is_explained_once_however_many_targets_it_met():
    document = failing()[0]
    one = document.series.not_ok[0]
    again = replace(one, target="other", example_id="f" * 32)
    text = page_of(replace(document, series=replace(document.series, not_ok=[one, again]))).text

    assert text.count(say.explain(one.outcome).what) == 1
    assert "f" * 32 in text


def test_prompts_stand_in_the_order_in_which_the_run_names_them():
    document = passing()[0]
    named = replace(document.run, settings={"prompts": ["medium", "long", "short"]})

    assert by_prompt(replace(document, run=named)).headings == ["medium", "long", "short"]


def test_a_page_of_very_many_targets_stays_small_and_says_what_it_leaves_out():
    document = failing()[0]
    names = [f"target {i} <&> ü" for i in range(120)]
    bad = replace(document.series.not_ok[0], message="<&>'" * 512)
    wild = replace(
        document,
        criteria=[replace(c, target=name) for name in names for c in document.criteria[:5]],
        groups=[replace(g, target=name) for name in names for g in document.groups if g.target == "gpt-4o-mini"],
        series=replace(
            document.series,
            ecdf=[replace(document.series.ecdf[0], target=name) for name in names],
            gaps=[replace(document.series.gaps[0], target=name) for name in names],
            not_ok=[replace(bad, target=name) for name in names[:50]],
        ),
    )

    page = page_of(wild)

    assert len(page.source.encode()) < 2_000_000
    assert "200 further criteria in the JSON" in page.text
    assert len(re.findall(r"[\d,]+ further rows in the JSON", page.text)) == 3, "of all numbers, and of two pictures"


@pytest.mark.parametrize(("words", "shown"), [(("pass", "pass"), "pass"), (("pass", "inconclusive"), "inconclusive")])
def test_a_target_of_which_nothing_gates_has_the_mark_of_what_is_shown(words: tuple[str, str], shown: str) -> None:
    made = passing()[0]
    name = next(one.target for one in made.criteria if one.target is not None)
    own = [one for one in made.criteria if one.target == name][:2]
    judged = [replace(one, gating=False, advisory=False, verdict=word) for one, word in zip(own, words, strict=True)]
    rows = target_table(replace(made, criteria=judged))[1]
    assert next(row.verdict for row in rows if row.name == name) == shown
