"""``--help``, README and the manual agree: they document what the argument parser declares.

The manual (man/mmwatch.8) has one ``.SS`` section per command, named after it (``.SS top`` or ``.SS mmwatch top``).
Options that all commands share are in ``.SH OPTIONS``.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
MANUAL = ROOT / "man" / "mmwatch.8"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("examples/*"))]

OPTION = re.compile(r"(?<![\w-])--?[a-zA-Z][\w-]*")
COMMON = {"-h", "--help"}  # argparse's own


def commands() -> dict[str, argparse.ArgumentParser]:
    """Every command's parser by its name, from the program itself."""
    from mmwatch.cli.main import build_parser

    for action in build_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise AssertionError("build_parser() has no commands")


def options(parser: argparse.ArgumentParser) -> set[str]:
    return {
        name
        for action in parser._actions
        if action.help is not argparse.SUPPRESS
        for name in action.option_strings
        if name not in COMMON
    }


def plain(line: str) -> str:
    """A line of the manual's source without its markup."""
    return re.sub(r"^\.[A-Z]+ ?", "", re.sub(r"\\f(\[\w*\]|\(..|.)", "", line).replace("\\-", "-").replace("\\&", ""))


def manual() -> dict[str, list[str]]:
    """The manual's plain lines by section: ``SYNOPSIS``, ``OPTIONS``, and each ``.SS`` by its last word."""
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in MANUAL.read_text().splitlines():
        if line.startswith('.\\"'):
            continue
        if line.startswith((".SH ", ".SS ")):
            name = plain(line).strip().strip('"')
            current = sections.setdefault(name.split()[-1] if line.startswith(".SS") else name, [])
        else:
            current.append(plain(line))
    return sections


def options_in(lines: list[str]) -> set[str]:
    return {name for line in lines for name in OPTION.findall(line.replace("|", " "))} - COMMON


def shown_command_lines(text: str) -> list[str]:
    """The ``mmwatch …`` commands in a document's code, up to a pipe, a ``;`` or a command of their own."""
    code = re.findall(r"^(?:[$#] |    )?((?:sudo )?mmwatch [a-z].*)$", text, re.MULTILINE)
    code += re.findall(r"`((?:sudo )?mmwatch [a-z][^`]*)`", text)
    return [re.split(r" -- | [|;&>#]|\s{2,}", line)[0] for line in code]


NAMES = ["diagnose", "top", "record", "report", "replay", "trace", "demo", "doctor"]  # a contract: add, don't rename


@pytest.mark.parametrize("name", NAMES)
def test_the_promised_commands_exist(name: str) -> None:
    assert name in commands()


def test_each_command_and_option_has_a_help_text() -> None:
    nameless = [
        f"{name} {'/'.join(action.option_strings) or action.dest}"
        for name, parser in commands().items()
        for action in parser._actions
        if not action.help
    ]
    assert nameless == []
    assert [name for name, parser in commands().items() if not parser.description] == []


def test_readme_names_each_command() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [name for name in commands() if f"mmwatch {name}" not in readme] == []


def test_manual_has_each_command_and_no_other() -> None:
    sections = manual()
    assert [name for name in commands() if name not in sections] == []
    commands_section = [line for line in MANUAL.read_text().splitlines() if line.startswith(".SS mmwatch ")]
    assert [line for line in commands_section if line.split()[-1] not in commands()] == []


def test_manual_has_each_option_where_it_belongs() -> None:
    sections = manual()
    common = options_in(sections.get("OPTIONS", []))
    missing = {
        name: gone
        for name, parser in commands().items()
        if (gone := sorted(options(parser) - options_in(sections.get(name, [])) - common))
    }
    assert missing == {}


def test_manual_has_no_option_that_does_not_exist() -> None:
    from mmwatch.cli.main import build_parser

    parsers = commands()
    everywhere = options(build_parser()).union(*map(options, parsers.values()))
    wrong = {
        section: extra
        for section, lines in manual().items()
        # A command's section may name its own options, other sections any. Ignore options of the user's COMMAND.
        if (
            extra := sorted(
                options_in([line.split(" -- ")[0] for line in lines])
                - (options(parsers[section]) | options(build_parser()) if section in parsers else everywhere)
            )
        )
    }
    assert wrong == {}


@pytest.mark.parametrize("document", [*DOCUMENTS, MANUAL], ids=lambda path: path.name)
def test_commands_shown_can_be_given(document: Path) -> None:
    """Every ``mmwatch …`` line in the documents uses a command and options that exist."""
    text = document.read_text()
    if document == MANUAL:
        text = "\n".join(map(plain, text.splitlines()))
    parsers = commands()
    wrong = []
    for line in shown_command_lines(text):
        words = shlex.split(line.replace("'", ""), comments=True)
        _, name, *rest = words[1:] if words[0] == "sudo" else words
        if name not in parsers:
            # Prose may begin with the name: "mmwatch shows ...". An option after it makes it a command.
            if options_in(rest):
                wrong.append(line)
        elif unknown := options_in(rest) - options(parsers[name]):
            wrong.append(f"{line}: {', '.join(sorted(unknown))}")
    assert wrong == []


def test_manual_and_readme_name_each_grouping() -> None:
    from mmwatch.model.groupings import GROUPINGS

    choices = [line for line in MANUAL.read_text().splitlines() if r"\-\-by" in line]
    assert choices
    assert [line for line in choices if f'"{"|".join(GROUPINGS)}"' not in line.replace('" ', '"')] == []
    readme = (ROOT / "README.md").read_text()
    assert [by for by in GROUPINGS if by not in readme.replace("name", "comm")] == []


def generator() -> ModuleType:
    """tools/manual.py, loaded by path because tools/ is not a package."""
    spec = importlib.util.spec_from_file_location("manual", ROOT / "tools" / "manual.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["mmwatch.8", "mmwatch-recording.5", "mmwatch-rules.7"])
def test_generated_parts_of_the_manual_are_up_to_date(page: str) -> None:
    assert (ROOT / "man" / page).read_text() == generator().renewed(page), "make man renews it"
