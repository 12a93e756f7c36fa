"""The sentence where memory does not hold a draft of some size, with the size that it holds; what was short before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orthrus.errors import InputError

if TYPE_CHECKING:
    from orthrus.batch.context import Context

FEWEST_SLOTS = 64  # up to so many, texts are equally long to memory; then up to twice as many ...
HOST_IS_SHORT = "can't allocate memory"  # in the RuntimeError of torch's allocator on a CPU


def is_short(error: BaseException) -> bool:
    """Tell whether an error, or what it came of, says that memory is short."""
    import torch  # not needed by who only reads a config

    cause: BaseException | None = error
    while isinstance(cause, InputError):  # one may say in other words what another said
        cause = cause.__cause__
    return isinstance(cause, torch.OutOfMemoryError) or (
        isinstance(cause, RuntimeError) and HOST_IS_SHORT in str(cause)
    )


@dataclass(frozen=True)
class PassSize:
    """What a pass takes memory by: tokens of all rows, slots of the longest as a power of two, noise where it draws."""

    tokens: int
    slots: int
    draws: bool

    @classmethod
    def of(cls, context: Context, tokens: int) -> PassSize:
        """Return the size of a pass over so many tokens of all rows together, now."""
        slots = max(FEWEST_SLOTS, 1 << (context.longest - 1).bit_length())
        return cls(tokens, slots, context.settings.draws)

    def is_as_large_as(self, other: PassSize) -> bool:
        """Tell whether memory that does not hold the other pass does not hold this one."""
        return self.tokens >= other.tokens and self.slots >= other.slots and self.draws >= other.draws


class ShortMemory:
    """The sizes for which memory was short. These and larger ones are not tried again; smaller ones may be.

    So a pass that failed is not tried in each cycle, and what was too large counts no more once it has gone. As slots
    are powers of two, few passes fail.
    """

    def __init__(self) -> None:
        self._smallest: list[PassSize] = []  # none of which is as large as another one

    def allows(self, size: PassSize) -> bool:
        """Tell whether a pass may be tried."""
        return not any(size.is_as_large_as(short) for short in self._smallest)

    def note(self, size: PassSize) -> None:
        """Take note of a pass for which memory was short."""
        self._smallest = [size, *(short for short in self._smallest if not short.is_as_large_as(size))]


def largest_that_runs(sizes: Iterable[int], run: Callable[[int], object]) -> int:
    """Return the first of falling sizes for which memory is enough to run something; 0: for none."""
    return next((size for size in sizes if _runs(size, run)), 0)


def _runs(size: int, run: Callable[[int], object]) -> bool:
    try:
        run(size)
    except (RuntimeError, InputError) as error:
        if not is_short(error):
            raise
        return False
    return True


def smaller(size: int) -> tuple[int, ...]:
    """Return the sizes that are tried instead of one, falling: with the anchor, powers of two."""
    return tuple(2**power - 1 for power in range(size.bit_length(), 0, -1) if 2**power - 1 < size)


def chain_setting(fitting: int) -> str:
    """Return what to set so that chains of so many tokens are drafted: drafters call it the one or the other."""
    return f"drafter.block={fitting + 1} or drafter.length={fitting}, whichever the drafter has"


def tree_setting(fitting: int) -> str:
    """Return what to set so that so many tokens are drafted, where trees are: `tree` takes two tokens at least."""
    blocks = f"drafter.tree={fitting}" if fitting > 1 else f"drafter.tree=null and drafter.block={fitting + 1}"
    return f"{blocks} (if the drafter has branches: drafter.branches=1 and drafter.length={fitting})"


def too_large(size: int, rows: int, fitting: int | None, setting: str) -> InputError:
    """Return the error of drafts of a size, of so many rows at a time, and of those that memory holds.

    fitting: tokens of a draft that it holds; 0: it holds none; None: no others were tried. setting: what to set for so
    many.
    """
    who = f"{rows} rows" if rows > 1 else "1 row"
    fewer = ["a smaller batch"] if rows > 1 else []
    if fitting is None:
        others = " or ".join([*fewer, "a smaller draft"])
        return InputError(f"the memory of one process does not hold drafts of {size} tokens for {who}; set {others}")
    if not fitting:
        others = " or ".join([*fewer, "a smaller stop.max_new_tokens"])
        return InputError(f"the memory does not hold drafts of {size} tokens for {who}, nor any smaller; set {others}")
    return InputError(
        f"the memory does not hold drafts of {size} tokens for {who}; it holds drafts of {fitting}: set"
        f" {', or '.join([setting, *fewer])}"
    )
