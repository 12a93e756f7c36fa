"""An index of prefixes: the blocks of texts that rows have written, found by the tokens of a text.

It is a tree whose every node is one block; its number of blocks is bounded, and those that were used longest ago go.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from orthrus_caches.block_pool import NOTHING, BlockPool

Tokens = tuple[int, ...]


@dataclass(eq=False)
class _Node:
    """A block that is held; children: those that follow it, by their tokens."""

    tokens: Tokens = ()
    block: int = NOTHING
    parent: _Node | None = None
    children: dict[Tokens, _Node] = field(default_factory=dict)


class PrefixIndex:
    """Hold at most so many blocks of a pool for texts that begin alike; slots: of a block."""

    def __init__(self, pool: BlockPool, slots: int, most: int) -> None:
        self._pool = pool
        self._slots = slots
        self._most = most
        self._root = _Node()
        self._used: OrderedDict[_Node, None] = OrderedDict()  # the one used longest ago first

    def __len__(self) -> int:
        return len(self._used)

    def find(self, tokens: Sequence[int]) -> list[int]:
        """Return the blocks that hold leading tokens of a text, as many as are held; that is no use of them."""
        return [node.block for node in self._path(tokens)]

    def use(self, tokens: Sequence[int]) -> None:
        """Note that the blocks of a text are used: the first one last, so that it goes after those that follow it."""
        for node in reversed(list(self._path(tokens))):
            self._used.move_to_end(node)

    def add(self, tokens: Sequence[int], blocks: Sequence[int]) -> None:
        """Hold the blocks of a text whose tokens fill them, unless they are held; NOTHING ends them."""
        node, known = self._root, 0
        for part, block in zip(self._parts(tokens), blocks, strict=False):
            if part not in node.children:
                if block == NOTHING or known == self._most:
                    break
                self._pool.share(block)
                node.children[part] = _Node(part, block, node)
                self._used[node.children[part]] = None
            node, known = node.children[part], known + 1
        self.use(tokens)
        while len(self) > self._most:
            self.drop_oldest()

    def drop_oldest(self) -> bool:
        """Give back the block that was used longest ago, which none follows; return whether there was one."""
        if not self._used:
            return False
        node, _ = self._used.popitem(last=False)
        assert node.parent is not None and not node.children, "a block is used after those that follow it"
        del node.parent.children[node.tokens]
        self._pool.give_back(node.block)
        return True

    def clear(self) -> None:
        """Give all blocks back."""
        while self.drop_oldest():
            pass

    def _path(self, tokens: Sequence[int]) -> Iterator[_Node]:
        node = self._root
        for part in self._parts(tokens):
            following = node.children.get(part)
            if following is None:
                return
            node = following
            yield node

    def _parts(self, tokens: Sequence[int]) -> Iterator[Tokens]:
        """Yield the tokens of each whole block of a text."""
        for end in range(self._slots, len(tokens) + 1, self._slots):
            yield tuple(tokens[end - self._slots : end])
