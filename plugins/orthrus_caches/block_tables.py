"""Tables of blocks: which block of a pool each row has at each place, and when it takes it and gives it back.

S: slots of a block. A place is the number of a block in its row: slot p is in place p // S.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orthrus import InputError
from orthrus_caches.block_pool import NOTHING, BlockPool
from orthrus_caches.prefix_index import PrefixIndex


class BlockTables:
    """The tables of all rows, over one pool, which an index of prefixes shares."""

    def __init__(self, slots: int, most: int | None, prefixes: int) -> None:
        """Have no rows. slots: of a block; most: blocks that may be held, None: any; prefixes: most of the index."""
        self.pool = BlockPool(most)
        self.index = PrefixIndex(self.pool, slots, prefixes)
        self._slots = slots
        self._most = most
        self._tables: list[list[int]] = []  # of each row its blocks, NOTHING where it has none
        self._limits: list[int | None] = []  # slots that each row comes to, None: nobody said
        self._ended: set[int] = set()  # rows

    def __len__(self) -> int:
        return len(self._tables)

    def clear(self, rows: int) -> None:
        """Have so many rows, which hold nothing; the index keeps what it has."""
        for table in self._tables:
            self._give_back(table)
        self._tables, self._limits, self._ended = [[] for _ in range(rows)], [None] * rows, set()

    def move(self, sources: Sequence[int]) -> None:
        """Have as many rows as there are sources; each has what the row of that number had, -1 nothing."""
        before, limits, ended = self._tables, self._limits, self._ended
        self._tables = [self._shared(before[source]) if source >= 0 else [] for source in sources]
        for table in before:
            self._give_back(table)
        self._limits = [limits[source] if source >= 0 else None for source in sources]
        self._ended = {row for row, source in enumerate(sources) if source in ended}

    def begin(self, rows: Sequence[int], slots: Sequence[int | None]) -> None:
        """Let rows hold nothing, and come to so many slots each."""
        self.end(rows)
        self._ended.difference_update(rows)
        for row, count in zip(rows, slots, strict=True):
            self._limits[row] = count

    def end(self, rows: Sequence[int]) -> None:
        """Let rows hold nothing, and take nothing until they begin."""
        for row in rows:
            self._give_back(self._tables[row])
            self._tables[row] = []
        self._ended.update(rows)

    def crop(self, lengths: Sequence[int]) -> None:
        """Give back the blocks beyond so many slots of each row."""
        for table, length in zip(self._tables, lengths, strict=True):
            self._cut(table, length)

    def adopt(self, row: int, blocks: Sequence[int]) -> None:
        """Let a row that holds nothing hold blocks that others hold, as its first ones."""
        assert not any(self._tables[row]), "a row that adopts a prefix holds nothing"
        self._tables[row] = self._shared(blocks)

    def blocks(self, row: int) -> Sequence[int]:
        """Return the blocks of a row."""
        return self._tables[row]

    def padded(self, rows: Sequence[int], count: int) -> list[list[int]]:
        """Return the first blocks of rows, NOTHING where there are fewer."""
        tables = (self._tables[row][:count] for row in rows)
        return [[*table, *[NOTHING] * (count - len(table))] for table in tables]

    def take(self, rows: Sequence[int], places: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
        """Let rows have blocks of their own at these places; return which to copy first, from and to.

        What is behind the slots that a row comes to is nobody's text: it goes into blocks that are free for this pass,
        and is lost where there are none. Raises InputError where the pool has none left for what rows come to.
        """
        self._give_back_scratch()
        by_row = {row: set(some) for row, some in zip(rows, places, strict=True) if row not in self._ended}
        wanted = [(row, place) for row, some in by_row.items() for place in some if not self._has(row, place)]
        wanted.sort(key=lambda pair: (self._is_beyond(*pair), pair))
        return [pair for row, place in wanted if (pair := self._take_block(row, place)) is not None]

    def _give_back_scratch(self) -> None:
        """Give back the blocks behind what rows come to: no pass reads what another wrote there."""
        for table, limit in zip(self._tables, self._limits, strict=True):
            if limit is not None:
                self._cut(table, limit)

    def _cut(self, table: list[int], slots: int) -> None:
        """Give back the blocks of a table beyond so many slots."""
        count = -(-slots // self._slots)
        self._give_back(table[count:])
        del table[count:]

    def _take_block(self, row: int, place: int) -> tuple[int, int] | None:
        """Let a row have a block of its own at a place of its table; return the pair to copy from and to, if it has."""
        if self._has(row, place):  # whoever shared it has taken a copy meanwhile
            return None
        table, block = self._tables[row], self._free_block(row, place)
        if block is None:
            return None
        table += [NOTHING] * (place + 1 - len(table))
        before, table[place] = table[place], block
        if before == NOTHING:
            return None
        self.pool.give_back(before)
        return before, block

    def _has(self, row: int, place: int) -> bool:
        """Return whether a row holds the block at a place of its table, and nobody else does."""
        table = self._tables[row]
        return place < len(table) and table[place] != NOTHING and not self.pool.is_shared(table[place])

    def _is_beyond(self, row: int, place: int) -> bool:
        limit = self._limits[row]
        return limit is not None and place * self._slots >= limit

    def _free_block(self, row: int, place: int) -> int | None:
        """Return a block for a row, giving up prefixes if there is none; None for scratch that finds none."""
        block = self.pool.take()
        if self._is_beyond(row, place):
            return block
        while block is None and self.index.drop_oldest():
            block = self.pool.take()
        if block is None:
            raise InputError(
                f"all {self._most} blocks of {self._slots} slots are in use; set a larger cache.blocks, or a smaller"
                " batch or stop.max_new_tokens"
            )
        return block

    def _shared(self, table: Sequence[int]) -> list[int]:
        """Return a copy of a table that holds its blocks, too."""
        for block in table:
            if block != NOTHING:
                self.pool.share(block)
        return list(table)

    def _give_back(self, blocks: Iterable[int]) -> None:
        for block in blocks:
            if block != NOTHING:
                self.pool.give_back(block)
