"""Make docs/results/bugs-the-kit-finds.md: every seeded bug, the check that names it, what else does not pass.

python docs/tools/bug_table.py --write
"""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).parents[1]
PAGE = DOCS / "results" / "bugs-the-kit-finds.md"
sys.path.insert(0, str(DOCS.parent / "tests"))

from support.bug import Bug  # noqa: E402  # behind the path, like those below
from support.bugs import BUGS  # noqa: E402

from orthrus.testing.check import Check  # noqa: E402
from orthrus.testing.checks import EVERY_CHECK  # noqa: E402

HEAD = """# Bugs that the kit finds

<!-- made by docs/tools/bug_table.py -->

These bugs are known from other decoders, or easily made. They are seeded, one by one, into parts that are right without
them, and the [conformance kit](../reference/conformance.md) is run on the broken part. It rejects every one, and the
check in the second column says what is wrong. The third column has what else does not pass on its smallest cases: a
draft that the loop refuses, for one, fails every check that decodes with it.

A bug of the loop is planted in the runtime, and found by the checks of parts that are right.
"""
FEW = 3  # cases on which the other checks are tried
MOST_NAMED = 4  # other checks are named up to so many


def rejecting(bug: Bug) -> list[str]:
    """Return the names of the checks that fail with a bug: the one that must, and others on their smallest cases."""
    with bug.plant():
        return [check.name for check in EVERY_CHECK[bug.kind]() if fails(check, bug)]


def fails(check: Check, bug: Bug) -> bool:
    """Tell whether a check fails with a bug."""
    cases = check.cases if check.name == bug.check else check.cases[:FEW]
    return check.outcome(bug.make, *cases).status == "failed"


def row(bug: Bug) -> str:
    """Return a bug's line of the table."""
    failed = rejecting(bug)
    others = [f"`{name}`" for name in failed if name != bug.check]
    listed = ", ".join(others) if len(others) <= MOST_NAMED else f"{len(others)} others"
    named = f"`{bug.check}`" if bug.check in failed else "nothing"
    return f"| {bug.what} | {named} | {listed} |"


def page() -> str:
    """Return the whole page."""
    parts = [HEAD, f"There are {sum(len(bugs) for bugs in BUGS.values())} of them.\n"]
    for heading, bugs in BUGS.items():
        lines = ["| the bug | is named by | does not pass either |", "|---|---|---|", *map(row, bugs)]
        parts.append(f"## {heading}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def main() -> None:
    """Print the page, or write it."""
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        print(page())


if __name__ == "__main__":
    main()
