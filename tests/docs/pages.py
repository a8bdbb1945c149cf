"""The fenced blocks of README and the documentation, and the commands in them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^(?:<!-- needs: (?P<needs>.*) -->\n)?```(?P<language>.*)\n(?P<text>(?:.*\n)*?)```$", re.MULTILINE)
_INCLUDE = re.compile(r'^--8<-- "([^":]+)"$', re.MULTILINE)


class Block(NamedTuple):
    """A fenced block: its language, its text with included files in place, and what its marker says it `needs`."""

    page: str
    line: int
    language: str
    text: str
    needs: str | None


class Command(NamedTuple):
    """One command of a bash block, as words; a placeholder such as <folder> is the word "example"."""

    place: str
    words: list[str]
    needs: str | None


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text()
    return [
        Block(
            str(page.relative_to(ROOT)),
            text.count("\n", 0, match.start("language")) + 1,
            match["language"],
            _INCLUDE.sub(lambda include: (ROOT / include[1]).read_text(), match["text"]),
            match["needs"],
        )
        for match in _FENCE.finditer(text)
    ]


def commands() -> list[Command]:
    """Every command of every page."""
    return [
        Command(f"{block.page}:{block.line}: {shlex.join(words)}", words, block.needs)
        for page in PAGES
        for block in blocks(page)
        if block.language == "bash"
        for line in block.text.replace("\\\n", " ").splitlines()
        if (words := shlex.split(re.sub(r"<[^<>]+>", "example", line), comments=True))
    ]
