"""Samples read many at a time are what they are when each is decoded: any Samples, any numbers, any texts."""

from __future__ import annotations

import itertools
from array import array
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made import made
from streamgauge.columns import Columns
from streamgauge.errors import UsageError
from streamgauge.sample import HEADER, AuditTick, GapsPart, Outcome, Record, Sample, encode, read_blocks, read_records
from streamgauge.summary import MetricsCollector

TICK = AuditTick(worker=0, at_ns=5, cpu=0.5, longest_turn_ns=7, open_streams=1, open_sockets=1, text_events=3,
                 bytes_in=9, starts=1, steps=[(1, 2, 3)])  # fmt: skip
STAMP = st.integers(0, 2**62)
COUNT = st.one_of(st.none(), st.integers(0, 2**31 - 1), st.integers(0, 300))
GAPS = st.lists(st.integers(0, 2**32 - 1), max_size=80).map(lambda gaps: array("I", gaps).tobytes())
NAME = st.sampled_from(["a", "app", "ünï", "x" * 31, "x" * 32, "y" * 300, ""])
ANY = st.builds(
    Sample, id=st.one_of(st.uuids().map(lambda one: one.hex), st.text(max_size=40)), seq=STAMP, target=NAME,
    prompt=NAME, phase=st.sampled_from(["hold", "warmup"]), level=st.integers(0, 100_000), slot=st.integers(-1, 300),
    worker=st.integers(0, 3), outcome=st.sampled_from(Outcome), http_status=COUNT, due_ns=STAMP, end_ns=STAMP,
    **{name: st.none() | STAMP for name in ("start_ns", "sent_ns", "first_token_ns", "first_output_ns",
                                            "last_output_ns", "longest_gap_ns", "first_byte_ns")},
    **dict.fromkeys(("first_token_slack_ns", "late_ns"), STAMP),
    **dict.fromkeys(("text_events", "tool_events", "reasoning_events", "output_reads"), st.integers(0, 70_000)),
    **dict.fromkeys(("input_tokens", "output_tokens", "streamed_tokens", "max_tokens"), COUNT),
    gaps=GAPS, error=st.none() | st.text(max_size=300), conn=st.integers(-1, 9),
    retry_after_s=st.none() | st.floats(allow_nan=False),
    headers=st.dictionaries(st.text(max_size=9), st.text(max_size=40), max_size=20), clock_step=st.booleans(),
    finish=st.none() | st.just("stop"), kernel_stamps=st.booleans(), local_port=st.none() | st.integers(1, 65_535),
    tls_resumed=st.none() | st.booleans(), redirects=st.integers(0, 3),
)  # fmt: skip


def file_of(folder: Path, records: list[Record]) -> Path:
    path = folder / "samples.sgs"
    path.write_bytes(HEADER % 1 + b"".join(map(encode, records)))
    return path


def one_by_one(path: Path) -> Columns:
    collector = MetricsCollector()
    for record in read_records(path):
        collector.add(record)
    return collector.columns()


def at_once(path: Path) -> tuple[Columns, list[Record]]:
    collector = MetricsCollector()
    others = [record for block in read_blocks(path) for record in collector.take(block)]
    return collector.columns(), others


def same(a: Columns, b: Columns) -> None:
    assert a.facts.names == b.facts.names
    for name, array_ in a.facts.fields.items():
        assert array_.tolist() == b.facts[name].tolist(), name
        assert array_.dtype == b.facts[name].dtype, name
    for name, values in a.values.items():
        np.testing.assert_array_equal(values, b.values[name], name)
    assert a.gaps.tolist() == b.gaps.tolist()
    assert a.gaps_from.tolist() == b.gaps_from.tolist()
    assert sorted(a.slowest, key=lambda one: one.id) == sorted(b.slowest, key=lambda one: one.id)
    assert a.failures == b.failures
    assert a.tokens_from == b.tokens_from


@settings(max_examples=40, deadline=None)
@given(st.lists(ANY, max_size=12), st.booleans())
def test_any_samples_are_the_same_read_at_once_and_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, samples: list[Sample], ticks: bool
) -> None:
    records: list[Record] = list(itertools.chain.from_iterable((one, TICK) for one in samples)) if ticks else [*samples]
    path = file_of(tmp_path_factory.mktemp("any"), records)

    found, others = at_once(path)

    same(found, one_by_one(path))
    assert others == [record for record in records if not isinstance(record, Sample)]


@pytest.mark.parametrize(
    ("ids", "targets"),
    [
        ([f"{n:05d}" for n in range(120)], [f"target {n}" for n in range(120)]),
        ([f"{n:032x}" for n in range(120)], [("a", "a\0", "a\0\0", "", "b\0c", "b")[n % 6] for n in range(120)]),
        ([f"{n:031d}é" for n in range(120)], ["a"] * 120),
        ([f"{n:031d}\0" for n in range(120)], ["é", "e\u0301"] * 60),
        ([f"{n:040d}" for n in range(120)], [f"{n % 60}" for n in range(120)]),
        ([f"{n:041d}" for n in range(120)], [f"{n % 50}" for n in range(120)]),
    ],
    ids=["many targets", "NULs in targets", "letters beyond ASCII", "NULs in ids", "60 targets", "50 targets"],
)
def test_texts_and_ids_of_every_kind_are_the_same(tmp_path: Path, ids: list[str], targets: list[str]) -> None:
    samples = [made(n=n, id=one, target=target) for n, (one, target) in enumerate(zip(ids, targets, strict=True))]
    path = file_of(tmp_path, [*samples])

    found, _ = at_once(path)

    same(found, one_by_one(path))
    assert found.facts.ids() == ids
    assert [found.targets[code] for code in found.target] == targets


def test_gaps_written_before_their_sample_are_found(tmp_path: Path) -> None:
    spilled = made(n=1, gaps_ms=[9], gap_parts=2)
    parts = [GapsPart(spilled.id, i, array("I", [7 + i]).tobytes()) for i in (1, 0)]
    path = file_of(tmp_path, [made(n=0, gaps_ms=[1, 2]), *parts, spilled])

    found, _ = at_once(path)

    assert found.gaps.tolist() == [1_000, 2_000, 7, 8, 9_000]
    assert found.gaps_from.tolist() == [0, 2, 5]


def cut(sample: Sample) -> bytes:
    """The record that a version wrote which did not know the last fields yet."""
    body = msgspec.msgpack.encode(msgspec.msgpack.decode(encode(sample)[4:])[:-7])
    return len(body).to_bytes(4, "little") + body


def test_a_file_of_an_older_version_reads_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "samples.sgs"
    path.write_bytes(HEADER % 1 + encode(made(n=0)) + cut(made(n=1, ttft_ms=250)) + encode(made(n=2)))

    found, others = at_once(path)

    assert found.values["ttft_ms"].tolist() == [100, 250, 100]
    assert others == []


def words_of(path: Path) -> str | None:
    """What is said of a file that cannot be read; None where it can, and both ways find the same."""
    try:
        found = at_once(path)[0]
    except UsageError as error:
        return str(error)
    same(found, one_by_one(path))
    return None


def test_damage_is_named_by_file_and_place(tmp_path: Path) -> None:
    whole = [made(n=n, gaps_ms=[1, 2, 3]) for n in range(3)]
    path = file_of(tmp_path, [*whole])
    data = path.read_bytes()
    said = []
    for at in range(len(HEADER % 1) + len(encode(whole[0])) + 4, len(data), 7):
        path.write_bytes(data[:at] + b"\xc1" + data[at + 1 :])  # a byte that begins nothing
        said.append(words_of(path))
    told = [words for words in said if words is not None]
    assert len(told) > 10
    assert all(words.startswith(f"{path} is damaged near byte") for words in told)


def test_a_number_that_no_file_of_ours_holds_is_read_or_refused_alike(tmp_path: Path) -> None:
    for due in (-1, -33, -(2**40)):
        path = file_of(tmp_path, [made(n=0, late_ns=due)])
        same(at_once(path)[0], one_by_one(path))
