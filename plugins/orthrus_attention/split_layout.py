"""The layout of attention `split`: how many query rows and slots a program takes, and into how many parts slots go."""

from __future__ import annotations

PROGRAMS = 512  # enough to fill today's GPUs a few times over
SMALLEST_SPLIT = 64  # slots; below it, weighing the splits together costs more than it saves
MOST_SPLITS = 64
MANY_ROWS, FEW_PROGRAMS = 128, 264  # of more rows fewer programs are enough: two a multiprocessor of an H100 or H200
ENOUGH, FEW_SLOTS = 96, 1024  # so many programs need no splits of so few slots, which leaves out a kernel

NUMBERS_A_WARP = 2048  # that splits left, 64 for a thread: few warps have the least to tell one another


def split_count(heads: int, tiles: int, slots: int, rows: int) -> int:
    """Return into how many parts a row's slots are split; heads: of keys, of all rows, each with tiles of queries.

    rows: of queries that share a key head.
    """
    programs = heads * tiles
    if programs >= ENOUGH and slots <= FEW_SLOTS:
        return 1
    most = FEW_PROGRAMS if rows > MANY_ROWS else PROGRAMS
    return max(1, min(MOST_SPLITS, most // programs, slots // SMALLEST_SPLIT))


def tile_sizes(rows: int, size: int, slots: int, width: int) -> tuple[int, int, int]:
    """Return how many query rows and slots a program takes at a time, and its warps; width: bytes of a number.

    Measured on an H100: one tile of up to 128 rows reads the keys once, which pays from about 8,192 slots on. On an
    H200 smaller tiles are faster for more rows, as a multiprocessor runs two programs then: for 256 to 288 rows with
    Qwen3-8B's heads (chains and trees of 64 tokens, blocks beside a draft), and for its prefills. Products of float32
    numbers have no tensor cores, and large ones no room in registers: they take twenty times as long.
    """
    if width > 2:
        return (16 if rows <= 16 or size > 64 else 32), (64 if size <= 64 else 32), 4
    if 96 < rows <= MANY_ROWS and size <= 128 and slots >= 8192:
        return 128, 64, 8
    return (16 if rows <= 16 else 32 if rows <= 32 else 64), (64 if size <= 128 else 32), 4


def combining_warps(cells: int, padded: int) -> int:
    """Return the warps of a program that weighs splits together: of so many, numbers of `padded` each."""
    return max(1, min(4, cells * padded // NUMBERS_A_WARP))
