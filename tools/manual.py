"""Renews the generated parts of the manual pages: the columns, and the tables of a recording.

``make man`` runs it; tests/contract/test_docs.py fails if a page is out of date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mmwatch.diagnosis.rules import all_rules  # noqa: E402
from mmwatch.diagnosis.thresholds import Threshold  # noqa: E402
from mmwatch.model.columns import COLUMNS  # noqa: E402
from mmwatch.recording.schema import TABLES  # noqa: E402
from mmwatch.units import ns_text  # noqa: E402


def roff(text: str) -> str:
    """Text as roff shows it."""
    return text.replace("\\", "\\e").replace("-", "\\-")


def entry(name: str, note: str, text: str) -> str:
    """A tagged paragraph: the name in bold, a note, and a sentence."""
    return f'.TP\n.BR {roff(name)} " ({note})"\n{roff(text[0].upper() + text[1:])}.\n'


def columns() -> str:
    """The COLUMNS of mmwatch(8)."""
    return "".join(entry(column.key, column.title, column.help) for column in COLUMNS)


def tables() -> str:
    """The TABLES of mmwatch-recording(5)."""
    parts = []
    for table in TABLES:
        parts.append(f".SS {table.name}\n{roff(table.help[0].upper() + table.help[1:])}.\n")
        parts += [entry(column.name, column.type.split()[0], column.help) for column in table.columns]
    return "".join(parts)


def rules() -> str:
    """The RULES of mmwatch-rules(7)."""
    parts = []
    for rule in sorted(all_rules(), key=lambda rule: rule.id):
        parts.append(f".SS {roff(rule.id)}\n{roff(rule.title[0].upper() + rule.title[1:])}. {roff(rule.meaning)}\n")
        parts.append(f".TP\n.B Evidence\n{roff(rule.evidence)}\n")
        if rule.thresholds:
            parts.append(".TP\n.B Thresholds\n")
            parts.append("\n.br\n".join(roff(threshold(one)) for one in rule.thresholds) + "\n")
        parts.append(f".TP\n.B Remedy\n{roff(rule.remedy)}\n")
        if rule.limits:
            parts.append(f".TP\n.B Limits\n{roff(rule.limits)}\n")
        if rule.uncalibrated:
            parts.append(f".TP\n.B Uncalibrated\n{roff(rule.uncalibrated[0].upper() + rule.uncalibrated[1:])}.\n")
    return "".join(parts)


def threshold(one: Threshold) -> str:
    """What is compared, with which value, and why."""
    value = f"{one.value:g}"
    if one.unit == "ratio" and one.value <= 1:
        value = f"{100 * one.value:g}%"
    elif one.unit == "percent":
        value = f"{one.value:g}%"
    elif one.unit == "ns":
        value = ns_text(one.value)
    elif one.unit == "1/s":
        value = f"{one.value:g} a second"
    return f"{one.what[0].upper()}{one.what[1:]}: {value}. {one.reason[0].upper()}{one.reason[1:]}."


GENERATED: dict[str, tuple[str, Callable[[], str]]] = {
    "mmwatch.8": ("columns", columns),
    "mmwatch-recording.5": ("tables", tables),
    "mmwatch-rules.7": ("rules", rules),
}
"""By page: the name of its generated part, and what makes it."""


def renewed(page: str) -> str:
    """The page with its generated part made anew."""
    name, make = GENERATED[page]
    begin, end = f'.\\" {name}: made by tools/manual.py\n', f'.\\" end of {name}\n'
    text = (ROOT / "man" / page).read_text()
    found = re.search(f"{re.escape(begin)}.*?{re.escape(end)}", text, re.DOTALL)
    if found is None:
        raise SystemExit(f"man/{page} lacks the lines around its {name}: {begin}{end}")
    return f"{text[: found.start()]}{begin}{make()}{end}{text[found.end() :]}"


if __name__ == "__main__":
    for page in GENERATED:
        (ROOT / "man" / page).write_text(renewed(page))
