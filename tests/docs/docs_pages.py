"""Reads the Markdown of the documentation: its fenced blocks, its tables, and the comments that mark them.

A comment on the line before a fence or a table says what it is; CONTRIBUTING.md lists the marks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
MARK = re.compile(r"<!-- (.+) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the comment before it, its text, and the line on which the text starts."""

    language: str
    mark: str
    text: str
    line: int


@dataclass(frozen=True)
class Page:
    path: Path

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def blocks(self) -> list[Block]:
        blocks: list[Block] = []
        lines = self.text.splitlines()
        start = None
        for number, line in enumerate(lines):
            if not line.startswith("```"):
                continue
            if start is None:
                start = number
            else:
                inside = "".join(f"{line}\n" for line in lines[start + 1 : number])
                blocks.append(Block(lines[start][3:].strip(), _mark(lines, start), inside, start + 1))
                start = None
        return blocks

    def of(self, language: str, *marks: str) -> list[Block]:
        """Return the blocks of a language whose mark's first word is among the marks ("" is no mark)."""
        return [block for block in self.blocks if block.language == language and block.mark.partition(":")[0] in marks]

    @property
    def prose(self) -> str:
        """The page without its fenced blocks."""
        return re.sub(r"^```.*?^```$", "", self.text, flags=re.DOTALL | re.MULTILINE)

    @property
    def headings(self) -> list[str]:
        return re.findall(r"^#+ (.+)$", self.prose, flags=re.MULTILINE)

    def table(self, mark: str) -> list[list[str]]:
        """Return the rows of the table after the comment, without its header; empty if there is none."""
        after = self.text.partition(f"<!-- {mark} -->\n")[2].splitlines()
        rows = []
        for line in after:
            if not line.startswith("|"):
                break
            rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
        return rows[2:]

    def marks(self, kind: str) -> list[str]:
        """Return what follows `kind: ` in the page's comments."""
        return re.findall(rf"^<!-- {kind}: (.+) -->$", self.text, flags=re.MULTILINE)


def pages() -> list[Page]:
    """Return every page of the repository; docs/evidence/benchmarks/ is part of docs/results/benchmarks.md."""
    places = {*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("findings/*.md"), *ROOT.glob("tests/*.md")}
    return [Page(path) for path in sorted(places - set(ROOT.glob("docs/evidence/benchmarks/*.md")))]


def page(name: str) -> Page:
    return Page(ROOT / name)


def _mark(lines: list[str], fence: int) -> str:
    match = MARK.fullmatch(lines[fence - 1]) if fence else None
    return match.group(1) if match else ""
