"""Print the table of docs/guide/doctor.md from what `orthrus doctor --json` found; --write puts it into that page.

In tests: python -m support.ailing_drafters "z-lab dflash: taps too low" ward
orthrus doctor --config ward/run.yaml --prompts ward/prompts.jsonl --json > docs/evidence/doctor.json
python docs/tools/doctor_table.py --write
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from orthrus.cli.doctor_table import override

DOCS = Path(__file__).parents[1]
FOUND = DOCS / "evidence" / "doctor.json"
PAGE = DOCS / "guide" / "doctor.md"
MARK, END = "<!-- doctor -->\n", "<!-- end -->\n"
HEADER = ("change", "override", "accepted_length", "tokens_per_cycle", "gain", "helps", "same text")


def page_lines(found: dict[str, Any]) -> list[str]:
    """Return the lines of the table: the config as it is, then a line a trial that could be had."""
    first = ("as it is", "", *ratios(found["as_configured"]), "", "", "")
    rows = [row(trial) for trial in found["trials"] if trial["refused"] is None]
    return [f"| {' | '.join(cells)} |" for cells in (HEADER, ("---",) * len(HEADER), first, *rows)]


def row(trial: dict[str, Any]) -> tuple[str, ...]:
    """Return one trial's cells."""
    gain, same = trial["gain"], trial["identical"]
    return (
        trial["name"],
        f"`{override(trial['write'])}`",
        *ratios(trial),
        "" if gain is None else f"{gain['mean']:+.2f} ± {gain['error']:.2f}",
        "yes" if trial["helps"] else "",
        "" if same is None else str(same),
    )


def ratios(measured: dict[str, Any]) -> tuple[str, ...]:
    """Return both measures, pooled / per prompt."""
    names = ("accepted_length", "tokens_per_cycle")
    return tuple(f"{measured[name]['pooled']:.2f} / {measured[name]['per_prompt']:.2f}" for name in names)


def main() -> None:
    """Print the table, or put it into the page in the place of the one there."""
    lines = page_lines(json.loads(FOUND.read_text(encoding="utf-8")))
    if sys.argv[1:] == ["--write"]:
        before, _, after = PAGE.read_text(encoding="utf-8").partition(MARK)
        rest = after.partition(END)[2]
        PAGE.write_text(f"{before}{MARK}" + "\n".join(lines) + f"\n{END}{rest}", encoding="utf-8")
    else:
        print("\n".join(lines))


if __name__ == "__main__":
    main()
