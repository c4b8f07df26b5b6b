"""A benchmark's output takes its own place in the page, and nothing else of the page changes."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace

import pytest
from bench.__main__ import NAMES, in_turn, main
from bench.found import Found
from bench.page import NotMarked, marked, with_section

ROOT = Path(__file__).parent.parent
PAGE = """# Page

<!-- bench cost -->
### Cost: old

| a |
<!-- end -->

By hand: about \\1 and `<!-- end -->`.

<!-- bench scale -->
<!-- end -->
"""


def test_a_section_takes_the_place_of_the_one_before_and_leaves_the_rest() -> None:
    page = with_section(PAGE, "cost", "### Cost: new \\g<0>\n\n| b |\n")
    assert page == PAGE.replace("### Cost: old\n\n| a |", "### Cost: new \\g<0>\n\n| b |")
    assert with_section(page, "cost", "### Cost: old\n\n| a |\n") == PAGE
    assert "\n<!-- bench scale -->\n### Scale\n<!-- end -->\n" in with_section(PAGE, "scale", "### Scale\n")


@pytest.mark.parametrize(
    ("page", "name"),
    [(PAGE, "truth"), (PAGE + PAGE, "cost"), (PAGE.replace("<!-- end -->\n\nBy", "\nBy"), "cost")],
    ids=["no place", "two places", "no end before the next"],
)
def test_a_page_without_just_one_place_is_refused(page: str, name: str) -> None:
    with pytest.raises(NotMarked, match=f"<!-- bench {name} -->"):
        with_section(page, name, "### New\n")


def test_every_benchmark_has_its_place_in_the_docs() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    assert sorted(marked(page)) == sorted(NAMES)
    for name in NAMES:
        with_section(page, name, "### New\n")


def test_the_command_puts_what_it_prints_into_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "page.md"
    path.write_text(PAGE.replace("bench cost", "bench decode"), "utf-8")
    assert main(["--write", str(path), "decode", "--events", "20", "--times", "1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("### Decoding")
    assert f"<!-- bench decode -->\n{out.strip()}\n<!-- end -->\n\nBy hand" in path.read_text("utf-8")
    for page, said in ((path, "<!-- bench slack -->"), (tmp_path / "none.md", "no such file")):
        with pytest.raises(SystemExit) as ended:
            main(["--write", str(page), "slack"])
        assert ended.value.code == 2
        assert said in capsys.readouterr().err


def test_of_several_one_that_fails_takes_none_of_the_others_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "page.md"
    path.write_text(PAGE, "utf-8")
    found = Found("Scale: new", ("a",), [("1",)])
    fails, works = SimpleNamespace(measure=lambda asked: 1 / 0), SimpleNamespace(measure=lambda asked: found)
    wanted = [(fails, argparse.Namespace(name="cost")), (works, argparse.Namespace(name="scale"))]
    assert in_turn(wanted, path) == 1
    told = capsys.readouterr()
    assert "### cost: failed" in told.out
    assert "ZeroDivisionError" in told.err
    page = path.read_text("utf-8")
    assert "<!-- bench scale -->\n### Scale: new" in page
    assert "### Cost: old" in page
    with pytest.raises(ZeroDivisionError):
        in_turn(wanted[:1], path)
