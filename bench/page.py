"""A page whose tables are benchmarks' own output: each stands between `<!-- bench NAME -->` and `<!-- end -->`.

What stands outside the marks is written by hand and is left as it is.
"""

from __future__ import annotations

import re
from pathlib import Path


class NotMarked(ValueError):
    """The page does not say where a benchmark's section stands."""


def marked(page: str) -> list[str]:
    """The benchmarks that have a place in it, in order."""
    return re.findall(r"^<!-- bench ([a-z]+) -->$", page, re.MULTILINE)


def with_section(page: str, name: str, section: str) -> str:
    """The page with this section in the benchmark's place."""
    place = re.compile(rf"^<!-- bench {name} -->\n.*?^<!-- end -->$", re.MULTILINE | re.DOTALL)
    found = place.findall(page)
    if len(found) != 1 or found[0].count("<!-- bench ") != 1:
        raise NotMarked(f"wanted one `<!-- bench {name} -->` ... `<!-- end -->`, found {len(found)}")
    return place.sub(lambda _: f"<!-- bench {name} -->\n{section.strip()}\n<!-- end -->", page)


def write(path: Path, name: str, section: str) -> None:
    """Put the section into the file, which is whole at any moment."""
    try:
        page = with_section(path.read_text("utf-8"), name, section)
    except NotMarked as error:
        raise NotMarked(f"{path}: {error}") from error
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(page, "utf-8")
    beside.replace(path)
