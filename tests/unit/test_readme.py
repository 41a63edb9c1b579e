"""What README.md and docs/ name is there: files, commands with their options, `make`'s targets, variables."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dumont.cli.commands.snapshots import SnapshotGroup
from dumont.cli.main import cli

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "infra/README.md", *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
FENCED = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
VARIABLE = re.compile(r"\b(?:DUMONT|VAST|B2|SLACK)_[A-Z0-9_]+\b")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def commands(page: Path) -> Iterator[str]:
    """Each call of `dumont` in a fence or between backticks, without its remark; "a; dumont b" are two."""
    text = page.read_text(encoding="utf-8")
    fenced = "".join(FENCED.findall(text)).replace("\\\n", " ")
    lines = [line.split(" #")[0] for line in fenced.splitlines()] + INLINE.findall(FENCED.sub("", text))
    for line in lines:
        for part in re.split(r"; |\$\(|\)\"", line):
            found = re.search(r"(?:^|[ /])dumont (.+)$", part)
            if found and not part.startswith(("#", "apt")):
                yield found.group(1).strip()


def asked(call: str) -> tuple[click.Command, list[str]]:
    """The command that a call names, and the options that it gives it; what follows -- is another's."""
    words = shlex.split(call.replace("…", "X").replace("[", "").replace("]", ""))
    words = words[: words.index("--")] if "--" in words else words
    command: click.Command = cli
    for word in words:
        known = command.commands.get(word.split("|")[0]) if isinstance(command, click.Group) else None
        if known is None and isinstance(command, SnapshotGroup) and not word.startswith("-"):
            known = command.commands["take"]  # a machine's name
        if known is None:
            break
        command = known
    return command, [word.split("=")[0] for word in words if word.startswith("-") and word != "-"]


@each_page
def test_each_link_leads_to_a_file(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


@each_page
def test_each_command_and_option_is_there(page: Path) -> None:
    for call in commands(page):
        command, given = asked(call)
        assert command is not cli or call.startswith(("-", "COMMAND")), f"dumont {call}"
        options = {name for one in command.params for name in one.opts + one.secondary_opts} | {"--help", "-h"}
        assert set(given) <= options, f"dumont {call}"


@each_page
def test_each_target_of_make_is_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE))
    assert named <= targets


@each_page
def test_each_variable_is_read_somewhere(page: Path) -> None:
    sources = [*(ROOT / "shared").rglob("*.py"), *(ROOT / "infra").glob("*.*"), *(ROOT / "functions").rglob("*.toml")]
    code = "".join(path.read_text(encoding="utf-8") for path in sources if path.name != "README.md")
    named = set(VARIABLE.findall(page.read_text(encoding="utf-8")))
    assert {name for name in named if name not in code} == set()


def test_every_page_is_reached_from_the_readme() -> None:
    linked = set(LINK.findall((ROOT / "README.md").read_text(encoding="utf-8")))
    assert {str(page.relative_to(ROOT)) for page in PAGES} - linked == {"README.md"}


def test_make_help_lists_each_target() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony is not None
    assert set(phony.group(1).split()) == set(re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE))
