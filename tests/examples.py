"""Writes docs/examples from the documents of the tests: `python tests/examples.py docs/examples`."""

from __future__ import annotations

import sys
from pathlib import Path

from documents import failing, passing
from streamgauge.reports import FORMS, terminal

SHOWN = {"ttft_pass": passing, "ttft_fail": failing}


def write(folder: Path) -> list[Path]:
    """Each shown document as markdown, page and terminal screen."""
    written = []
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in SHOWN.items():
        document, samples = make()
        for form in ("md", "html"):
            path = folder / f"{name}.{form}"
            path.write_bytes(b"".join(FORMS[form](document, samples)))
            written.append(path)
        screen = folder / f"{name}.txt"
        screen.write_text(terminal.render(document), encoding="utf-8")
        written.append(screen)
    return written


if __name__ == "__main__":
    for path in write(Path(sys.argv[1])):
        print(path)
