"""The cache `paged`: blocks of slots, and a table of them for each row. B: rows, H: heads of keys, D: size of a head.

R: rows of a pass, n: its columns, S: slots of a block.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from orthrus import Parts
from orthrus_caches.block_pool import NOTHING, UNREAD
from orthrus_caches.block_store import BlockStore, PlacedBlocks
from orthrus_caches.block_tables import BlockTables
from orthrus_caches.buffers import moved_lengths
from orthrus_caches.options import PagedOptions


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
        self._slots, self._most, self._prefixes = block, blocks, prefixes
        self._tables = BlockTables(block, blocks, prefixes)
        self._store = BlockStore(block)
        self._cropped = True  # whether the tables follow the lengths
        self._placed: PlacedBlocks | None = None

    def start(self, rows: int, device: torch.device) -> None:
        """Hold `rows` rows of length 0, and of what was there only the prefixes."""
        lengths = torch.zeros(rows, dtype=torch.int64, device=device)
        if lengths.device != self.lengths.device or not len(self._tables.index):
            self._tables = BlockTables(self._slots, self._most, self._prefixes)
            self._store.clear()
        self._tables.clear(rows)
        self.lengths, self._cropped = lengths, True

    def move_rows(self, sources: Sequence[int]) -> None:
        """Hold as many rows as there are sources; each has what the row of that number had, -1 nothing."""
        self._crop()
        self._tables.move(sources)
        self.lengths = moved_lengths(self.lengths, sources)

    def begin_rows(self, rows: Sequence[int], slots: Sequence[int | None]) -> None:
        """Hold nothing of these rows, which begin anew; slots: that each of them comes to, None: nobody knows."""
        self._crop()  # by the lengths that they had so far
        self._tables.begin(rows, slots)

    def end_rows(self, rows: Sequence[int]) -> None:
        """Hold nothing of these rows from here on: what passes write for them is not kept, until they begin anew."""
        self._crop()
        self._tables.end(rows)

    def refusal(self, slots: Sequence[int]) -> str | None:
        """Return why rows that come to so many slots each are not held together, and what to set; None: they are."""
        needed = sum(-(-count // self._slots) for count in slots)
        if self._most is None or needed <= self._most:
            return None
        return (
            f"these are {needed} blocks of {self._slots} slots, more than cache.blocks={self._most}; set"
            f" cache.blocks={needed} or a smaller stop.max_new_tokens"
        )

    def held_prefix(self, tokens: Sequence[int]) -> int:
        """Return how many leading tokens of a text are held in whole blocks that a row can adopt."""
        return len(self._tables.index.find(tokens)) * self._slots

    def adopt_prefix(self, row: int, tokens: Sequence[int]) -> int:
        """Let a row that holds nothing have what is held of a text's leading tokens; return how many they are."""
        blocks = self._tables.index.find(tokens)
        self._tables.adopt(row, blocks)
        self._tables.index.use(tokens)
        return len(blocks) * self._slots

    def offer_prefix(self, row: int, tokens: Sequence[int]) -> None:
        """Keep the blocks that these tokens of a row fill, for rows that begin alike; they are the row's first ones."""
        if self._prefixes:
            self._tables.index.add(tokens, self._tables.blocks(row))

    def forget_prefixes(self) -> None:
        """Keep no blocks of texts so far; rows keep the keys and values that they hold."""
        self._tables.index.clear()
        self._store.clear_beside()

    def write_states(self, states: Tensor) -> None:
        """Keep hidden states [R, n, W] of the pass that was placed last, with its blocks."""
        assert self._placed is not None, "a pass is placed before its states are written"
        self._store.write_beside(self._placed, states)

    def read_states(self, row: int, count: int) -> Tensor:
        """Return the hidden states [count, W] that were kept of a row's first tokens."""
        blocks = self._tables.blocks(row)[: -(-count // self._slots)]
        return self._store.read_beside(torch.tensor(blocks).to(self.lengths.device, non_blocking=True))[:count]

    def place(self, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        """Set where the next pass writes: slots [R, n] of rows [R]; return the slots of all blocks up to the extent."""
        places = slots // self._slots  # [R, n]
        numbers, places_on_host = self._read(places, rows)
        copied = self._tables.take(numbers, places_on_host)
        self._store.hold(self._tables.pool.size, self._tables.pool.most_numbers)
        self._store.copy(copied)
        count = -(-extent // self._slots)
        padded = torch.tensor(self._tables.padded(numbers, count), dtype=torch.int64)
        read = padded.to(slots.device, non_blocking=True)  # [R, count]
        written = read.gather(1, places)
        unlost = written.where(written != NOTHING, UNREAD)
        self._placed = PlacedBlocks(read, unlost, slots % self._slots, self._slots)
        return count * self._slots

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Write [R, H, n, D] into the placed slots; return copies [R, H, slots, D] of all that the layer holds."""
        assert self._placed is not None, "a pass is placed before it writes"
        return self._store.update(self._placed, keys, values, layer)

    def move_slots(self, first: Tensor, order: Tensor) -> None:
        """Let slot first [B] + i of each row have what its slot first + order [B, n] at i has, never an earlier one.

        These are slots of the pass that was placed last, over all rows: a row has their blocks for its own.
        """
        assert self._placed is not None and len(self._placed.read) == len(self.lengths), "all rows were scored"
        self._store.move(self._placed, first, order)

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
        return self._tables.pool.held

    def _read(self, places: Tensor, rows: Tensor | None) -> tuple[list[int], list[list[int]]]:
        """Return the rows of a pass, and the places that each writes, after one wait for the device; crop, if due."""
        wanted = [places.flatten(), *([] if rows is None else [rows]), *([] if self._cropped else [self.lengths])]
        values: list[int] = torch.cat(wanted).tolist()
        count, width = places.shape
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
        self._tables.crop(lengths)
        self._cropped = True


def make(options: PagedOptions, parts: Parts) -> PagedCache:
    """Return the cache."""
    return PagedCache(options.block, options.blocks, options.prefixes)
