"""The page in a real browser: on a phone, in the dark, on paper. Another test holds the examples to this version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import pictured
import suites
from chromium import Tab, browser
from streamgauge.reports import FORMS, SUITE_FORMS

pytestmark = pytest.mark.real

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
OVER = """[...document.querySelectorAll("body *")]
    .filter(one => one.checkVisibility() && !one.closest(".scroll, svg"))
    .filter(one => one.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
    .map(one => one.tagName + "." + one.className)"""
TEXTS = """[...document.querySelectorAll("figure svg")]
    .filter(one => one.checkVisibility())
    .map(svg => [svg.getBoundingClientRect(), [...svg.querySelectorAll("text")]
        .map(text => [text.textContent.trim(), text.getBoundingClientRect()]).filter(([text]) => text)])"""
LYING_OVER = (
    TEXTS
    + """.flatMap(([_, texts]) => texts.flatMap(([a, p], i) => texts.slice(i + 1)
    .filter(([_, q]) => Math.min(p.right, q.right) - Math.max(p.left, q.left) > 2)
    .filter(([_, q]) => Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 4)
    .map(([b]) => a + " | " + b)))"""
)
CUT = (
    TEXTS
    + """.flatMap(([box, texts]) => texts
    .filter(([_, p]) => p.left < box.left - 2 || p.right > box.right + 2 || p.top < box.top - 2)
    .map(([text]) => text))"""
)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture(scope="module", params=["ttft_fail.html", "ttft_pass.html", "index of several"])
def page(request: pytest.FixtureRequest, tab: Tab, tmp_path_factory: pytest.TempPathFactory) -> Tab:
    path = EXAMPLES / request.param
    if path.suffix != ".html":
        path = tmp_path_factory.mktemp("index") / "suite.html"
        path.write_bytes(b"".join(SUITE_FORMS["html"](suites.failing())))
    tab.open(path)
    return tab


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_window(page: Tab, width: int) -> None:
    page.look(width=width)
    assert page.value("window.innerWidth") == width
    assert page.value("document.documentElement.scrollWidth") <= width
    assert page.value(OVER) == []


def test_a_tests_name_stands_on_one_line(tab: Tab, tmp_path: Path) -> None:
    (tmp_path / "suite.html").write_bytes(b"".join(SUITE_FORMS["html"](suites.failing())))
    tab.open(tmp_path / "suite.html")
    for width, media in ((360, "screen"), (800, "screen"), (1280, "screen"), (760, "print")):
        tab.look(width=width, media=media)
        heights = tab.value("[...document.querySelectorAll('.suite .name')].map(one => one.getClientRects().length)")
        assert heights == [1] * 5, (width, media)


def test_dark_is_dark_and_paper_is_light(page: Tab) -> None:
    page.look()
    light = page.value(BACKGROUND)
    page.look(scheme="dark")
    assert page.value(BACKGROUND) not in (light, None)
    page.look(media="print", scheme="dark")
    assert page.value(BACKGROUND) == light


@pytest.fixture(scope="module")
def pictures(tab: Tab, tmp_path_factory: pytest.TempPathFactory) -> Tab:
    """A page with all pictures of long and hard runs."""
    folder = tmp_path_factory.mktemp("page")
    path = folder / "page.html"
    document = pictured.everything(pictured.leaking(folder))
    path.write_bytes(b"".join(FORMS["html"](document, ())))
    tab.open(path)
    return tab


@pytest.mark.parametrize("width", [360, 1280])
def test_no_label_of_a_picture_lies_over_another_or_is_cut(pictures: Tab, width: int) -> None:
    pictures.look(width=width)
    assert len(pictures.value(TEXTS)) >= 4
    assert pictures.value(LYING_OVER) == []
    assert pictures.value(CUT) == []
    assert pictures.value("document.documentElement.scrollWidth") <= width
