"""Samples read from their file many at once: field by field over all of them, never one by one.

Strategy: a record is a msgpack array, so all Samples of a block have the same fields in the same order. A cursor a
record stands at its next field; one step reads that field of every record and moves every cursor on. What the file
holds of a million requests becomes arrays so without a Python object for each value.

Rules: only the forms that our own encoder gives to a Sample of this version are known here. Anything else, an older
file or a damaged one, is `Unusual`: whoever asked decodes the block record by record instead, which finds the same or
says what is wrong. Nothing is skipped by trust: every cursor must end where its record ends.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, get_type_hints

import numpy as np
import numpy.typing as npt

from streamgauge.facts import Again
from streamgauge.sample import Block, Outcome, Sample

Array = npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]

NIL, FALSE, TRUE, UINT64, FLOAT64 = 0xC0, 0xC2, 0xC3, 0xCF, 0xCB
_FIELDS = Sample.__struct_fields__
_BEGIN = b"\xdc" + (len(_FIELDS) + 1).to_bytes(2, "big") + b"\xa1s"
"""How a Sample of this version begins: an array of so many, the first of which is its tag."""
_FEW = 50
"""With more different texts in a block it is quicker to take them one by one."""
_PAD = 40
"""Bytes behind the block, so that whatever is read at a cursor lies within."""


class Unusual(ValueError):
    """A record is not written as this version writes it."""


class Reader:
    """The Samples of one block, as arrays. `rows`: which records they are; `others`: those that are none."""

    def __init__(self, block: Block) -> None:
        self._data = block.data + bytes(_PAD)
        self._bytes = np.frombuffer(self._data, dtype=np.uint8)
        self._wide = _windows(self._data, ">u8")
        begins, ends = np.array(block.begins, dtype=np.int64), np.array(block.ends, dtype=np.int64)
        samples = _windows(self._data, f"S{len(_BEGIN)}")[begins] == _BEGIN
        self.rows, self.others = np.flatnonzero(samples), np.flatnonzero(~samples)
        self._at, self._ends = begins[self.rows] + len(_BEGIN), ends[self.rows]

    def fields(self, absent: Mapping[str, int]) -> dict[str, Any]:
        """The fields: numbers (those that `absent` names, with what it gives for nil) and flags as arrays, bytes as a
        list of them, texts by what differs of them, the id as an array where all are equally long. Texts that may be
        nil, maps and floats are only passed over.
        """
        found: dict[str, Any] = {}
        for name, form in _FORMS.items():
            if form == "number":
                values = self._numbers(absent.get(name, 0))
                if name in absent:
                    found[name] = values
            elif form == "flag":
                found[name] = self._flags()
            elif form == "bytes":
                found[name] = self._slices(*self._step_over_texts())
            elif name == "id":
                found[name] = self._ids()
            elif form == "text":
                found[name] = self._again()
            elif form == "optional text":
                self._step_over_texts()
            elif form == "float":
                self._pass_floats()
            else:
                self._pass_maps()
        if (self._at != self._ends).any():
            raise Unusual("a record is longer or shorter than its fields")
        if not _OUTCOMES.issuperset(found["outcome"].names):
            raise Unusual("no outcome has this name")
        return found

    def _numbers(self, absent: int) -> IntArray:
        tags = self._bytes[self._at]
        if (tags == tags[0]).all():
            return self._alike(int(tags[0]), absent)
        widths = _WIDTH[tags]
        if (widths == _UNKNOWN).any():
            raise Unusual("a number is none, or below -32")
        wide = self._wide[self._at + 1].astype(np.uint64) >> _SHIFT[tags]
        values = np.where(widths > 0, wide.astype(np.int64), _SMALL[tags])
        values[tags == NIL] = absent
        self._at += 1 + widths
        if (values[tags == UINT64] < 0).any():
            raise Unusual("a number is larger than an int64")
        return values

    def _alike(self, tag: int, absent: int) -> IntArray:
        """The same where all begin with one byte: nil, or a stamp, in each of them."""
        width = int(_WIDTH[tag])
        if width == _UNKNOWN:
            raise Unusual("a number is none, or below -32")
        values: IntArray = np.full(len(self._at), absent if tag == NIL else _SMALL[tag])
        if width:
            wide = self._wide[self._at + 1].astype(np.uint64) >> _SHIFT[tag]
            values = wide.astype(np.int64)
        self._at += 1 + width
        if tag == UINT64 and (values < 0).any():
            raise Unusual("a number is larger than an int64")
        return values

    def _flags(self) -> npt.NDArray[np.bool_]:
        tags = self._bytes[self._at]
        if ((tags != TRUE) & (tags != FALSE)).any():
            raise Unusual("a flag is none")
        self._at += 1
        return np.equal(tags, TRUE)

    def _spans(self, at: IntArray) -> tuple[IntArray, IntArray]:
        """Where the texts (or bytes, or nil) at `at` begin and end."""
        tags = self._bytes[at]
        heads = _HEAD[tags]
        if (heads == 0).any():
            raise Unusual("a text is none")
        lengths = _LENGTH[tags]
        if (heads > 1).any():
            lengths = np.where(heads > 1, (self._wide[at + 1] >> _LENGTH_SHIFT[tags]).astype(np.int64), lengths)
        begins = at + heads
        if (begins + lengths > len(self._data) - _PAD).any():
            raise Unusual("a text is longer than its block")
        return begins, begins + lengths

    def _step_over_texts(self) -> tuple[IntArray, IntArray]:
        begins, self._at = self._spans(self._at)
        return begins, self._at.copy()

    def _slices(self, begins: IntArray, ends: IntArray) -> list[bytes]:
        data = self._data
        return [data[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]

    def _ids(self) -> Array | list[str]:
        """Plain texts of one length as one array of bytes; a list of texts where they differ more."""
        begins, ends = self._step_over_texts()
        length = int(ends[0] - begins[0])
        if 0 < length <= _PAD and (ends - begins == length).all():
            ids = _windows(self._data, f"S{length}")[begins]
            if _ALNUM[ids.view(np.uint8)].all():
                return ids
        return [_decoded(text) for text in self._slices(begins, ends)]

    def _again(self) -> Again:
        """Texts of which there are few different ones: each of them is looked for in all records at once."""
        begins, ends = self._step_over_texts()
        lengths, codes = ends - begins, np.empty(len(begins), dtype=np.int64)
        names: list[str] = []
        left = np.arange(len(begins))
        while len(left):
            if len(names) == _FEW:
                return Again.of([_decoded(text) for text in self._slices(begins, ends)])
            first = left[0]
            text = self._data[begins[first] : ends[first]]
            like = lengths[left] == len(text)
            if text:
                like[like] = _windows(self._data, f"S{len(text)}")[begins[left[like]]] == np.bytes_(text)
            codes[left[like]] = len(names)
            names.append(_decoded(text))
            left = left[~like]
        return Again(codes, names)

    def _pass_floats(self) -> None:
        tags = self._bytes[self._at]
        if ((tags != NIL) & (tags != FLOAT64)).any():
            raise Unusual("a float is none")
        self._at += np.where(tags == NIL, 1, 9)

    def _pass_maps(self) -> None:
        """Maps of texts to texts, fewer than 16 of them."""
        tags = self._bytes[self._at].astype(np.int64)
        if ((tags & 0xF0) != 0x80).any():
            raise Unusual("a map is none, or a large one")
        self._at += 1
        left = 2 * (tags & 0x0F)
        while left.any():
            these = np.flatnonzero(left)
            _, self._at[these] = self._spans(self._at[these])
            left[these] -= 1


def _windows(data: bytes, kind: str) -> Array:
    """At place i: what stands in `data` from byte i on, read as `kind`."""
    dtype = np.dtype(kind)
    return np.ndarray((len(data) - dtype.itemsize + 1,), dtype=dtype, buffer=data, strides=(1,))


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise Unusual("a text is no UTF-8") from error


def _form(kind: Any) -> str:
    """How a field of this type is written."""
    several = set(kind.__args__) if isinstance(kind, types.UnionType) else {kind}
    if kind is bool or kind is bytes:
        return "flag" if kind is bool else "bytes"
    if several <= {int, bool, types.NoneType}:
        return "number"
    if float in several:
        return "float"
    if isinstance(kind, types.GenericAlias):
        return "map"
    return "optional text" if types.NoneType in several else "text"


_FORMS = {name: _form(get_type_hints(Sample)[name]) for name in _FIELDS}
"""Each field in its order: `number`, `flag`, `bytes`, `text`, `optional text`, `float` or `map`."""
_OUTCOMES = frozenset(Outcome)
_ALNUM = np.array([chr(byte).isalnum() and byte < 128 for byte in range(256)])


# msgpack's first bytes: what follows each, as tables of 256.

_UNKNOWN = 99


def _table(known: dict[int, int], otherwise: int, kind: Any = np.int64) -> Array:
    return np.array([known.get(tag, otherwise) for tag in range(256)], dtype=kind)


_FIXED = {
    **{tag: tag for tag in range(0x80)},
    **{tag: tag - 256 for tag in range(0xE0, 256)},
    NIL: 0,
    FALSE: 0,
    TRUE: 1,
}
_UINTS = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_SMALL = _table(_FIXED, 0)
"""Numbers that are their own first byte."""
_WIDTH = _table({**dict.fromkeys(_FIXED, 0), **_UINTS}, _UNKNOWN)
"""Bytes of the number that follow."""
_SHIFT = _table({tag: 64 - 8 * width for tag, width in _UINTS.items()}, 0, np.uint64)
_SHORT = range(0xA0, 0xC0)
_LONG = {0xD9: 1, 0xC4: 1, 0xDA: 2, 0xC5: 2, 0xDB: 4, 0xC6: 4}
_HEAD = _table({**dict.fromkeys(_SHORT, 1), NIL: 1, **{tag: 1 + width for tag, width in _LONG.items()}}, 0)
"""Bytes before a text itself; 0: it is none."""
_LENGTH = _table({tag: tag - 0xA0 for tag in _SHORT}, 0)
_LENGTH_SHIFT = _table({tag: 64 - 8 * width for tag, width in _LONG.items()}, 0, np.uint64)
