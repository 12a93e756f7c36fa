"""The cache `paged`: blocks of slots, and a table of them for each row. B: rows, H: heads of keys, D: size of a head.

R: rows of a pass, n: its columns, S: slots of a block.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from orthrus import InputError, Parts
from orthrus_caches.block_pool import NOTHING, UNREAD, BlockPool
from orthrus_caches.block_store import BlockStore, PlacedBlocks
from orthrus_caches.buffers import moved_lengths
from orthrus_caches.options import PagedOptions
from orthrus_caches.prefix_index import PrefixIndex


class PagedCache:
    """Hold the token at position p in the slot p % S of its row's block p // S; a row has the blocks that it wrote.

    A block may be held by several rows, and by an index of prefixes; whoever writes one that others hold, too, writes a
    copy. What a row does not hold is read as zeros; what is written for a row that has ended goes to a block that
    nobody reads. Which blocks a pass writes is decided on the host, so on a GPU it waits for the slots of each pass.
    """

    moves_rows = True

    def __init__(self, block: int = 16, blocks: int | None = None, prefixes: int = 0) -> None:
        """Hold nothing. block: slots of one; blocks: that may be held, None: any number; prefixes: of them, for others.

        Those of prefixes are given up where rows need them.
        """
        self.lengths = torch.zeros(0, dtype=torch.int64)  # [B]
        self.shares_prefixes = prefixes > 0
        self.max_slots = None if blocks is None else blocks * block  # of a row that is alone
        self._slots = block
        self._most = blocks
        self._prefixes = prefixes
        self._pool, self._store = BlockPool(blocks), BlockStore(block)
        self._index = PrefixIndex(self._pool, block, prefixes)
        self._tables: list[list[int]] = []  # of each row its blocks, NOTHING where it has none
        self._limits: list[int | None] = []  # slots that each row comes to, None: nobody said
        self._ended: set[int] = set()  # rows
        self._cropped = True  # whether the tables follow the lengths
        self._placed: PlacedBlocks | None = None

    def start(self, rows: int, device: torch.device) -> None:
        """Hold `rows` rows of length 0, and of what was there only the prefixes."""
        for table in self._tables:
            self._give_back(table)
        if self.lengths.device != torch.empty(0, device=device).device or not len(self._index):
            self._forget_everything()
        self.lengths = torch.zeros(rows, dtype=torch.int64, device=device)
        self._tables, self._limits, self._ended = [[] for _ in range(rows)], [None] * rows, set()
        self._cropped = True

    def move_rows(self, sources: Sequence[int]) -> None:
        """Hold as many rows as there are sources; each has what the row of that number had, -1 nothing."""
        self._crop()
        before, limits, ended = self._tables, self._limits, self._ended
        self._tables = [self._shared(before[source]) if source >= 0 else [] for source in sources]
        for table in before:
            self._give_back(table)
        self._limits = [limits[source] if source >= 0 else None for source in sources]
        self._ended = {row for row, source in enumerate(sources) if source in ended}
        self.lengths = moved_lengths(self.lengths, sources)

    def begin_rows(self, rows: Sequence[int], slots: Sequence[int | None]) -> None:
        """Hold nothing of these rows, which begin anew; slots: that each of them comes to, None: nobody knows."""
        self.end_rows(rows)
        self._ended.difference_update(rows)
        for row, count in zip(rows, slots, strict=True):
            self._limits[row] = count

    def end_rows(self, rows: Sequence[int]) -> None:
        """Hold nothing of these rows from here on: what passes write for them is not kept, until they begin anew."""
        self._crop()  # by the lengths that they had so far
        for row in rows:
            self._give_back(self._tables[row])
            self._tables[row] = []
        self._ended.update(rows)

    def refusal(self, slots: Sequence[int]) -> str | None:
        """Return why rows that come to so many slots each are not held together, and what to set; None: they are."""
        needed = sum(self._blocks_of(count) for count in slots)
        if self._most is None or needed <= self._most:
            return None
        return (
            f"these are {needed} blocks of {self._slots} slots, more than cache.blocks={self._most}; set"
            f" cache.blocks={needed} or a smaller stop.max_new_tokens"
        )

    def held_prefix(self, tokens: Sequence[int]) -> int:
        """Return how many leading tokens of a text are held in whole blocks that a row can adopt."""
        return len(self._index.find(tokens)) * self._slots

    def adopt_prefix(self, row: int, tokens: Sequence[int]) -> int:
        """Let a row that holds nothing have what is held of a text's leading tokens; return how many they are."""
        assert not any(self._tables[row]), "a row that adopts a prefix holds nothing"
        self._tables[row] = self._shared(self._index.find(tokens))
        self._index.use(tokens)
        return len(self._tables[row]) * self._slots

    def offer_prefix(self, row: int, tokens: Sequence[int]) -> None:
        """Keep the blocks that these tokens of a row fill, for rows that begin alike; they are the row's first ones."""
        if self._prefixes:
            self._index.add(tokens, self._tables[row])

    def place(self, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        """Set where the next pass writes: slots [R, n] of rows [R]; return the slots of all blocks up to the extent."""
        within = slots // self._slots  # [R, n], the block's place in the table
        numbers, places = self._read(within, rows)
        self._take_blocks(numbers, places)
        count = self._blocks_of(extent)
        padded = [[*self._tables[row][:count], *[NOTHING] * (count - len(self._tables[row]))] for row in numbers]
        read = torch.tensor(padded, dtype=torch.int64).to(slots.device, non_blocking=True)  # [R, count]
        written = read.gather(1, within)
        self._placed = PlacedBlocks(read, written.where(written != NOTHING, UNREAD), slots % self._slots)
        return count * self._slots

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Write [R, H, n, D] into the placed slots; return copies [R, H, slots, D] of all that the layer holds."""
        assert self._placed is not None, "a pass is placed before it writes"
        return self._store.update(self._placed, keys, values, layer)

    def keep(self, lengths: Tensor) -> None:
        """Commit exactly the first lengths [B] slots of each row; blocks beyond them are given back.

        That is done when blocks are asked for next: on a GPU the lengths are read with the slots of the next pass.
        """
        self.lengths, self._cropped = lengths, False

    def bytes_in_use(self) -> int:
        """Return the bytes of all buffers, those of free blocks included."""
        return sum(buffer.nbytes for buffer in self._store.buffers())

    @property
    def blocks_in_use(self) -> int:
        """How many blocks rows and prefixes hold; one that several hold counts once."""
        self._crop()
        return self._pool.held

    def _blocks_of(self, slots: int) -> int:
        return -(-slots // self._slots)

    def _forget_everything(self) -> None:
        while self._index.drop_oldest():
            pass
        self._pool = BlockPool(self._most)
        self._index = PrefixIndex(self._pool, self._slots, self._prefixes)
        self._store.clear()

    def _read(self, within: Tensor, rows: Tensor | None) -> tuple[list[int], list[list[int]]]:
        """Return the rows of a pass, and the places that each writes, after one wait for the device; crop, if due."""
        wanted = [within.flatten(), *([] if rows is None else [rows]), *([] if self._cropped else [self.lengths])]
        values: list[int] = torch.cat(wanted).tolist()
        count, width = within.shape
        written, rest = values[: count * width], values[count * width :]
        if not self._cropped:
            self._crop_to(rest[len(rest) - len(self._tables) :])
        numbers = list(range(len(self._tables))) if rows is None else rest[:count]
        return numbers, [written[start : start + width] for start in range(0, count * width, width)]

    def _crop(self) -> None:
        """Give back the blocks beyond the committed slots of each row, if that was not done yet."""
        if not self._cropped:
            self._crop_to(self.lengths.tolist())

    def _crop_to(self, lengths: Sequence[int]) -> None:
        self._cropped = True
        for table, length in zip(self._tables, lengths, strict=True):
            count = self._blocks_of(length)
            self._give_back(table[count:])
            del table[count:]

    def _take_blocks(self, rows: Sequence[int], placed: Sequence[Sequence[int]]) -> None:
        """Let rows have, for themselves alone, the blocks at these places of their tables; all that write share them.

        What rows come to goes before what is written behind that, which may be lost: such slots are nobody's text.
        """
        by_row = {row: set(places) for row, places in zip(rows, placed, strict=True) if row not in self._ended}
        wanted = [(row, place) for row, places in by_row.items() for place in places if not self._has(row, place)]
        wanted.sort(key=lambda pair: (self._is_beyond(*pair), pair))
        copied = [pair for row, place in wanted if (pair := self._take_block(row, place)) is not None]
        self._store.hold(self._pool.size, self._pool.most_numbers)
        if copied:
            origins, targets = zip(*copied, strict=True)
            self._store.copy(origins, targets)

    def _take_block(self, row: int, place: int) -> tuple[int, int] | None:
        """Let a row have a block of its own at a place of its table; return the pair to copy from and to, if it has."""
        if self._has(row, place):  # whoever shared it has taken a copy meanwhile
            return None
        table, block = self._tables[row], self._take(row, place)
        if block is None:
            return None
        table += [NOTHING] * (place + 1 - len(table))
        before, table[place] = table[place], block
        if before == NOTHING:
            return None
        self._pool.give_back(before)
        return before, block

    def _has(self, row: int, place: int) -> bool:
        """Return whether a row holds the block at a place of its table, and nobody else does."""
        table = self._tables[row]
        return place < len(table) and table[place] != NOTHING and not self._pool.is_shared(table[place])

    def _is_beyond(self, row: int, place: int) -> bool:
        limit = self._limits[row]
        return limit is not None and place * self._slots >= limit

    def _take(self, row: int, place: int) -> int | None:
        """Return a block for a row, giving up prefixes if there is none; None for what the row does not come to."""
        block = self._pool.take()
        while block is None and self._index.drop_oldest():
            block = self._pool.take()
        if block is None and not self._is_beyond(row, place):
            raise InputError(
                f"all {self._most} blocks of {self._slots} slots are in use; set a larger cache.blocks, or a smaller"
                " batch or stop.max_new_tokens"
            )
        return block

    def _shared(self, table: Sequence[int]) -> list[int]:
        """Return a copy of a table that holds its blocks, too."""
        for block in table:
            if block != NOTHING:
                self._pool.share(block)
        return list(table)

    def _give_back(self, blocks: Iterable[int]) -> None:
        for block in blocks:
            if block != NOTHING:
                self._pool.give_back(block)


def make(options: PagedOptions, parts: Parts) -> PagedCache:
    """Return the cache."""
    return PagedCache(options.block, options.blocks, options.prefixes)
