"""Print the table of docs/reference/attention.md from what the backends declare; --write puts it into that page.

python docs/tools/attention_table.py --write
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from orthrus import AttentionCapabilities
from orthrus_attention.eager import EagerAttention
from orthrus_attention.flash import FlashAttention
from orthrus_attention.flash_packages import FOUR, THREE, TWO
from orthrus_attention.flex import FlexAttention
from orthrus_attention.sdpa import SdpaAttention
from orthrus_attention.split_kv import SplitAttention

PAGE = Path(__file__).parents[1] / "reference" / "attention.md"
MARK = "<!-- attention capabilities -->\n"
HEADER = (
    "name",
    "devices",
    "dtypes",
    "kinds",
    "head sizes",
    "windows",
    "soft-capping",
    "sinks",
    "CUDA graphs",
    "hides NaN",
)
DECLARED = {
    "eager": EagerAttention.capabilities,
    "sdpa": SdpaAttention.capabilities,
    "split": SplitAttention.capabilities,
    "flash": FlashAttention.capabilities,
    "flash_attention_2": TWO.capabilities,
    "flash_attention_3": THREE.capabilities,
    "flash_attention_4": FOUR.capabilities,
    "flex": FlexAttention.capabilities,
}


def table() -> list[str]:
    """Return the lines of the table, a backend a line."""
    rows = [HEADER, ("---",) * len(HEADER), *(row(name, can) for name, can in DECLARED.items())]
    return [f"| {' | '.join(cells)} |" for cells in rows]


def row(name: str, can: AttentionCapabilities) -> tuple[str, ...]:
    """Return one backend's cells."""
    flags = (can.windows, can.softcap, can.sinks, can.graphs, can.hides_any_value)
    sets = (listed(can.devices), listed(can.dtypes), listed(can.kinds), sizes(can.head_sizes))
    return (f"`{name}`", *sets, *("yes" if flag else "no" for flag in flags))


def listed(names: Iterable[str]) -> str:
    """Return names one after the other; none is all."""
    return ", ".join(sorted(names)) or "all"


def sizes(head_sizes: frozenset[int]) -> str:
    """Return head sizes, those in a row by their first and last; none is all."""
    return ", ".join(_runs(sorted(head_sizes))) or "all"


def _runs(numbers: list[int]) -> Iterator[str]:
    while numbers:
        step = numbers[1] - numbers[0] if len(numbers) > 1 else 0
        length = next((i for i, number in enumerate(numbers) if number != numbers[0] + i * step), len(numbers))
        yield f"{numbers[0]} to {numbers[length - 1]} by {step}" if length > 2 else str(numbers[0])
        numbers = numbers[length if length > 2 else 1 :]


def main() -> None:
    """Print the table, or put it into the page in the place of the one there."""
    lines = table()
    if sys.argv[1:] == ["--write"]:
        before, _, after = PAGE.read_text(encoding="utf-8").partition(MARK)
        rest = after.partition("\n\n")[2]
        PAGE.write_text(f"{before}{MARK}" + "\n".join(lines) + f"\n\n{rest}", encoding="utf-8")
    else:
        print("\n".join(lines))


if __name__ == "__main__":
    main()
