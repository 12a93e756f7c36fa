"""The cache `paged` against plain lists: rows that begin, share prefixes, draft, move and end, in any order.

The key of a token is made of all tokens up to it, so that a block which is shared by texts that differ is found.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.thorough import nightly_but
from torch import Tensor

from orthrus import InputError
from orthrus.testing.profiles import fewer
from orthrus_caches.block_pool import BlockPool
from orthrus_caches.paged import PagedCache

BLOCK, ROWS, LONGEST, WIDEST = 2, 3, 9, 3
TOKENS = st.lists(st.integers(0, 1), min_size=1, max_size=5)
QUICK = settings(
    max_examples=3000, phases=[Phase.generate], report_multiple_bugs=False, deadline=None, derandomize=True
)
PATHS = st.lists(st.sets(st.integers(0, WIDEST - 1)), min_size=ROWS, max_size=ROWS)
PICKS = st.lists(st.integers(0, WIDEST), min_size=2 * ROWS, max_size=2 * ROWS)


def key_of(text: Sequence[int]) -> float:
    """Return a number that no other text has: its tokens behind a 1, as binary places."""
    return float(int("1" + "".join(map(str, text)), 2))


class PagedMachine(RuleBasedStateMachine):
    """Do what a target does; texts [row] holds the committed tokens of each row, None where it has ended."""

    makes: type[PagedCache] = PagedCache
    prefixes: int = 0
    blocks: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.cache = self.makes(BLOCK, self.blocks, self.prefixes)
        self.texts: list[list[int] | None] = []
        self.limits: list[int] = []

    @initialize(rows=st.integers(1, ROWS))
    def start(self, rows: int) -> None:
        self.cache.start(rows, torch.device("cpu"))
        self.cache.end_rows(range(rows))
        self.texts, self.limits = [None] * rows, [0] * rows

    @rule(rows=st.integers(1, ROWS))
    def start_again(self, rows: int) -> None:
        self.start(rows)

    @rule(row=st.integers(0, ROWS - 1), prompt=TOKENS, more=st.integers(1, 4), chunk=st.integers(1, 5))
    def prefill(self, row: int, prompt: list[int], more: int, chunk: int) -> None:
        limit = min(LONGEST, len(prompt) + more)
        others = [self.limits[other] for other, text in enumerate(self.texts) if text is not None and other != row]
        if row >= len(self.texts) or self.cache.refusal([*others, limit]) is not None:
            return
        self.cache.begin_rows([row], [limit])
        self.texts[row], self.limits[row] = [], limit
        promised = self.cache.held_prefix(prompt[:-1])
        held = self.cache.adopt_prefix(row, prompt[:-1])
        assert held == promised < len(prompt), f"{held} tokens adopted, {promised} promised"
        assert self.prefixes or not held
        self.texts[row] = prompt[:held]
        while len(self.texts[row] or ()) < len(prompt):
            done = len(self.texts[row] or ())
            self._pass([row], [prompt[done : done + chunk]])
            self.texts[row] = prompt[: done + chunk]
        self._keep()
        self.cache.offer_prefix(row, prompt)

    @precondition(lambda self: any(self.texts))
    @rule(drafts=st.lists(TOKENS, min_size=ROWS, max_size=ROWS), width=st.integers(1, WIDEST), accepted=PICKS)
    def cycle(self, drafts: list[list[int]], width: int, accepted: list[int]) -> None:
        rows = range(len(self.texts))
        padded = [[*drafts[row], *[0] * WIDEST][:width] for row in rows]
        self._pass(list(rows), padded)
        for row, text in enumerate(self.texts):
            if text is not None:
                text.extend(padded[row][: min(accepted[row], self.limits[row] - len(text))])
        self._keep()

    @precondition(lambda self: any(self.texts))
    @rule(drafts=st.lists(TOKENS, min_size=ROWS, max_size=ROWS), width=st.integers(1, WIDEST), paths=PATHS)
    def tree(self, drafts: list[list[int]], width: int, paths: list[set[int]]) -> None:
        """Score trees, of each row no more tokens than it has room, and keep a path: every token follows it so far."""
        texts, orders, kept = [], [], []
        for row, draft in enumerate(drafts[: len(self.texts)]):
            text = self.texts[row]
            room = 0 if text is None else self.limits[row] - len(text)
            kept.append([token for token in sorted(paths[row]) if token < min(width, room)])
            padded = [*draft, *[0] * WIDEST][:width]
            befores = [[padded[other] for other in kept[-1] if other < token] for token in range(width)]
            texts.append([[*(text or ()), *before, padded[token]] for token, before in enumerate(befores)])
            orders.append([*kept[-1], *range(len(kept[-1]), width)])
        self._write(list(range(len(texts))), [[key_of(text) for text in row] for row in texts])
        first = torch.tensor([len(text or ()) for text in self.texts])
        self.cache.move_slots(first, torch.tensor(orders))
        for row, path in enumerate(kept):
            if path:
                self.texts[row] = texts[row][path[-1]]
        self._keep()

    @precondition(lambda self: any(self.texts))
    @rule(fewer=PICKS)
    def crop(self, fewer: list[int]) -> None:
        self.texts = [text and text[: max(1, len(text) - fewer[row])] for row, text in enumerate(self.texts)]
        self._keep()

    @rule(rows=st.sets(st.integers(0, ROWS - 1), min_size=1))
    def end(self, rows: set[int]) -> None:
        ending = [row for row in rows if row < len(self.texts)]
        for row in ending:
            self.cache.offer_prefix(row, self.texts[row] or ())
            self.texts[row] = None
        self.cache.end_rows(ending)

    @rule(count=st.integers(1, ROWS), order=st.permutations(range(ROWS)))
    def move(self, count: int, order: list[int]) -> None:
        going = [row for row in range(len(self.texts)) if self.texts[row] is not None]
        if len(going) > count:
            return
        sources = [row if row in going else -1 for row in range(count)]
        beyond = [row for row in going if row >= count]
        free = [row for row in order if row < count and sources[row] < 0]
        for target, source in zip(free, beyond, strict=False):
            sources[target] = source
        self.cache.move_rows(sources)
        self.texts = [self.texts[source] if source >= 0 else None for source in sources]
        self.limits = [self.limits[source] if source >= 0 else 0 for source in sources]
        self.cache.end_rows([row for row, source in enumerate(sources) if source < 0])

    @invariant()
    def holds_the_blocks_of_its_texts_and_no_others(self) -> None:
        if not self.texts:
            return
        needed = sum(-(-len(text) // BLOCK) for text in self.texts if text)
        held = self.cache.blocks_in_use
        if not self.prefixes:
            assert held == needed, f"{held} blocks for texts of {needed}"
        assert held <= needed + self.prefixes
        assert self.blocks is None or held <= self.blocks

    def _keep(self) -> None:
        self.cache.keep(torch.tensor([len(text or ()) for text in self.texts]))

    def _pass(self, rows: list[int], tokens: list[list[int]]) -> None:
        """Write tokens behind the texts of rows, and hold all that comes back against the texts."""
        texts = [[*(self.texts[row] or ()), *new] for row, new in zip(rows, tokens, strict=True)]
        width = len(tokens[0])
        numbers = [[key_of(text[: end + 1]) for end in range(len(text) - width, len(text))] for text in texts]
        for layer, (keys, values) in enumerate(self._write(rows, numbers)):
            for index, row in enumerate(rows):
                if self.texts[row] is not None:
                    seen = texts[index][: self.limits[row]]
                    expected = torch.tensor([key_of(seen[: end + 1]) for end in range(len(seen))], dtype=torch.float64)
                    assert torch.equal(keys[index, 1, : len(seen), 2], expected + layer), f"keys of row {row}"
                    assert torch.equal(values[index, 0, : len(seen), 0], -expected), f"values of row {row}"

    def _write(self, rows: list[int], numbers: list[list[float]]) -> list[tuple[Tensor, Tensor]]:
        """Write keys and values made of numbers behind the texts of rows; return what comes back of each layer."""
        starts = [len(self.texts[row] or ()) for row in rows]
        slots = torch.tensor([range(start, start + len(numbers[0])) for start in starts])
        self.cache.place(slots, int(slots.max()) + 1, torch.tensor(rows) if len(rows) < len(self.texts) else None)
        states = torch.tensor(numbers, dtype=torch.float64)[:, None, :, None].expand(-1, 2, -1, 3)
        return [self.cache.update(states + layer, -states, layer) for layer in range(2)]


class Sharing(PagedMachine):
    prefixes = 4


class Bounded(PagedMachine):
    blocks = 6


class Tight(PagedMachine):
    blocks = 3


class BoundedSharing(PagedMachine):
    prefixes, blocks = 6, 6


class WritesWhatOthersHold(PagedCache):
    """Leave the copies out."""

    def place(self, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(BlockPool, "is_shared", lambda pool, block: False)
            return super().place(slots, extent, rows)


class KeepsWhatWasRejected(PagedCache):
    """Give no block back but those of rows that end."""

    def keep(self, lengths: Tensor) -> None:
        self.lengths = lengths


class SharesByTheLastBlock(PagedCache):
    """Take texts for alike that end alike."""

    def adopt_prefix(self, row: int, tokens: Sequence[int]) -> int:
        for length in range(len(tokens), 0, -1):
            if held := super().adopt_prefix(row, tokens[-length:]):
                return held
        return 0


class MovesInSharedBlocks(PagedCache):
    """Move a path's keys in the blocks that prefixes had before the pass."""

    def place(self, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        self._before = self._placed
        return super().place(slots, extent, rows)

    def move_slots(self, first: Tensor, order: Tensor) -> None:
        placed = self._placed
        if self._before is not None and len(self._before.read) == len(self.lengths):
            self._placed = self._before
        super().move_slots(first, order)
        self._placed = placed


class MovesWithinItsFirstBlocks(PagedCache):
    """Take the slot of a token for that in its row's first blocks."""

    def move_slots(self, first: Tensor, order: Tensor) -> None:
        super().move_slots(first.clamp(max=BLOCK), order)


class Leaks(PagedCache):
    """Forget which blocks a row had when it ends."""

    def end_rows(self, rows: Sequence[int]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(BlockPool, "give_back", lambda pool, block: None)
            super().end_rows(rows)


class Unbounded(PagedCache):
    """Let any rows go on together."""

    def refusal(self, slots: Sequence[int]) -> str | None:
        return None


BUGS: list[tuple[type[PagedCache], type[PagedMachine], str]] = [
    (WritesWhatOthersHold, Sharing, "(keys|values) of row"),  # it and the next one take long to find
    (SharesByTheLastBlock, Sharing, "(keys|values) of row|promised"),
    (KeepsWhatWasRejected, PagedMachine, "blocks for texts of"),
    (Leaks, PagedMachine, "blocks for texts of"),
    (MovesWithinItsFirstBlocks, PagedMachine, "(keys|values) of row"),
    (MovesInSharedBlocks, Sharing, "(keys|values) of row"),
    (Unbounded, Tight, "all 3 blocks of 2 slots are in use"),
]


SLOW = WritesWhatOthersHold, SharesByTheLastBlock, MovesWithinItsFirstBlocks, MovesInSharedBlocks


@pytest.mark.parametrize(
    ("cache", "machine", "said"),
    nightly_but(
        [bug for bug in BUGS if bug[0] not in SLOW], BUGS, thorough=[bug for bug in BUGS if bug[0] in SLOW[:3]]
    ),
    ids=lambda part: getattr(part, "__name__", ""),
)
def test_a_planted_bug_is_found(cache: type[PagedCache], machine: type[PagedMachine], said: str) -> None:
    planted = type("Planted", (machine,), {"makes": cache})
    with pytest.raises((AssertionError, InputError), match=said):
        run_state_machine_as_test(planted, settings=QUICK)


def case(machine: type[PagedMachine]) -> type:
    test = machine.TestCase
    test.settings = fewer(4, stateful_step_count=30)
    return test


TestPaged, TestSharing, TestBounded, TestBoundedSharing = map(case, (PagedMachine, Sharing, Bounded, BoundedSharing))
