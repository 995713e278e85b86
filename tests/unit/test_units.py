"""Values to text: widths that hold, and nothing that steers a terminal."""

from __future__ import annotations

import unicodedata
from random import Random

import pytest

from mmwatch import units
from mmwatch.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10", 10),
        ("10s", 10),
        ("500ms", 0.5),
        ("5m", 300),
        ("2h", 7200),
        ("1d", 86400),
        (" 1.5s ", 1.5),
        ("36500d", 3.1536e9),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert units.parse_duration_s(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "-1", "1w", "s", "1 s", "nan", "inf", "1e3", "\x1b[2J", "36501d", "9" * 400]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError) as error:
        units.parse_duration_s(text)
    assert "\x1b" not in error.value.message
    assert error.value.exit_code == 64


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("plain name", "plain name"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\nb\rc\td", "a\\x0ab\\x0dc\\x09d"),
        ("\x9b31m", "\\x9b31m"),  # the one-byte CSI
        ("gpj\u202eexe", "gpj\\u202eexe"),
        ("\u200b\u2066x\ufeff", "\\u200b\\u2066x\\ufeff"),
        ("a\u00a0b\u2028c", "a\\xa0b\\u2028c"),
        ("\udcff", "\\xff"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("日本語 naïve ✓ 🐍", "日本語 naïve ✓ 🐍"),
        ("back\\slash", "back\\slash"),
    ],
)
def test_clean(hostile: str, shown: str) -> None:
    assert units.clean(hostile) == shown
    assert units.clean(shown) == shown


def test_clean_lets_no_control_or_format_character_through() -> None:
    everything = "".join(map(chr, range(0x110000)))
    assert {unicodedata.category(char)[0] for char in units.clean(everything) if char != " "} <= set("LMNPS")


def test_decode() -> None:
    assert units.decode(b"comm\0leftover") == "comm"
    assert units.decode(b"\xff\xfe\x1b") == "\\xff\\xfe\\x1b"
    assert units.decode("é".encode()[:1]) == "\\xc3"  # comm is cut at 15 bytes, through the middle of a letter


def test_widths_hold() -> None:
    random = Random(1)
    values = [random.uniform(0.1, 1) * 10**power for power in range(16) for _ in range(200)]
    for value in [*values, 0, 999.4, 999.6, 9.94, 9.96, 999949, 999951, 99.94, 99.96, 1023.6]:
        assert len(units.count_text(value)) <= 5, value
        assert len(units.ns_text(value)) <= 6, value
        assert len(units.ratio_text(value, percent=False)) <= 5, value
        assert len(units.pages_text(min(value, 1e11), 4096)) <= 4, value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units.count_text(98304), "98304"),
        (units.count_text(1_234_567), "1235k"),
        (units.count_text(1_234_567, 4), "1.2M"),
        (units.count_text(0.25), "0.2"),
        (units.ns_text(850), "850ns"),
        (units.ns_text(12_345), "12.3us"),
        (units.ns_text(4_560_000), "4.56ms"),
        (units.ns_text(999_999), "1.00ms"),
        (units.ns_text(1_200_000_000), "1.20s"),
        (units.ns_text(738e9), "12.3m"),
        (units.ns_text(36e12), "10.0h"),
        (units.ratio_text(0.987), "98.7"),
        (units.ratio_text(1.0), "100"),
        (units.ratio_text(386, percent=False), "386x"),
        (units.pages_text(1, 4096), "4.0K"),
        (units.pages_text(220_160, 4096), "860M"),
        (units.pages_text(838_861, 4096), "3.2G"),
        (units.pages_text(1, 65536), "64K"),
    ],
)
def test_texts(text: str, expected: str) -> None:
    assert text == expected


def test_what_is_not_known_is_no_zero() -> None:
    assert {units.count_text(None), units.ns_text(None), units.ratio_text(None), units.pages_text(None, 1)} == {"-"}


def test_cgroups_as_their_tools_name_them() -> None:
    long = "3f2a9c1b0d5e" + "0123456789abcdef" * 3 + "0123"
    assert units.cgroup_text(f"/docker/{long}") == "/docker/3f2a9c1b0d5e"
    assert units.cgroup_text(f"/system.slice/docker-{long}.scope") == "/system.slice/docker-3f2a9c1b0d5e.scope"
    pod = "/kubepods.slice/kubepods-pod8a7b6c5d_1111_2222_3333_444455556666.slice"
    assert units.cgroup_text(f"{pod}/cri-containerd-{long}.scope") == (
        "/kubepods.slice/kubepods-pod8a7b6c5d.slice/cri-containerd-3f2a9c1b0d5e.scope"
    )
    assert units.cgroup_text("/lxc.payload.web1/init.scope") == "/web1/init.scope"
    for other in ("/", "/user.slice", f"/{'a' * 63}", f"/{'a' * 65}"):
        assert units.cgroup_text(other) == other


@pytest.mark.parametrize(
    ("path", "above"), [("/", []), ("/a", []), ("/a/b", ["/a"]), ("/a/b/c", ["/a/b", "/a"]), ("", [])]
)
def test_ancestors(path: str, above: list[str]) -> None:
    assert units.ancestors(path) == above


def test_ranges() -> None:
    for text in ("", "0", "0-2,8", "1,3,5-6"):
        assert units.number_ranges(units.number_list(text)) == text
