"""Reports: one document in every form that people and programs read.

Rules: `FORMS` is the whole list; adding a form is one file and one line. A form is a function of the document and the
run's Samples (one by one, or as Facts) to bytes, in chunks, so that a table of a million rows needs no memory. Files
that render a form never import each other; what they share is the document, the view of it, the wording and the
pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path

from streamgauge.facts import Facts
from streamgauge.reports import files, to_csv, to_html, to_json, to_markdown
from streamgauge.reports.document import Document
from streamgauge.reports.suite_document import Suite
from streamgauge.sample import Sample

Form = Callable[[Document, Facts | Iterable[Sample]], Iterator[bytes]]

FORMS: dict[str, Form] = {
    "md": to_markdown.render,
    "json": to_json.render,
    "csv": to_csv.render,
    "html": to_html.render,
}
"""File extension to what renders it."""
LONG_FROM = 100_000
"""A csv of so many requests is worth a process of its own."""
SUITE_FORMS: dict[str, Callable[[Suite], Iterator[bytes]]] = {
    "md": to_markdown.render_suite,
    "json": to_json.render_suite,
    "html": to_html.render_suite,
}
"""The same for the index of several tests."""


def write_suite(suite: Suite, folder: Path) -> list[Path]:
    """Write `suite_{timestamp}.{ext}`, the time being its start, and give the paths; StorageError as for a report."""
    forms = {form: render(suite) for form, render in SUITE_FORMS.items()}
    return files.write(folder, "suite", files.timestamp(suite.started), forms, SUITE_FORMS)


def write_while_judged(
    folder: Path, test: str, started: str, judged: Callable[[], Document], facts: Facts, forms: Iterable[str]
) -> list[Path]:
    """`ReportGenerator.write` before the judging: a long csv, which needs no verdict, is written beside it.

    `judged` is asked once for each other form, in this process.
    """

    def chunks(form: str) -> Iterator[bytes]:
        yield from to_csv.render(None, facts) if form == "csv" else FORMS[form](judged(), ())

    made = {form: chunks(form) for form in forms}
    return files.write(folder, test, files.timestamp(started), made, FORMS, _long(facts))


def _long(samples: Facts | Iterable[Sample] | None) -> tuple[str, ...]:
    return ("csv",) if isinstance(samples, Facts) and len(samples) >= LONG_FROM else ()


class ReportGenerator:
    """Turns one document, and for csv the run's Samples, into report files or text.

    `samples` may be Facts, a list or anything that can be iterated; what can be iterated only once gives one csv, and
    a second one is refused (ValueError) rather than empty. Without samples (None) there is no csv.
    """

    def __init__(self, document: Document, samples: Facts | Iterable[Sample] | None = None) -> None:
        self.document = document
        self._samples = samples
        self._used_up = False

    def __repr__(self) -> str:
        return (
            f"ReportGenerator({self.document.test!r}, {self.document.verdict!r}, samples={self._samples is not None})"
        )

    def markdown(self) -> str:
        """For job summaries, pull requests and people."""
        return self._text("md")

    def json(self) -> str:
        """For programs: the whole document. Its JSON Schema is `report.schema.json` beside this file."""
        return self._text("json")

    def html(self) -> str:
        """One page that needs no network and no script."""
        return self._text("html")

    def csv(self) -> str:
        """One row a request. For very many requests prefer `write`, which holds no more than a few rows."""
        return self._text("csv")

    def write(
        self, folder: Path, forms: Iterable[str] | None = None, stamp: datetime | str | None = None
    ) -> list[Path]:
        """Write `{test}_{timestamp}.{ext}` for each of `forms` (all that can be made) and give the paths.

        `stamp` is the time in the name, the run's start by default. A form that does not exist is a ValueError; what
        the disk refuses is a StorageError that names the folder and the next step, and then nothing is left behind.
        """
        wanted = list(forms) if forms is not None else [f for f in FORMS if f != "csv" or self._samples is not None]
        unknown = [form for form in wanted if form not in FORMS]
        if unknown:
            raise ValueError(f"no such form of a report: {', '.join(unknown)}; there are {', '.join(FORMS)}")
        time = files.timestamp(self.document.run.started if stamp is None else stamp)
        made = {form: self._chunks(form) for form in wanted}
        return files.write(folder, self.document.test, time, made, FORMS, _long(self._samples))

    def _text(self, form: str) -> str:
        return b"".join(self._chunks(form)).decode()

    def _chunks(self, form: str) -> Iterator[bytes]:
        return FORMS[form](self.document, self._rows() if form == "csv" else ())

    def _rows(self) -> Facts | Iterable[Sample]:
        if self._samples is None:
            raise ValueError("this report was made without its samples, so it has no csv: pass samples=")
        if self._used_up:
            raise ValueError("the samples could be read only once and were: pass a list for a second csv")
        self._used_up = not isinstance(self._samples, Facts) and iter(self._samples) is self._samples
        return self._samples
