"""The samples file: what was written is read, whatever byte the generator died at, and damage is an error."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made import made
from streamgauge.errors import StorageError, UsageError
from streamgauge.sample import (
    FORMAT,
    GOOD,
    NOT_JUDGED,
    AuditTick,
    GapsPart,
    Outcome,
    Record,
    Sample,
    SampleWriter,
    encode,
    gaps_us,
    read_records,
)

HEADER = b"streamgauge samples 1\n"
RECORDS: list[Record] = [
    made(n=0, gaps_ms=[10, 20.5], headers={"x-request-id": "r"}, error="größer 🙂", retry_after_s=1.5),
    GapsPart(f"{1:032x}", 0, b"\1\0\0\0\2\0\0\0"),
    AuditTick(
        worker=0, at_ns=7, cpu=0.5, longest_turn_ns=1, open_streams=2, open_sockets=3, text_events=4, bytes_in=5,
        starts=6, steps=[(1, 2, -3)],
    ),
    made(None, n=1, outcome=Outcome.FIRST_TOKEN_TIMEOUT, gap_parts=1),
]  # fmt: skip


def written(path: Path, records: list[Record]) -> bytes:
    writer = SampleWriter(path)
    for record in records:
        writer.add(record)
    writer.close()
    return path.read_bytes()


def test_what_was_written_is_read_in_order(tmp_path: Path) -> None:
    data = written(tmp_path / "a.sgs", RECORDS)
    assert data.startswith(HEADER)
    assert list(read_records(tmp_path / "a.sgs")) == RECORDS


def test_the_file_is_what_the_format_says_by_any_other_reader(tmp_path: Path) -> None:
    """A u32 little-endian, then a msgpack array whose first element is the tag, the fields in their order."""
    data = written(tmp_path / "a.sgs", RECORDS)[len(HEADER) :]
    found = []
    while data:
        (size,) = struct.unpack("<I", data[:4])
        found.append(msgspec.msgpack.decode(data[4 : 4 + size]))
        data = data[4 + size :]
    assert [array[0] for array in found] == ["s", "g", "a", "s"]
    assert found[1] == ["g", f"{1:032x}", 0, b"\1\0\0\0\2\0\0\0"]
    assert found[0][1:] == [msgspec.to_builtins(getattr(RECORDS[0], f), builtin_types=(bytes,))
                            for f in Sample.__struct_fields__]  # fmt: skip


def test_a_file_torn_at_any_byte_gives_every_record_before_it(tmp_path: Path) -> None:
    data = written(tmp_path / "whole.sgs", RECORDS)
    ends = [len(HEADER)]
    for record in RECORDS:
        ends.append(ends[-1] + len(encode(record)))
    assert ends[-1] == len(data)
    torn = tmp_path / "torn.sgs"
    for at in range(len(data) + 1):
        torn.write_bytes(data[:at])
        whole = max(sum(end <= at for end in ends) - 1, 0)
        assert list(read_records(torn)) == RECORDS[:whole], at


def test_records_that_straddle_the_reads_of_a_large_file_are_whole(tmp_path: Path) -> None:
    records: list[Record] = [GapsPart(f"{n:032x}", n, bytes(16_384)) for n in range(200)]
    assert len(written(tmp_path / "a.sgs", records)) > 3 << 20
    assert list(read_records(tmp_path / "a.sgs")) == records


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_damage_is_an_error_or_read_as_records_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "a.sgs"
    whole = bytearray(written(path, RECORDS))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    try:
        found = list(read_records(path))
    except UsageError as error:
        assert str(path) in str(error)  # noqa: PT017 # not every damage is an error
    else:
        assert all(isinstance(record, (Sample, GapsPart, AuditTick)) for record in found)


@pytest.mark.parametrize(
    ("at", "byte", "words"),
    [
        pytest.param(len(HEADER) + 3, 0x7F, "damaged near byte 26: a record of", id="a length no record has"),
        pytest.param(len(HEADER) + 4, 0xC1, "damaged near byte 26", id="no msgpack"),
        pytest.param(len(HEADER) + 10, 0xFF, "damaged near byte 26", id="no text"),
        pytest.param(0, 0x00, "is no streamgauge samples file", id="another file"),
        pytest.param(20, ord("x"), "is no streamgauge samples file", id="no version"),
        pytest.param(20, ord("9"), f"has format 9; this streamgauge reads up to {FORMAT}", id="a newer format"),
    ],
)
def test_what_cannot_be_read_names_the_file_and_the_place(tmp_path: Path, at: int, byte: int, words: str) -> None:
    path = tmp_path / "a.sgs"
    data = bytearray(written(path, RECORDS))
    data[at] = byte
    path.write_bytes(data)
    with pytest.raises(UsageError, match=words) as caught:
        list(read_records(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"hello", b"streamgauge", b"streamgauge sample\n", b"\n", b"x" * 200, b"PK\3\4"])
def test_only_the_beginning_of_our_own_header_is_a_run_killed_at_birth(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.sgs").write_bytes(content)
    if b"streamgauge samples ".startswith(content):
        assert list(read_records(tmp_path / "a.sgs")) == []
    else:
        with pytest.raises(UsageError, match="no streamgauge samples file"):
            list(read_records(tmp_path / "a.sgs"))


def test_fields_that_came_later_have_their_defaults_in_an_older_file(tmp_path: Path) -> None:
    whole = msgspec.msgpack.decode(encode(RECORDS[0])[4:])
    body = msgspec.msgpack.encode(whole[:-5])
    (tmp_path / "a.sgs").write_bytes(HEADER + struct.pack("<I", len(body)) + body)
    (found,) = read_records(tmp_path / "a.sgs")
    assert found == RECORDS[0]


# The writer.


def test_a_writer_takes_no_file_that_is_there_and_names_it(tmp_path: Path) -> None:
    (tmp_path / "a.sgs").write_bytes(b"mine")
    with pytest.raises(StorageError, match=r"a\.sgs: File exists"):
        SampleWriter(tmp_path / "a.sgs")
    assert (tmp_path / "a.sgs").read_bytes() == b"mine"
    with pytest.raises(StorageError, match=r"gone/a\.sgs: No such file or directory"):
        SampleWriter(tmp_path / "gone" / "a.sgs")


def test_a_record_is_on_the_disk_after_a_flush_and_closing_twice_is_harmless(tmp_path: Path) -> None:
    writer = SampleWriter(tmp_path / "a.sgs")
    writer.add(RECORDS[0])
    assert list(read_records(tmp_path / "a.sgs")) == []
    writer.flush()
    assert list(read_records(tmp_path / "a.sgs")) == RECORDS[:1]
    writer.add(RECORDS[1])
    writer.close()
    writer.close()
    assert list(read_records(tmp_path / "a.sgs")) == RECORDS[:2]
    assert (tmp_path / "a.sgs").stat().st_mode & 0o077 == 0, "for its owner alone"


# A Sample.


@pytest.mark.parametrize("outcome", list(Outcome))
def test_each_outcome_is_good_or_an_error_or_in_no_population(outcome: Outcome) -> None:
    sample = made(outcome=outcome)
    assert sample.good == (outcome in ("ok", "length_capped", "filtered")) == (outcome in GOOD)
    assert sample.judged == (outcome not in ("cancelled", "client_limit")) == (outcome not in NOT_JUDGED)


def test_gaps_are_little_endian_u32_in_us() -> None:
    assert list(gaps_us(b"\1\0\0\0\0\1\0\0\xff\xff\xff\xff")) == [1, 256, 0xFFFF_FFFF]


@settings(max_examples=50, deadline=None)
@given(st.builds(dict, id=st.text(max_size=40), error=st.none() | st.text(), due_ns=st.integers(0, 2**62)))
def test_any_text_and_time_comes_back_as_it_was(values: dict[str, Any]) -> None:
    sample = msgspec.structs.replace(made(), **values)
    assert msgspec.msgpack.decode(encode(sample)[4:], type=Sample) == sample
