"""Drains a BPF ring buffer through a mapping, without a call per record.

For the layout, see the kernel's kernel/bpf/ringbuf.c. The page at offset 0 holds the consumer position, which we write.
The producer position and the data follow, read-only. The data is mapped twice in a row, so that a record that wraps is
contiguous. All our records have the same size, so the bytes between the two positions are one array.
"""

from __future__ import annotations

import mmap

import numpy as np
import numpy.typing as npt

_HEADER_BYTES = 8
_BUSY = 1 << 31
_DISCARDED = 1 << 30


class Ring:
    """The reading end of a ring buffer of fixed-size records.

    :param fd: of the BPF map.
    :param size_bytes: size the map was made with.
    :param dtype: of a record, as BCC lays it out; its size is a multiple of 8.
    """

    def __init__(self, fd: int, size_bytes: int, dtype: np.dtype[np.void]) -> None:
        page = mmap.PAGESIZE
        self._consumer_map = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._producer_map = mmap.mmap(fd, page + 2 * size_bytes, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._consumer = np.frombuffer(self._consumer_map, np.uint64, 1)
        self._producer = np.frombuffer(self._producer_map, np.uint64, 1)
        self._data = np.frombuffer(self._producer_map, np.uint8, 2 * size_bytes, page)
        self._size_bytes = size_bytes
        self._slot = np.dtype([("length", "u4"), ("page_offset", "u4"), ("record", dtype)])
        if self._slot.itemsize != _HEADER_BYTES + dtype.itemsize or dtype.itemsize % 8:
            raise ValueError(f"records of {dtype.itemsize} bytes do not lie in a ring buffer without gaps")

    def drain(self, at_most: int = 1 << 20) -> npt.NDArray[np.void]:
        """Take the complete records, oldest first: ``(records,)``. This frees their room in the buffer."""
        begin = int(self._consumer[0])
        available = min((int(self._producer[0]) - begin) // self._slot.itemsize, at_most)
        start = begin & (self._size_bytes - 1)
        # Twice the data is mapped: from any start a whole buffer's length is contiguous.
        slots = np.frombuffer(self._data, self._slot, available, start)
        lengths = slots["length"]
        busy = np.flatnonzero(lengths & _BUSY)
        if len(busy):
            slots = slots[: busy[0]]
            lengths = lengths[: busy[0]]
        kept = lengths & _DISCARDED == 0
        records: npt.NDArray[np.void] = slots["record"].copy() if kept.all() else slots["record"][kept]
        self._consumer[0] = begin + len(slots) * self._slot.itemsize
        return records
