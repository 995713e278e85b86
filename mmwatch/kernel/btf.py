"""A reader of the kernel's BTF: struct offsets, enum values, the arguments of raw tracepoints.

The format is documented in the kernel's Documentation/bpf/btf.rst. Only types asked for by name are read; one walk
over the 100,000 types of a kernel takes about 60 ms.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

VMLINUX = Path("sys/kernel/btf/vmlinux")

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF, _VOLATILE, _CONST, _RESTRICT = range(1, 12)
_FUNC, _FUNC_PROTO, _VAR, _DATASEC, _FLOAT, _DECL_TAG, _TYPE_TAG, _ENUM64 = range(12, 20)
_MODIFIERS = (_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG)
_EXTRA_WORDS = {_INT: 1, _ARRAY: 3, _VAR: 1, _DECL_TAG: 1}
_EXTRA_WORDS_EACH = {_STRUCT: 3, _UNION: 3, _ENUM: 2, _FUNC_PROTO: 2, _DATASEC: 3, _ENUM64: 3}


@contextmanager
def _damage_is_value_error() -> Iterator[None]:
    """Report damage as ValueError. Dangling and circular references only show when they are followed."""
    try:
        yield
    except (IndexError, RecursionError, TypeError, struct.error) as error:
        raise ValueError(f"BTF is damaged: {error}") from error


class Btf:
    """The types of ``names`` in a BTF blob.

    :param names: of structs, enums and typedefs that will be asked for.
    :raises ValueError: the blob is not BTF, has an unknown kind of type, or is damaged. Any method may raise this.
    """

    @_damage_is_value_error()
    def __init__(self, blob: bytes, names: Iterable[str]) -> None:
        if len(blob) < 24:
            raise ValueError("not BTF: too short")
        magic, _version, _flags, header, type_at, type_len, string_at, string_len = struct.unpack_from(
            "=HBBIIIII", blob
        )
        if magic != 0xEB9F:
            raise ValueError("not BTF: wrong magic")
        self._words = memoryview(blob)[header + type_at : header + type_at + type_len].cast("I")
        self._strings = blob[header + string_at : header + string_at + string_len]
        self._at = [0]
        self._named: dict[str, list[int]] = {}
        wanted = {}
        for name in names:
            found = self._strings.find(b"\0" + name.encode() + b"\0")
            if found >= 0:
                wanted[found + 1] = self._named.setdefault(name, [])
        self._walk(wanted)

    @classmethod
    def of_kernel(cls, names: Iterable[str], root: Path = Path("/")) -> Btf | None:
        """The running kernel's BTF; None where there is none or it cannot be read."""
        try:
            return cls((root / VMLINUX).read_bytes(), names)
        except (OSError, ValueError):
            return None

    def _walk(self, wanted: dict[int, list[int]]) -> None:
        words = self._words
        each, extra = _EXTRA_WORDS_EACH, _EXTRA_WORDS
        append = self._at.append
        at, end = 0, len(words)
        while at < end:
            info = words[at + 1]
            kind = info >> 24 & 31
            if words[at] in wanted:
                wanted[words[at]].append(len(self._at))
            append(at)
            if kind in each:
                at += 3 + each[kind] * (info & 0xFFFF)
            elif kind > _ENUM64:
                raise ValueError(f"BTF kind {kind} is not known")
            else:
                at += 3 + extra.get(kind, 0)

    def _kind(self, type_id: int) -> int:
        return self._words[self._at[type_id] + 1] >> 24 & 31

    def _name(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(b"\0", offset)].decode()

    def _find(self, name: str, kinds: tuple[int, ...]) -> int | None:
        return next((type_id for type_id in self._named.get(name, ()) if self._kind(type_id) in kinds), None)

    def _resolve(self, type_id: int) -> int:
        for _ in self._at:
            if not type_id or self._kind(type_id) not in _MODIFIERS:
                return type_id
            type_id = self._words[self._at[type_id] + 2]
        raise ValueError("BTF is damaged: a type that refers to itself")

    def _size(self, type_id: int) -> int:
        type_id = self._resolve(type_id)
        if not type_id:
            return 0
        at, kind = self._at[type_id], self._kind(type_id)
        if kind == _PTR:
            return 8
        if kind == _ARRAY:
            return self._size(self._words[at + 3]) * self._words[at + 5]
        return self._words[at + 2] if kind in (_INT, _STRUCT, _UNION, _ENUM, _FLOAT, _ENUM64) else 0

    @_damage_is_value_error()
    def members(self, name: str) -> dict[str, tuple[int, int]]:
        """Byte offset and size of each member of a struct, including those of anonymous members. Empty: no such struct.

        The size of a bit field is that of its storage.
        """
        return {member: (bits // 8, size) for member, (bits, size) in self._members(name).items()}

    @_damage_is_value_error()
    def bit(self, name: str, member: str) -> int | None:
        """Number of a bit field's first bit in its byte, on a little-endian machine; None: no such member."""
        found = self._members(name).get(member)
        return None if found is None else found[0] % 8

    @_damage_is_value_error()
    def has_function(self, name: str) -> bool:
        """Whether the kernel has a function of this name that fentry can attach to."""
        return self._find(name, (_FUNC,)) is not None

    @_damage_is_value_error()
    def has_type(self, name: str) -> bool:
        """Whether there is a struct or typedef of this name."""
        return self._find(name, (_STRUCT, _TYPEDEF)) is not None

    def _members(self, name: str) -> dict[str, tuple[int, int]]:
        type_id = self._find(name, (_STRUCT, _UNION))
        found: dict[str, tuple[int, int]] = {}
        if type_id is not None:
            self._collect(type_id, 0, found)
        return found

    def _collect(self, type_id: int, base: int, found: dict[str, tuple[int, int]]) -> None:
        words, at = self._words, self._at[type_id]
        info = words[at + 1]
        for member in range(at + 3, at + 3 + 3 * (info & 0xFFFF), 3):
            bits = base + (words[member + 2] & 0xFFFFFF if info >> 31 else words[member + 2])
            if words[member]:
                found.setdefault(self._name(words[member]), (bits, self._size(words[member + 1])))
            else:
                inner = self._resolve(words[member + 1])
                if self._kind(inner) in (_STRUCT, _UNION):
                    self._collect(inner, bits, found)

    @_damage_is_value_error()
    def size(self, name: str) -> int | None:
        """Bytes of a struct; None: no such struct."""
        type_id = self._find(name, (_STRUCT, _UNION))
        return None if type_id is None else self._size(type_id)

    @_damage_is_value_error()
    def enumerator(self, enum: str, name: str) -> int | None:
        """The value of an enumerator; None: there is none."""
        type_id = self._find(enum, (_ENUM,))
        if type_id is None:
            return None
        words, at = self._words, self._at[type_id]
        for entry in range(at + 3, at + 3 + 2 * (words[at + 1] & 0xFFFF), 2):
            if self._name(words[entry]) == name:
                return words[entry + 1]
        return None

    @_damage_is_value_error()
    def raw_arguments(self, tracepoint: str) -> tuple[str, ...] | None:
        """The C types of a raw tracepoint's arguments, ``("int", "gfp_t")``; None: not known.

        From the typedef ``btf_trace_NAME`` of its probe function (kernel: include/trace/bpf_probe.h), without the
        leading ``void *``. Names of arguments are not recorded there.
        """
        type_id = self._find(f"btf_trace_{tracepoint}", (_TYPEDEF,))
        if type_id is None:
            return None
        words = self._words
        pointer = words[self._at[type_id] + 2]
        if self._kind(pointer) != _PTR:
            return None
        at = self._at[words[self._at[pointer] + 2]]
        count = words[at + 1] & 0xFFFF
        return tuple(self._spell(words[at + 4 + 2 * index]) for index in range(1, count))

    def _spell(self, type_id: int) -> str:
        if not type_id:
            return "void"
        at, kind = self._at[type_id], self._kind(type_id)
        if kind == _PTR:
            return self._spell(self._words[at + 2]) + " *"
        if kind in (_CONST, _VOLATILE, _RESTRICT, _TYPE_TAG):
            return self._spell(self._words[at + 2])
        return self._name(self._words[at])
