"""Put the tables of checks into docs/reference/conformance.md: names and what each proves, from the checks themselves.

python docs/tools/check_tables.py --write
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from orthrus.testing.checks import EVERY_CHECK

PAGE = Path(__file__).parents[1] / "reference" / "conformance.md"
TABLE = re.compile(r"<!-- checks: (\w+) -->\n.*?<!-- end -->\n", re.DOTALL)


def table(kind: str) -> str:
    """Return the table of a kind of part, between its marks."""
    rows = [f"| `{check.name}` | {check.rule} |" for check in EVERY_CHECK[kind]()]
    lines = [f"<!-- checks: {kind} -->", "| check | what it proves |", "|---|---|", *rows, "<!-- end -->"]
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """Return the page's text with its tables made anew."""
    return TABLE.sub(lambda match: table(match.group(1)), text)


def main() -> None:
    """Print the tables, or write them into the page."""
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print("\n".join(map(table, EVERY_CHECK)))


if __name__ == "__main__":
    main()
