"""Text in terminal cells."""

from __future__ import annotations

import pytest

from mmwatch.display.text import cells, cut, cut_front, field, fit, join


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("plain", 5),
        ("日本", 4),
        ("e\u0301a\u20dd", 2),  # combining acute, enclosing circle
        ("한", 2),
        ("\u1112\u1161\u11ab", 2),  # the same syllable in three letters
        ("\uff46\uff55\uff4c\uff4c", 8),
        ("ﾊﾝｶｸ", 4),
        ("🐍", 2),
        ("", 0),
    ],
)
def test_cells(text: str, width: int) -> None:
    assert cells(text) == width


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "ab+"),
        ("日本語", 6, "日本語"),
        ("日本語", 5, "日本+"),
        ("日本語", 4, "日+"),
        ("日本語", 1, "+"),
        ("e\u0301e\u0301e\u0301", 3, "e\u0301e\u0301e\u0301"),
        ("e\u0301e\u0301e\u0301e\u0301", 3, "e\u0301e\u0301+"),
        ("abc", 0, ""),
    ],
)
def test_cut(text: str, width: int, expected: str) -> None:
    assert cut(text, width) == expected


@pytest.mark.parametrize(
    ("path", "width", "expected"),
    [
        ("/a/b", 10, "/a/b"),
        ("/prod/batch/report", 12, "+/report"),
        ("/prod/batch/report", 15, "+/batch/report"),
        ("/averylongcgroupname.service", 12, "+ame.service"),
        ("/\u65e5\u672c\u8a9e\u65e5\u672c\u8a9e", 6, "+\u672c\u8a9e"),
        ("/a/b", 1, "+"),
        ("/a/b", 0, ""),
    ],
)
def test_a_path_is_cut_at_its_front(path: str, width: int, expected: str) -> None:
    assert cut_front(path, width) == expected
    assert cells(field(path, width, left=True, keep_end=True)) == width


def test_a_pile_of_marks_is_cut_too() -> None:
    assert len(cut("a" + "\u0301" * 5000, 10)) <= 41


@pytest.mark.parametrize(
    "text", ["x", "日本語日本語", "\x1b[31mred", "e\u0301" * 9, "🐍🐍🐍🐍🐍", "\u202eabc", "\udcff\udcfe"]
)
@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("width", range(1, 12))
def test_a_field_is_exactly_as_wide_as_asked(text: str, left: bool, width: int) -> None:
    made = field(text, width, left)
    assert cells(made) == width
    assert made.isprintable()


def test_a_field_is_cleaned_once() -> None:
    assert field("\x1b", 6, left=True) == field(field("\x1b", 6, left=True), 6, left=True) == "\\x1b  "


def test_lines_fit() -> None:
    assert fit("abc   ", None) == "abc"
    assert fit("abcdef", 4) == "abc+"
    assert join(["aa", "bb", "cc"], 6) == ["aa  bb", "cc"]
    assert join(["aa", "bb", "cc"], None) == ["aa  bb  cc"]
    assert join(["aaaaaaaa"], 4) == ["aaa+"]
