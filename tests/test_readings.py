"""What probes read stands in the run folder and is read from it, torn or whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamgauge.errors import UsageError
from streamgauge.sample import Reading, SampleWriter
from streamgauge.suite import folder as run_folder

FULL = Reading(
    probe="app", instance="größer-1", at_ns=7, took_ns=2, values={"rss": 1e9, "queue": 3.5}, uptime_s=12.5, pid=41,
    collected=True, snapshot=True,
)  # fmt: skip
FAILED = Reading(probe="app", at_ns=5, took_ns=1, error="refused")


def written(folder: Path, readings: list[Reading]) -> Path:
    path = folder / run_folder.READINGS
    writer = SampleWriter(path)
    for reading in readings:
        writer.add(reading)
    writer.close()
    return path


def test_what_was_written_is_read_in_order_of_time(tmp_path: Path) -> None:
    written(tmp_path, [FULL, FAILED])
    assert run_folder.readings(tmp_path) == [FAILED, FULL]


def test_a_run_without_probes_has_no_readings(tmp_path: Path) -> None:
    assert run_folder.readings(tmp_path) == []


def test_a_torn_last_reading_is_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, [FULL, FAILED])
    path.write_bytes(path.read_bytes()[:-1])
    assert run_folder.readings(tmp_path) == [FULL]


def test_damage_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, [FULL])
    data = bytearray(path.read_bytes())
    data[data.index(b"\n") + 5] = 0xC1  # no msgpack, behind the first length
    path.write_bytes(bytes(data))
    with pytest.raises(UsageError, match=r"readings\.msgpack is damaged near byte"):
        run_folder.readings(tmp_path)
