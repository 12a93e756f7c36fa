"""Tiles of the kernels for passes over few tokens, and up to how many tokens they are used."""

from __future__ import annotations

from dataclasses import dataclass

MOST_TOKENS = 32  # above, matrix products are no longer bound by reading weights
# Hidden size up to which a layer's weights stay in the GPU's cache, so that reading them for each tile costs little.
# There a token's bits do not depend on how many others are scored with it, up to so many.
SMALL_WIDTH, MOST_INVARIANT_TOKENS = 1024, 160
SMALL_TOKENS = 32  # of small models, up to which tiles of 16 tokens are fastest
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
    """Return the layout that was fastest on an H100 for the shapes of Qwen3-1.7B and Qwen3-8B, an H200 for SmolLM2's.

    width: the hidden size. What small models leave of a norm's sum of squares is of 16 columns for any tokens, so that
    a token's bits are those it has alone; products have the same bits by any tile.
    """
    if tokens <= 16 or (width <= SMALL_WIDTH and tokens <= SMALL_TOKENS):
        return Tile(16, 16, 128, 2, 6)
    if width <= SMALL_WIDTH:
        return Tile(32, 32, 128, 4, 5) if outputs > 2 * width + width // 2 else Tile(32, 16, 128, 4, 6)
    return Tile(32, 16, 128, 4, 6) if outputs <= 2048 else Tile(32, 32, 128, 4, 5)
