"""Tiles of the kernels for passes over few tokens, and up to how many tokens they are used."""

from __future__ import annotations

from dataclasses import dataclass

MOST_TOKENS = 32  # above, matrix products are no longer bound by reading weights
# Hidden size up to which a layer's weights stay in the GPU's cache, so that reading them for each tile costs little.
SMALL_WIDTH = 1024
SMALL_TOKENS = 32  # of small models, up to which tiles of 16 tokens are fastest
# A token's bits do not depend on how many others are scored with it, up to so many, by hidden size.
MOST_INVARIANT_TOKENS, MOST_WIDE_TOKENS = 160, 96
MOST_SMALL_TOKENS = 1088  # of small models, up to which these kernels are faster than the library's products
ONE_TILE = 64  # tokens of the largest tile for fewer than those
EVEN = 128  # what sizes of larger models are multiples of, or tiles of more than 32 tokens were not compared
PART_COLUMNS = 16  # whose squares are added up before they are left, whatever the tile
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


def tile(tokens: int, outputs: int, width: int, most_columns: int = 256) -> Tile:
    """Return the layout that was fastest for the shapes of SmolLM2-135M, Qwen3-1.7B and Qwen3-8B on an H100 or H200.

    width: the hidden size. most_columns: of a tile, a multiple of 32. A token's bits are the same by any, as far as
    tiles were compared on an H200: with 576, 1,536, 2,048, 4,096, 6,144 and 12,288 inputs.
    """
    if tokens <= 16 or (width <= SMALL_WIDTH and tokens <= SMALL_TOKENS):
        return Tile(16, 16, 128, 2, 6)
    if width <= SMALL_WIDTH:
        return _fitting(_tiles_of_a_small_model(tokens, outputs, width), outputs, most_columns)
    if tokens <= MOST_TOKENS:
        return Tile(32, 16, 128, 4, 6) if outputs <= 2048 else Tile(32, 32, 128, 4, 5)
    if tokens <= MOST_WIDE_TOKENS:
        layouts = _some_tokens(outputs) if tokens <= ONE_TILE else _more_than_a_tile(outputs)
        return _fitting(layouts, outputs, most_columns)
    return _many_tokens(tokens, outputs, most_columns)


def summed_tile(tokens: int, width: int) -> Tile:
    """Return the layout of products that are summed over GPUs in their own kernel; width: the hidden size.

    None has more than 32 tokens: with 64 of them, on an H200 with Triton 3.6, nothing was added to the residual, and
    why is not known (`tests/gpu/test_direct_sum_cuda.py` has cases of 40 and more).
    """
    layout = tile(tokens, width, width)
    return layout if layout.tokens <= MOST_TOKENS else tile(MOST_TOKENS, width, width)


def _some_tokens(outputs: int) -> list[Tile]:
    """Return layouts for up to 64 tokens, the best first, measured on an H200 by `docs/tools/product_tiles.py`."""
    few = [Tile(64, 32, 64, 4, 8), Tile(64, 16, 128, 4, 5)]
    if outputs <= 2048:
        return few[1:]
    if outputs <= 4096:
        return few
    if outputs <= 8192:
        return [Tile(64, 64, 64, 4, 8), *few]
    wide = Tile(64, 128, 64, 8, 6) if outputs <= 16384 else Tile(64, 128, 64, 4, 4)
    return [wide, Tile(64, 64, 64, 4, 8), *few]


def _tiles_of_a_small_model(tokens: int, outputs: int, width: int) -> list[Tile]:
    """Return layouts for more than SMALL_TOKENS, the best first, measured on an H200 as the others were."""
    few = [Tile(64, 32, 64, 4, 6), Tile(32, 32, 128, 4, 5), Tile(32, 16, 128, 4, 6)]
    if outputs <= 2 * width + width // 2:  # one that leads from or to the attention, or back from the wide layer
        if tokens <= ONE_TILE:
            return few[2:]
        narrow = tokens <= MOST_INVARIANT_TOKENS or (tokens <= 2 * MOST_INVARIANT_TOKENS and outputs <= width)
        return few if narrow else [Tile(64, 64, 64, 4, 6), *few]
    if tokens <= ONE_TILE and outputs <= 16 * width:
        return few
    some = [Tile(64, 64, 64, 4, 4), *few]
    if tokens <= MOST_INVARIANT_TOKENS:
        return some
    return [Tile(64, 128, 64, 4, 4) if tokens <= MOST_SMALL_TOKENS // 2 else Tile(128, 128, 64, 8, 4), *some]


def _more_than_a_tile(outputs: int) -> list[Tile]:
    """Return layouts for 65 to 96 tokens, the best first, where the GPU's library does not make the product.

    Measured on an H200 as the others were, with 80 and 96 tokens.
    """
    few = [Tile(64, 32, 64, 4, 8), Tile(64, 16, 128, 4, 5)]
    if outputs <= 2048:
        return few
    if outputs <= 4096:
        return [Tile(64, 64, 64, 4, 8), *few]
    if outputs <= 8192:
        return [Tile(64, 128, 64, 8, 6), Tile(64, 64, 64, 4, 8), *few]
    return _some_tokens(outputs)


MULTIPROCESSORS = 132  # of an H100 or H200
MANY = {  # layouts for prefills, and what a turn of all multiprocessors takes by each, measured on an H200
    Tile(128, 256, 64, 8, 3): 1.0,
    Tile(64, 256, 64, 4, 4): 0.57,
    Tile(64, 128, 64, 4, 4): 0.42,
    Tile(64, 64, 64, 4, 8): 0.31,
    Tile(64, 32, 64, 4, 8): 0.24,
    Tile(64, 16, 128, 4, 5): 0.23,
}


def _many_tokens(tokens: int, outputs: int, most_columns: int) -> Tile:
    def cost(layout: Tile) -> float:
        programs = -(-tokens // layout.tokens) * (outputs // layout.columns)
        return -(-programs // MULTIPROCESSORS) * MANY[layout]

    return min((layout for layout in MANY if _divides(layout, outputs, most_columns)), key=cost)


def _fitting(layouts: list[Tile], outputs: int, most_columns: int) -> Tile:
    return next(layout for layout in layouts if _divides(layout, outputs, most_columns))


def _divides(layout: Tile, outputs: int, most_columns: int) -> bool:
    return outputs % layout.columns == 0 and most_columns % layout.columns == 0
