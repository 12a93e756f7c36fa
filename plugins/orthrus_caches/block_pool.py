"""The blocks of a pool by number: which are free, and by how many holders each of the others is held."""

from __future__ import annotations

NOTHING = 0  # the block of zeros that stands where a row holds none; nobody writes it
UNREAD = 1  # the block that takes what no row holds; nobody reads it
RESERVED = 2


class BlockPool:
    """Number blocks, and count the holders of each: rows, and an index of prefixes.

    most: blocks that may be held at a time; None: any number.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._holders = [1] * RESERVED  # by block
        self._free: list[int] = []

    @property
    def size(self) -> int:
        """How many numbers there are, the reserved ones included: what buffers must have room for."""
        return len(self._holders)

    @property
    def most_numbers(self) -> int | None:
        """The most numbers that there may be, the reserved ones included; None: any number."""
        return None if self._most is None else self._most + RESERVED

    @property
    def held(self) -> int:
        """How many blocks somebody holds."""
        return self.size - RESERVED - len(self._free)

    def take(self) -> int | None:
        """Return a block that nobody held; None if all that may be held are."""
        if self._free:
            block = self._free.pop()
        elif self._most is not None and self.held >= self._most:
            return None
        else:
            block = self.size
            self._holders.append(0)
        self._holders[block] = 1
        return block

    def share(self, block: int) -> None:
        """Count one more holder of a block."""
        self._holders[block] += 1

    def give_back(self, block: int) -> None:
        """Count one holder less; a block without holders is free."""
        self._holders[block] -= 1
        if not self._holders[block]:
            self._free.append(block)

    def is_shared(self, block: int) -> bool:
        """Return whether a block has several holders, so that none of them may write it."""
        return self._holders[block] > 1
