"""The generator and its files: names, atomicity, what a disk refuses."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import textwrap
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from msgspec.structs import replace

import examples
from documents import ALL, passing
from streamgauge.errors import StorageError
from streamgauge.reports import FORMS, ReportGenerator, files

STAMP = datetime(2025, 11, 24, 4, 15, tzinfo=UTC)


def test_the_forms_are_these_four_and_each_gives_bytes():
    document, samples = passing()
    assert list(FORMS) == ["md", "json", "csv", "html"]
    for form in FORMS.values():
        assert all(isinstance(chunk, bytes) for chunk in form(document, samples[:3]))


def test_files_are_named_by_test_and_utc_time(tmp_path: Path):
    document, samples = passing()
    written = ReportGenerator(document, samples).write(tmp_path, stamp=STAMP.astimezone(timezone(timedelta(hours=9))))
    assert [path.name for path in written] == [f"ttft_20251124T041500Z.{ext}" for ext in ("md", "json", "csv", "html")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in written)
    assert all(path.stat().st_size > 1_000 for path in written)


def test_the_time_in_the_name_is_the_start_of_the_run_unless_given(tmp_path: Path):
    document, _ = passing()
    assert [path.name for path in ReportGenerator(document).write(tmp_path, ["md"])] == ["ttft_20251124T041500Z.md"]


def test_a_time_without_an_offset_is_refused():
    with pytest.raises(ValueError, match="names no offset"):
        files.timestamp(datetime(2025, 11, 24, 4, 15))


def test_a_name_is_taken_as_soon_as_any_form_of_it_exists(tmp_path: Path):
    (tmp_path / "ttft_20251124T041500Z.csv").write_text("someone else's")
    (tmp_path / "ttft_20251124T041500Z-2.html").write_text("someone else's")
    document, _ = passing()
    written = ReportGenerator(document).write(tmp_path, ["md", "json"], STAMP)
    assert [path.name for path in written] == ["ttft_20251124T041500Z-3.md", "ttft_20251124T041500Z-3.json"]
    assert (tmp_path / "ttft_20251124T041500Z.csv").read_text() == "someone else's"


def test_runs_that_end_in_the_same_second_each_keep_a_whole_report(tmp_path: Path):
    def write(i: int) -> list[Path]:
        chunks = [str(i).encode() * 1_000] * 20
        return files.write(tmp_path, "ttft", "20251124T041500Z", {"md": chunks, "json": chunks}, FORMS)

    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(write, range(8)))
    assert len({path for paths in written for path in paths}) == 16
    for i, paths in enumerate(written):
        assert paths[0].stem == paths[1].stem
        assert all(path.read_text() == str(i) * 20_000 for path in paths)
    assert len(list(tmp_path.iterdir())) == 16


def test_a_test_name_cannot_leave_the_folder(tmp_path: Path):
    document = replace(passing()[0], test="../../etc/passwd")
    (path,) = ReportGenerator(document).write(tmp_path / "reports", ["md"], STAMP)
    assert path.parent == tmp_path / "reports"
    assert path.exists()


def test_a_form_that_fails_leaves_nothing_behind(tmp_path: Path):
    def broken():
        yield b"begun"
        raise RuntimeError("the form failed")

    with pytest.raises(RuntimeError, match="the form failed"):
        files.write(tmp_path, "ttft", "20251124T041500Z", {"md": [b"whole"], "json": broken()}, FORMS)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_named_with_the_next_step(tmp_path: Path):
    place = tmp_path / "reports"
    place.write_text("a file")
    with pytest.raises(StorageError, match=r"cannot write reports to .*reports: .*; choose another with --out"):
        ReportGenerator(passing()[0]).write(place, ["md"], STAMP)


def in_a_child(code: str) -> str:
    """Run code in a fresh Python, where limits and users can be changed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_read_only_folder_is_named_with_the_next_step(request: pytest.FixtureRequest):
    folder = Path(tempfile.mkdtemp())  # not tmp_path: its parents are closed to another user
    request.addfinalizer(folder.rmdir)
    folder.chmod(0o555)
    said = in_a_child(f"""
        import os
        from pathlib import Path
        from streamgauge.errors import StorageError
        from streamgauge.reports import files
        if os.getuid() == 0:
            os.setuid(65534)
        try:
            files.write(Path({str(folder)!r}), "ttft", "20251124T041500Z", {{"md": [b"x"]}}, ["md"])
        except StorageError as error:
            print(error)
    """)
    assert said == f"cannot write reports to {folder}: Permission denied; choose another with --out\n"
    assert list(folder.iterdir()) == []


def test_a_full_disk_leaves_nothing_behind_and_says_how_to_go_on(tmp_path: Path):
    said = in_a_child(f"""
        import resource
        from pathlib import Path
        from streamgauge.errors import StorageError
        from streamgauge.reports import files
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            files.write(Path({str(tmp_path)!r}), "ttft", "20251124T041500Z", {{"md": [b"x" * 50_000]}}, ["md"])
        except StorageError as error:
            print(error)
    """)
    assert "free space, then `streamgauge report`" in said
    assert str(tmp_path) in said
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_form_is_named_with_those_there_are(tmp_path: Path):
    with pytest.raises(ValueError, match="no such form of a report: pdf; there are md, json, csv, html"):
        ReportGenerator(passing()[0]).write(tmp_path, ["md", "pdf"])
    assert list(tmp_path.iterdir()) == []


def test_without_samples_there_is_no_csv_rather_than_an_empty_one(tmp_path: Path):
    generator = ReportGenerator(passing()[0])
    with pytest.raises(ValueError, match="without its samples"):
        generator.csv()
    assert [path.suffix for path in generator.write(tmp_path, stamp=STAMP)] == [".md", ".json", ".html"]


def test_samples_that_can_be_read_once_give_one_csv_and_never_an_empty_one():
    document, samples = passing()
    once = ReportGenerator(document, iter(samples[:5]))
    assert once.csv().count("\n") == 6
    with pytest.raises(ValueError, match="only once"):
        once.csv()
    again = ReportGenerator(document, samples[:5])
    assert again.csv() == again.csv()


@pytest.mark.parametrize("name", ALL)
def test_the_same_document_gives_the_same_bytes(name: str):
    document, samples = ALL[name]()
    for form in ("md", "json", "csv"):
        assert b"".join(FORMS[form](document, samples)) == b"".join(FORMS[form](document, samples))


def test_importing_reports_loads_neither_matplotlib_nor_jinja_nor_rich():
    said = in_a_child("""
        import sys
        import streamgauge.reports
        print([name for name in ("matplotlib", "jinja2", "rich") if name in sys.modules])
    """)
    assert said.strip() == "[]"


def test_a_generator_shows_its_state():
    assert repr(ReportGenerator(passing()[0])) == "ReportGenerator('ttft', 'pass', samples=False)"


def test_the_examples_in_the_docs_are_what_this_version_writes(tmp_path: Path):
    shown = Path(__file__).parents[1] / "docs" / "examples"
    for path in examples.write(tmp_path):
        old, new = shown / path.name, path.read_bytes()
        assert old.stat().st_size < 500_000
        if path.suffix != ".html":  # pictures differ a little between versions of matplotlib
            assert old.read_bytes() == new, "python tests/examples.py docs/examples"
