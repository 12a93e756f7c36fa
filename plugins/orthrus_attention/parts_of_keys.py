"""The parts in which attention reads keys where its bits are to be steady: by position alone, whatever the pass.

A group of parts is folded before it is folded with the others, so a program may leave a part or a group. B: rows.
"""

from __future__ import annotations

SLOTS = (64, 256, 1024)  # of a part: a short text has many small ones, which fill a GPU
ENDS = (1024, 8192)  # up to where parts have the first of these, and the second
FIRST_GROUP, GROUP = 16, 4  # parts of the first group, and of each further one


def part_count(slots: int) -> int:
    """Return how many parts hold so many slots."""
    if slots <= ENDS[0]:
        return -(-slots // SLOTS[0])
    few = FIRST_GROUP + -(-(min(slots, ENDS[1]) - ENDS[0]) // SLOTS[1])
    return few + -(-max(0, slots - ENDS[1]) // SLOTS[2])


def group_count(slots: int) -> int:
    """Return how many groups hold so many slots."""
    return 1 + -(-max(0, part_count(slots) - FIRST_GROUP) // GROUP)
