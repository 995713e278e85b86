"""Converts columns of numpy arrays to lists for sqlite3 and back, a whole column at a time for speed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mmwatch.units import clean, decode

EMPTY = "{}"
_NAMES_KEPT = 65536


def integers(values: npt.NDArray[Any]) -> list[int]:
    """Integers for SQLite, which are signed. Values from 2^63 on keep their bits; mmwatch has none."""
    return values.astype(np.int64, copy=False).tolist()  # type: ignore[no-any-return]


def sparse(counts: npt.NDArray[Any]) -> list[str]:
    """Histograms ``(n, length)`` as JSON objects of the values that are not 0, such as ``{"12":5}``."""
    texts = [EMPTY] * len(counts)
    row, bucket = np.nonzero(counts)
    if not len(row):
        return texts
    items = [f'"{key}":{value}' for key, value in zip(bucket.tolist(), integers(counts[row, bucket]))]
    first = np.flatnonzero(np.diff(row, prepend=-1))
    for index, begin, end in zip(row[first].tolist(), first.tolist(), [*first[1:].tolist(), len(items)]):
        texts[index] = "{" + ",".join(items[begin:end]) + "}"
    return texts


def dense(texts: Sequence[str], length: int) -> npt.NDArray[np.int64]:
    """The inverse of :func:`sparse`, ``(len(texts), length)``.

    :raises ValueError: a text has another form, or a key outside the histogram.
    """
    counts = np.zeros((len(texts), length), np.int64)
    filled = [index for index, text in enumerate(texts) if text != EMPTY]
    if not filled:
        return counts
    # One call of the JSON parser for the whole column: keys and values alternate.
    together = "".join([texts[index] for index in filled])
    together = together.replace("}{", ",").replace('"', "").replace(":", ",")
    numbers = json.loads(f"[{together[1:-1]}]")
    pairs = np.fromiter(numbers, np.int64, len(numbers)).reshape(-1, 2)
    row = np.repeat(filled, [texts[index].count(":") for index in filled])
    if len(row) != len(pairs) or pairs[:, 0].min() < 0 or pairs[:, 0].max() >= length:
        raise ValueError("not a histogram")
    counts[row, pairs[:, 0]] = pairs[:, 1]
    return counts


class Names(dict[bytes, str]):
    """Maps raw names to clean text. The same few names recur, so most cost one look-up."""

    def __missing__(self, raw: bytes) -> str:
        if len(self) >= _NAMES_KEPT:
            self.clear()
        name = self[raw] = decode(raw)
        return name


class RawNames(dict[str, bytes]):
    """Maps text from a file to names that fit a row or record: at most 16 bytes, cut between characters."""

    def __missing__(self, name: str) -> bytes:
        if len(self) >= _NAMES_KEPT:
            self.clear()
        raw = self[name] = clean(name).encode()[:16].decode(errors="ignore").encode()
        return raw


def plain(value: Any) -> Any:
    """A numpy scalar as a Python one, because sqlite3 would store the bytes of a numpy scalar."""
    return value.item() if isinstance(value, np.generic) else value


def to_json(value: Any) -> str:
    def other(odd: Any) -> Any:
        return odd.item() if isinstance(odd, np.generic) else str(odd)

    return json.dumps(value, separators=(",", ":"), default=other)
