"""The interface between the BPF programs and user space, read from ``bpf/abi.h``, where it is declared.

That header consists of lists in a fixed form. The parser accepts no other form and raises an error for anything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from mmwatch.errors import UnavailableError


class Fold(Enum):
    """How several rows, or one row over several intervals, are folded into one."""

    SUM = "sum"
    MAX = "max"
    HISTOGRAM = "histogram"  # summed element by element
    LATEST = "latest"
    KEY = "key"  # not folded: identifies the row
    PRIVATE = "private"  # bookkeeping between the two sides, not a measure


COUNTERS = (Fold.SUM, Fold.HISTOGRAM)
"""Folds of members that only grow."""
MEASURED = (Fold.SUM, Fold.MAX, Fold.HISTOGRAM, Fold.LATEST)
"""Folds of members that are measures. Members with another fold are not."""


@dataclass(frozen=True)
class Member:
    """One member of a struct.

    :param type: ``u64``, ``u32``, ``s32`` or ``char``.
    :param length: elements of an array that are used; 0: no array.
    :param slots: elements it has in C, where the length is rounded up; 0: no array.
    :param fold: None for members of other structs than ``struct row``.
    :param unit: ``count``, ``ns``, ``pages``, ``flags``, ``id``, ``number`` or ``text``.
    :param need: the need whose probe counts it; ``brackets``: any path's begin and end; empty: it is not a measure.
    """

    type: str
    name: str
    length: int
    slots: int
    fold: Fold | None
    unit: str
    need: str
    help: str

    @property
    def format(self) -> str:
        """numpy's name for the type of one element: ``u8``, ``i4``, or ``S16`` for text."""
        return f"S{self.slots}" if self.type == "char" else _FORMATS[self.type]


@dataclass(frozen=True)
class Abi:
    """The whole header.

    :param enums: (name without prefix, help) in order of value, by name of the enum.
    :param structs: members in order, by name of the struct.
    """

    constants: Mapping[str, int]
    enums: Mapping[str, tuple[tuple[str, str], ...]]
    structs: Mapping[str, tuple[Member, ...]]

    def names(self, enum: str) -> tuple[str, ...]:
        """The enumerators, without their prefix, in order of value."""
        return tuple(name for name, _ in self.enums[enum])


_FORMATS = {"u64": "u8", "u32": "u4", "s32": "i4", "char": "S1"}
_UNITS = ("count", "ns", "pages", "flags", "id", "number", "text")
_PREFIXES = {
    "reclaim_path": "PATH_",
    "row_state": "ROW_",
    "record_kind": "RECORD_",
    "throttle_reason": "THROTTLE_",
    "stat": "STAT_",
}

_FRAME = (
    "#ifndef MMWATCH_ABI_H",
    "#define MMWATCH_ABI_H",
    "#define SLOTS(n) "
    "((n) <= 2 ? 2 : (n) <= 4 ? 4 : (n) <= 8 ? 8 : (n) <= 16 ? 16 : (n) <= 32 ? 32 : (n) <= 64 ? 64 : 128)",
    "#define ENUMERATOR(name, help) name,",
    "#define ROW_MEMBER(type, name, array, fold, unit, need, help) type name array;",
    "#define RECORD_MEMBER(type, name, array, unit, help) type name array;",
    "struct stats { u64 count[SLOTS(STATS)]; };",
    "#endif",
)
"""Lines that declare nothing. The parser relies on them, so they must be exactly like this."""
_SLOTS_MAX = 128
_ROW_FIELDS = ("type", "name", "array", "fold", "unit", "need")
_RECORD_FIELDS = ("type", "name", "array", "unit")


def parse(text: str) -> Abi:
    """The declarations of a header of this form: one statement per line, after joining lines that end in ``\\``.

    :raises ValueError: the header has another form.
    """
    try:
        return _parse(text)
    except (KeyError, IndexError, ValueError) as error:  # KeyError, IndexError: not declared, or incomplete
        raise ValueError(f"bpf/abi.h: {error}") from error


def _parse(text: str) -> Abi:
    constants: dict[str, int] = {}
    lists: dict[str, str] = {}
    enums: dict[str, tuple[tuple[str, str], ...]] = {}
    structs: dict[str, tuple[Member, ...]] = {}
    for line in _statements(text):
        words = line.split()
        if line in _FRAME:
            continue
        if words[0] == "#define" and words[1].endswith("_LIST(X)"):
            _enter(lists, words[1][: -len("(X)")], line.partition("(X)")[2])
        elif words[0] == "#define" and len(words) == 3:
            _enter(constants, words[1], int(words[2].strip("()")))
        elif words[0] == "enum" and words[2::3] == ["{", "};"]:
            _enter(enums, words[1], _enumerators(words[1], lists[_argument(words[3], "ENUMERATOR")]))
            _enter(constants, words[4], len(enums[words[1]]))
        elif words[0] == "struct" and words[2::2] == ["{", "};"]:
            row = words[3].endswith("(ROW_MEMBER)")
            entries = lists[_argument(words[3], "ROW_MEMBER" if row else "RECORD_MEMBER")]
            _enter(structs, words[1], _members(entries, _ROW_FIELDS if row else _RECORD_FIELDS, constants))
        else:
            raise ValueError(f"not understood: {line[:80]}")
    return Abi(constants, enums, structs)


def _statements(text: str) -> list[str]:
    """The joined lines, without comments and empty lines."""
    first, *others = text.split("/*")
    text = first + "".join(part.partition("*/")[2] for part in others)
    return [line for line in map(str.strip, text.replace("\\\n", " ").split("\n")) if line]


def _argument(call: str, macro: str) -> str:
    """``PATH_LIST`` of ``PATH_LIST(ENUMERATOR)``."""
    if not call.endswith(f"_LIST({macro})"):
        raise ValueError(f"{call} is not a list of {macro}")
    return call[: -len(f"({macro})")]


def _enter(table: dict[str, Any], name: str, value: Any) -> None:
    if name in table or not name.isidentifier():
        raise ValueError(f"{name} is declared twice, or is not a name")
    table[name] = value


def _entries(entries: str, fields: tuple[str, ...]) -> list[tuple[dict[str, str], str]]:
    """Fields and help of each ``X(…, "help")``."""
    found = []
    before, *parts = entries.split("X(")
    for part in parts:
        head, _, rest = part.partition('"')
        text, _, end = rest.partition('"')
        values = [value.strip() for value in head.split(",")]
        if before.strip() or end.strip() != ")" or len(values) != len(fields) + 1 or values[-1] or "\\" in text:
            raise ValueError(f"not understood: X({part.strip()[:80]}")
        found.append((dict(zip(fields, values)), text))
    names = [values["name"] for values, _ in found]
    if len(set(names)) != len(names) or not all(map(str.isidentifier, names)):
        raise ValueError(f"a name is listed twice, or is not a name: {', '.join(names)}")
    return found


def _enumerators(enum: str, entries: str) -> tuple[tuple[str, str], ...]:
    prefix = _PREFIXES[enum]
    found = []
    for values, text in _entries(entries, ("name",)):
        if not values["name"].startswith(prefix):
            raise ValueError(f"{values['name']} of enum {enum} does not begin with {prefix}")
        found.append((values["name"][len(prefix) :].lower(), text))
    return tuple(found)


def _members(entries: str, fields: tuple[str, ...], constants: Mapping[str, int]) -> tuple[Member, ...]:
    members = []
    for values, text in _entries(entries, fields):
        length, slots = _array(values["array"], constants)
        if values["type"] not in _FORMATS or values["unit"] not in _UNITS:
            raise ValueError(f"the type or the unit of {values['name']} is not known")
        fold = Fold[values["fold"]] if "fold" in values else None
        need = values.get("need", "none")
        members.append(
            Member(
                values["type"],
                values["name"],
                length,
                slots,
                fold,
                values["unit"],
                need if need != "none" else "",
                text,
            )
        )
    return tuple(members)


def _array(array: str, constants: Mapping[str, int]) -> tuple[int, int]:
    """Length and slots of ``[SLOTS(LENGTH)]``, ``[LENGTH]``, or nothing."""
    if not array:
        return 0, 0
    if not (array.startswith("[") and array.endswith("]")):
        raise ValueError(f"{array} is no array")
    name = array[1:-1]
    if not name.startswith("SLOTS("):
        return constants[name], constants[name]
    length = constants[name[len("SLOTS(") : -1]]
    if length > _SLOTS_MAX:
        raise ValueError(f"{name} is more than SLOTS() can round up")
    return length, max(2, 1 << (length - 1).bit_length())


def bpf_directory() -> Path:
    """Where the C files are: inside the installed package, or beside it in a checkout.

    :raises UnavailableError: they are in neither place.
    """
    package = Path(__file__).resolve().parent
    for place in (package / "bpf", package.parent / "bpf"):
        if (place / "abi.h").is_file():
            return place
    raise UnavailableError(f"the BPF programs of mmwatch are missing from {package}", "install mmwatch again")


_ABI = parse((bpf_directory() / "abi.h").read_text(encoding="utf-8"))

ROW = _ABI.structs["row"]
"""Members of ``struct row``, in its order."""
RECORD = _ABI.structs["record"]
CONTROL = _ABI.structs["control"]
SHRINKER_WORK = _ABI.structs["shrinker_work"]

PATHS = _ABI.names("reclaim_path")
PATH_HELP = dict(_ABI.enums["reclaim_path"])
ROW_STATES = _ABI.names("row_state")
RECORD_KINDS = _ABI.names("record_kind")
STATS = _ABI.names("stat")
THROTTLE_REASONS = _ABI.names("throttle_reason")
THROTTLE_HELP = dict(_ABI.enums["throttle_reason"])

COMM_BYTES = _ABI.constants["COMM_BYTES"]
NODE_UNKNOWN = _ABI.constants["NODE_UNKNOWN"]
PRIORITY_UNKNOWN = _ABI.constants["PRIORITY_UNKNOWN"]
PRIORITIES = _ABI.constants["PRIORITIES"]
ORDERS = _ABI.constants["ORDERS"]
SHRINKERS = _ABI.constants["SHRINKERS"]
STALL_SHIFT_MIN = _ABI.constants["STALL_SHIFT_MIN"]
STALL_BUCKETS = _ABI.constants["STALL_BUCKETS"]
EPOCHS = _ABI.constants["EPOCHS"]
