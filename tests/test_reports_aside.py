"""A long form is written in a process of its own: what goes wrong there is told here, and nothing is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli import environment
from documents import passing
from streamgauge.errors import StorageError
from streamgauge.facts import Taking
from streamgauge.reports import FORMS, LONG_FROM, ReportGenerator, aside, files
from written_aside import CASES, endless, killed, refused

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere everything is written in turn")
RAISED = {
    "both whole": "",
    "the csv refused by the disk": "StorageError cannot write reports to",
    "the csv's process killed": "RuntimeError the process that wrote beside this one ended -9",
    "another form failed meanwhile": "RuntimeError the form failed",
    "both failed": "StorageError cannot write reports to",
}


def test_work_is_done_in_another_process_while_the_block_runs(tmp_path: Path) -> None:
    read, write = os.pipe()

    def work() -> None:
        os.read(read, 1)  # waits for the block, so it cannot have been done in turn
        (tmp_path / "pid").write_text(str(os.getpid()))

    with aside.doing(work):
        os.write(write, b"!")
    assert int((tmp_path / "pid").read_text()) != os.getpid()
    os.close(read)
    os.close(write)


def test_a_process_that_is_killed_is_told() -> None:
    with pytest.raises(RuntimeError, match="beside this one ended -9"), aside.doing(lambda: list(killed()).clear()):
        pass


def test_what_fails_there_is_raised_here_and_says_where_it_failed() -> None:
    def a_slip() -> None:
        raise LookupError("of ours")

    with pytest.raises(LookupError, match="of ours") as told, aside.doing(a_slip):
        pass
    assert "in a_slip" in "".join(told.value.__notes__)


def test_a_block_that_fails_ends_the_work() -> None:
    began = time.monotonic()
    with pytest.raises(KeyError), aside.doing(lambda: list(endless()).clear()):
        raise KeyError
    assert time.monotonic() - began < 60


def test_both_files_are_there_or_neither_and_no_half_of_one(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("written_aside.py")), str(tmp_path)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300, check=True)
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["case"] for one in said] == list(CASES)
    for one in said:
        raised = RAISED[one["case"]]
        assert one["raised"].startswith(raised), one
        assert (one["raised"] == "") == (raised == ""), one
        if raised:
            assert one["left"] == {}, one
        else:
            assert list(one["left"]) == ["ttft_20251124T041500Z.csv", "ttft_20251124T041500Z.md"]
            assert len(set(one["left"].values())) == 2, "two processes"


def test_a_csv_of_very_many_rows_is_what_it_is_in_turn(tmp_path: Path) -> None:
    document, samples = passing()
    taking = Taking()
    taking.add([samples[i % len(samples)] for i in range(LONG_FROM)])
    facts = taking.facts()
    (path,) = ReportGenerator(document, facts).write(tmp_path, ["csv"])
    assert path.read_bytes() == b"".join(FORMS["csv"](document, facts))


def test_a_refusal_while_written_in_turn_is_told_alike(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No space left on device; free space"):
        files.write(tmp_path, "ttft", "20251124T041500Z", {"csv": refused()}, FORMS)
    assert list(tmp_path.iterdir()) == []
