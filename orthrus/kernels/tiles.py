"""Tiles of the kernels for passes over few tokens, and up to how many tokens they are used."""

from __future__ import annotations

from dataclasses import dataclass

MOST_TOKENS = 32  # above, matrix products are no longer bound by reading weights
# Hidden size up to which a layer's weights stay in the GPU's cache, so that reading them for each tile costs little.
# There a token's bits do not depend on how many others are scored with it, up to so many.
SMALL_WIDTH, MOST_INVARIANT_TOKENS = 1024, 160
EARLY_WIDTH = 1024  # hidden size; above, programs that wait early take room from those that read weights


@dataclass(frozen=True)
class Tile:
    """The tile of a kernel: tokens, outputs and inputs a program takes at a time, warps, pipeline stages.

    early: whether the kernel is launched early, as `triton_wait` says: 0, 1 or 2. ahead: how many numbers of each row
    of its weight it asks for before it waits, then.
    """

    tokens: int
    columns: int
    inputs: int
    warps: int
    stages: int
    early: int = 0
    ahead: int = 0

    @property
    def bytes(self) -> int:
        """Of shared memory, about: numbers are 16 bits."""
        return 2 * self.stages * self.inputs * (self.tokens + self.columns)


def tile(tokens: int, outputs: int, width: int) -> Tile:
    """Return the layout that was fastest on an H100 for the shapes of SmolLM2-135M, Qwen3-1.7B and Qwen3-8B.

    width: the hidden size. Small models have one layout for any tokens, so that a token's bits are those it has alone.
    """
    if tokens <= 16 or width <= SMALL_WIDTH:
        return Tile(16, 16, 128, 2, 6)
    return Tile(32, 16, 128, 4, 6) if outputs <= 2048 else Tile(32, 32, 128, 4, 5)
